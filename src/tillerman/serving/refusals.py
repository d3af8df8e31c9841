"""What the door says no to: every code with its status, as OpenAI's clients read errors."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from tillerman.core.errors import LONGEST, TillermanError

_INVALID = "invalid_request_error"
# Code -> status, and the type that OpenAI's clients know.
CODES: Mapping[str, tuple[int, str]] = {
    "malformed": (400, _INVALID),
    "unsupported": (400, _INVALID),
    "unknown_artefact": (400, _INVALID),
    "over_cap": (400, _INVALID),
    "not_servable": (400, _INVALID),
    "no_token": (400, _INVALID),
    "context_length_exceeded": (400, _INVALID),
    "invalid_api_key": (401, "authentication_error"),
    "forbidden": (403, "permission_error"),
    "not_found": (404, _INVALID),
    "model_not_found": (404, _INVALID),
    "method_not_allowed": (405, _INVALID),
    "timeout": (408, _INVALID),
    "reload_failed": (409, _INVALID),
    "too_large": (413, _INVALID),
    "not_json": (415, _INVALID),
    "rate_limit_exceeded": (429, "rate_limit_error"),
    "not_applied": (502, "server_error"),
    "engine_error": (502, "server_error"),
    "busy": (503, "server_error"),
    "engine_down": (503, "server_error"),
    "not_proved": (503, "server_error"),
    "audit_failed": (503, "server_error"),
    "stopping": (503, "server_error"),
}


def new_id() -> str:
    """Of a request."""
    return secrets.token_hex(12)


class Refusal(TillermanError):
    """A request that is not answered. ``param`` names the field at fault; the message holds no prompt and no path.
    ``request_id`` is told to the client and stands in the audit."""

    def __init__(self, code: str, message: str, param: str | None = None, retry_after: float | None = None) -> None:
        self.status, self.kind = CODES[code]
        self.code, self.param, self.retry_after = code, param, retry_after
        self.request_id = new_id()
        whole = message if len(message) <= LONGEST else f"{message[:330]} ... {message[-265:]}"
        super().__init__(whole.encode("utf-8", "backslashreplace").decode())

    def to_json(self) -> dict[str, Any]:
        """The body of the answer, and the event in a stream."""
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}
