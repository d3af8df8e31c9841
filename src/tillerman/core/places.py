"""Names of files that lie elsewhere: ``hf://org/name[@revision][/path]`` and ``file:///folder[@sha256:HEX]``.

A ``Path`` made of such a name has lost a slash; it means the same."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tillerman.core.errors import UsageError

_HUB, _FILE = re.compile(r"hf:/{1,2}(?!/)(.*)", re.DOTALL), re.compile(r"file:(?://(?=/))?(/.*)", re.DOTALL)
_REPO = re.compile(r"([\w.-]+/[\w.-]+)(?:@(refs/(?:pr|convert)/[\w.-]+|[^/@]+))?(?:/(.+?))?/?")
_PINNED = re.compile(r"(.*)@sha256:([0-9a-fA-F]{12,64})")
_OTHERS = ("datasets", "spaces", "buckets")
_WRITTEN = "hf://ORG/NAME, hf://ORG/NAME@REVISION, hf://ORG/NAME/FILE or file:///FOLDER"


@dataclass(frozen=True)
class HubPlace:
    """``repo`` is ``org/name``; ``revision`` a branch, tag or commit, None: the main branch; ``path`` a file or folder
    in it, empty: all of it."""

    repo: str
    revision: str | None = None
    path: str = ""

    def __str__(self) -> str:
        at = "" if self.revision is None else f"@{self.revision}"
        return f"hf://{self.repo}{at}" + (f"/{self.path}" if self.path else "")


@dataclass(frozen=True)
class FilePlace:
    """A file or folder that is named as an address; ``sha256`` is how the file's digest begins, empty: any."""

    path: Path
    sha256: str = ""

    def __str__(self) -> str:
        return f"file://{self.path}" + (f"@sha256:{self.sha256}" if self.sha256 else "")


def place_of(name: str | Path) -> HubPlace | FilePlace | None:
    """What an address names; None for an ordinary path. ``UsageError`` for an address that is none."""
    text = str(name)
    hub, file = _HUB.fullmatch(text), _FILE.fullmatch(text)
    if file is not None:
        pinned = _PINNED.fullmatch(file[1])
        return FilePlace(Path(file[1])) if pinned is None else FilePlace(Path(pinned[1]), pinned[2].lower())
    if hub is None:
        if re.match(r"(?:hf|file):/", text):
            raise UsageError(f"{text}: expected {_WRITTEN}")
        return None
    found = _REPO.fullmatch(hub[1])
    if found is None or found[1].partition("/")[0] in _OTHERS or ".." in found[0].split("/"):
        raise UsageError(f"{text}: expected a model repository, {_WRITTEN}")
    return HubPlace(found[1], found[2], found[3] or "")


def shown_place(name: str | Path) -> str:
    """The name as it was typed."""
    place = place_of(name)
    return str(name) if place is None else str(place)
