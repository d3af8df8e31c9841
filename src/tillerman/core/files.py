"""Files that are either whole or not there, and errors of the system as one of ours, with the remedy."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from tillerman.core.errors import FileError, TillermanError, UsageError

# What the system says -> what is wrong, and what helps.
_WRONG = {
    errno.ENOSPC: "the disk is full; make room, then run the same command again",
    errno.EDQUOT: "your quota on this disk is used up; make room, then run the same command again",
    errno.EFBIG: "the system allows no file of this size (ulimit -f); raise the limit, then run the same command again",
    errno.EACCES: "permission is denied; name a file in a folder of yours, or change the permissions",
    errno.EPERM: "permission is denied; name a file in a folder of yours, or change the permissions",
    errno.EROFS: "the file system is read-only; name a file elsewhere",
    errno.ENAMETOOLONG: "the name is too long for the file system; give a shorter one",
    errno.ELOOP: "its symbolic links lead in a circle; name the file itself",
    errno.ENOTDIR: "a part of its path is a file, not a folder; check the path",
    errno.EISDIR: "it is a folder; name a file",
    errno.ENOENT: "no such file or folder; check the path",
    errno.ENXIO: "it is a socket or a device that is not there; name a file",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n)",
    errno.EIO: "the disk reports a fault (input/output error); name a file on another one",
}


@contextmanager
def as_ours(path: str | Path) -> Iterator[None]:
    """Errors of the system within the block as a ``FileError`` that names ``path`` and the remedy."""
    try:
        yield
    except OSError as error:
        raise FileError(f"{path}: {system_words(error)}") from error
    except SafetensorError as error:
        code = re.search(r"(?:os error |code: )(\d+)", str(error))  # its library has no other way to tell
        if code is None:
            raise
        raise FileError(f"{path}: {system_words(OSError(int(code[1]), str(error)))}") from error


def system_words(error: OSError) -> str:
    """What is wrong and what helps; the system's own words where we have none."""
    return _WRONG.get(error.errno or 0, f"{error.strerror or error}; name another file or folder")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that takes the place of ``path`` when the block ends without an error.

    Only a regular file is replaced, through symbolic links, and keeps its permissions; to a device or a pipe the
    content is written. ``UsageError`` where the folder does not exist, ``FileError`` for what the system refuses."""
    with as_ours(path):
        check_writable(path)
        if is_stream(path):
            with tempfile.TemporaryDirectory() as folder:
                part = Path(folder) / "part"
                yield part
                with part.open("rb") as content, path.open("ab") as stream:
                    shutil.copyfileobj(content, stream)
            return
        target = Path(os.path.realpath(path))
        part = target.with_name(f".{secrets.token_hex(6)}.part")  # short: a name may be as long as is allowed
        part.touch(exist_ok=False)
        mode = stat.S_IMODE((target if target.exists() else part).stat().st_mode)
        try:
            yield part
            part.chmod(mode)  # safetensors leaves a file that only its owner may read
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def is_stream(path: Path) -> bool:
    """Whether it is a device, a pipe or a socket: written to, never replaced, and with nothing beside it."""
    if str(path).startswith(("/dev/", "/proc/")):
        return path.exists()
    return path.exists() and not path.is_file() and not path.is_dir()


def check_writable(path: Path) -> None:
    """Complain about a file that could not be written, before any work is done."""
    with as_ours(path):
        if not path.parent.is_dir():
            raise UsageError(f"{path}: the folder {path.parent} does not exist; create it first")
        try:
            found = path.stat()
        except FileNotFoundError:
            found = None
        if found is not None and stat.S_ISDIR(found.st_mode):
            raise UsageError(f"{path}: is a folder; name a file")
        if found is not None and not os.access(path, os.W_OK):
            raise FileError(f"{path}: the file is read-only; name another one, or change its permissions")
        folder = Path(os.path.realpath(path)).parent
        if not is_stream(path) and not os.access(folder, os.W_OK | os.X_OK):
            raise FileError(f"{path}: the folder {folder} is read-only; name a file in a folder of yours")


def write_text(path: Path, text: str) -> None:
    """In UTF-8; halves of surrogate pairs, which it does not have, are spelt out."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")


def make_folder(path: Path) -> None:
    """The folder, with those above it, unless it is there."""
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path}: is a file; name a folder")
    with as_ours(path):
        path.mkdir(parents=True, exist_ok=True)


def in_turn(*steps: Callable[[], None]) -> None:
    """Every step, also where one before it failed; then the first error. What was computed is kept in one way where it
    cannot be kept in another."""
    failed: list[TillermanError | OSError] = []
    for step in steps:
        try:
            step()
        except (TillermanError, OSError) as error:
            failed.append(error)
    if failed:
        raise failed[0]


def sha256_of(path: Path) -> str:
    """Of a file's content, in hexadecimal digits."""
    with as_ours(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
