"""The playground: three files of the package, which ask the same routes as every client."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from starlette.responses import Response

from tillerman.serving.door import Door
from tillerman.serving.refusals import Refusal

FILES: Mapping[str, tuple[str, str]] = {
    "/": ("index.html", "text/html"),
    "/playground.css": ("playground.css", "text/css"),
    "/playground.js": ("playground.js", "text/javascript"),
}
# No code and no styles but those of these files, no other origin, no frame around the page.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def shown(door: Door, path: str) -> Response:
    """``Refusal`` (not_found) where the settings leave the page out."""
    if not door.rules.settings.playground:
        raise Refusal("not_found", "this server has no playground; its routes are listed by /openapi.json")
    name, kind = FILES[path]
    return Response(_read(name), media_type=f"{kind}; charset=utf-8", headers=_HEADERS)


@cache
def _read(name: str) -> bytes:
    return (Path(__file__).parent / "page" / name).read_bytes()
