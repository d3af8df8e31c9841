"""The audit log: JSON lines, each with the hash of the line before, so that a line changed or taken out shows.

A request that is answered has two lines, ``admitted`` before its first token and ``ended`` after its last; so a server
that is killed in between leaves a trace. What cannot be written is refused.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import stat
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from tillerman.core.errors import FileError, LogError, UsageError
from tillerman.core.files import as_ours, system_words
from tillerman.serving.refusals import Refusal

FIRST = "0" * 64  # stands for the line before the first
_TAIL = 1 << 20  # bytes at a file's end in which its last line is looked for


class Audit:
    """Appends to one file, which no other process may write; ``sync`` puts on disk what was written."""

    def __init__(self, path: Path) -> None:
        if not path.parent.is_dir():
            raise UsageError(f"{path}: the folder {path.parent} does not exist; create it first")
        self.path = path
        self._lock = threading.Lock()
        with as_ours(path):
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise FileError(f"{path}: another server writes this audit; give each one a file of its own") from None
        self._hash, self._torn = _last_of(path)
        self._failed: OSError | None = None

    def write(self, event: str, facts: Mapping[str, Any]) -> None:
        """``Refusal`` (audit_failed) where the system refuses; what was written of the line is marked as torn."""
        told = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **facts}
        with self._lock:
            line = json.dumps({**told, "chain": self._hash}, ensure_ascii=True).encode()
            whole = (b"\n" if self._torn else b"") + line + b"\n"
            try:
                if self._failed is not None:
                    raise self._failed
                if os.write(self._file, whole) < len(whole):
                    self._torn = True
                    raise OSError(errno.ENOSPC, "a part of the line was written")
            except OSError as error:
                raise Refusal("audit_failed", f"the audit cannot be written: {system_words(error)}") from None
            self._torn = False
            self._hash = hashlib.sha256(line).hexdigest()

    def sync(self) -> None:
        """To disk. What the system refuses here, later lines are refused for."""
        try:
            os.fsync(self._file)
            self._failed = None
        except OSError as error:
            if error.errno != errno.EINVAL:  # a pipe or a device has nothing to put on disk
                self._failed = error

    def close(self) -> None:
        with self._lock:
            self.sync()
            os.close(self._file)


def prompt_facts(prompt: str, kept: Literal["none", "hash", "text"]) -> dict[str, str]:
    """What the audit keeps of a prompt."""
    if kept == "none":
        return {}
    data = prompt.encode("utf-8", "surrogatepass")
    return {"prompt_sha256": hashlib.sha256(data).hexdigest()} | ({"prompt": prompt} if kept == "text" else {})


def check_chain(path: Path) -> int:
    """The number of whole lines. ``LogError`` names the first line that does not follow from the one before. A line
    that was cut off (a full disk, a killed server) is passed over, if the chain goes on behind it."""
    before, count = FIRST, 0
    with as_ours(path):
        lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        chain = _chain_of(line)
        if chain is None:
            continue
        if chain != before:
            raise LogError(f"{path}:{number}: does not follow from the line before it: one was changed or taken out")
        before, count = hashlib.sha256(line).hexdigest(), count + 1
    return count


def last_lines(path: Path, most: int) -> list[dict[str, Any]]:
    """The newest whole lines, the newest last."""
    with as_ours(path), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - most * 4096))
        lines = file.read().split(b"\n")
    return [json.loads(line) for line in lines if _chain_of(line) is not None][-most:]


def _last_of(path: Path) -> tuple[str, bool]:
    """The hash of the last whole line, and whether something that is none stands after it."""
    with as_ours(path), path.open("rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            return FIRST, False
        file.seek(max(0, found.st_size - _TAIL))
        lines = file.read().split(b"\n")
    whole = [line for line in lines if _chain_of(line) is not None]
    return hashlib.sha256(whole[-1]).hexdigest() if whole else FIRST, bool(lines[-1])


def _chain_of(line: bytes) -> str | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    chain = found.get("chain") if isinstance(found, dict) else None
    return chain if isinstance(chain, str) else None
