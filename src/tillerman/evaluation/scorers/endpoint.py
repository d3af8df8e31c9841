"""Where a judge or a writer is and how it is asked, and what of that may be shown: no key, no password."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from tillerman.core.errors import UsageError

_USER = re.compile(r"^([a-z]+://)?[^/]*@", re.IGNORECASE)  # name:password@, with or without the scheme


@dataclass(frozen=True)
class Endpoint:
    """Where the model is, and how it is asked. ``url`` ends before ``/chat/completions``."""

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    temperature: float = 0.0
    max_tokens: int = 16
    timeout: float = 60.0
    attempts: int = 6
    at_once: int = 4
    first_wait: float = 1.0
    longest: int = 1_000_000  # bytes of an answer
    role: str = "judge"  # what errors call it

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise UsageError(
                f"{self.role} {self.shown!r}: expected the address of an OpenAI-compatible endpoint, e.g. "
                "http://localhost:8000/v1"
            )
        for name in ("attempts", "at_once", "max_tokens", "longest"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)}: expected at least 1")
        if not self.timeout > 0 or self.first_wait < 0:
            raise UsageError(f"timeout {self.timeout}, first_wait {self.first_wait}: expected above 0, and 0 or more")
        key = self.key
        if key is not None and not (key.isascii() and key.isprintable()):
            raise UsageError(f"the key in {self.key_variable} has characters that no header may have; set it again")

    @property
    def key(self) -> str | None:
        """The API key, from the environment."""
        return os.environ.get(self.key_variable) or None

    @property
    def shown(self) -> str:
        """The address without name, password and query, any of which may be a secret."""
        bare = re.split(r"[?#]", self.url, maxsplit=1)[0]
        more = "?..." if len(bare) < len(self.url) else ""
        return _USER.sub(r"\1...@", bare)[:200] + more

    def without_secrets(self, text: str) -> str:
        """Some servers repeat the key that they refuse, or the address."""
        user = _USER.match(self.url)
        found = user[0].split("://")[-1].rstrip("@").split(":") if user else []
        query = re.split(r"[?&=#]", self.url)[1:]
        for secret in sorted(filter(None, (self.key, *found, *query)), key=len, reverse=True):
            text = text.replace(secret, "...")
        return text
