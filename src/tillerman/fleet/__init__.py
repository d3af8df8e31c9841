"""Much work over many processes: answers to thousands of requests, and fits of many vectors."""
