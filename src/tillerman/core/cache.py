"""A folder of the user's for what can be made again: what is slow to make is kept there, whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from tillerman.core.errors import FileError
from tillerman.core.files import as_ours, sha256_of


def cache_folder() -> Path:
    """``TILLERMAN_CACHE``, or ``tillerman`` in the user's cache folder (``XDG_CACHE_HOME``, ``~/.cache``)."""
    own, user = os.environ.get("TILLERMAN_CACHE"), os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else (Path(user) if user else Path.home() / ".cache") / "tillerman"


def kept(folder: Path, make: Callable[[Path], None], *, needs: int = 0) -> Path:
    """``folder``; where it is not there, ``make`` fills a new one that takes its place when it is whole.

    ``FileError`` where the disk lacks the ``needs`` bytes, or the system refuses."""
    if folder.is_dir():
        return folder
    with as_ours(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder.parent).free
        if free < needs:
            raise FileError(
                f"{folder.parent}: {megabytes(needs)} are needed and {megabytes(free)} are free; make room, or name a "
                "folder on another disk: TILLERMAN_CACHE=FOLDER"
            )
        making = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
        making.mkdir()
        try:
            make(making)
            if not folder.is_dir():  # another process may have been quicker
                making.rename(folder)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return folder


def digest_of(path: Path) -> str:
    """Of a file's content, in 32 letters."""
    return sha256_of(path)[:32]


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size < 1e10 else f"{size / 1e9:,.0f} GB"
