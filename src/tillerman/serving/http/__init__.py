"""The wire: OpenAI's routes and ours over HTTP. Whoever imports this needs the extra ``serve``."""
