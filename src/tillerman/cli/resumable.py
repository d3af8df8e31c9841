"""Work that goes on where it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from tillerman.cli.stopping import Stopped
from tillerman.core.files import is_stream

if TYPE_CHECKING:
    from tillerman.core.store import Store


@contextmanager
def resumable(folder: Path | None, key: str, console: Console, *, keep: bool = False) -> Iterator[Store]:
    """A store in ``folder`` (None: in memory) for the run that ``key`` names. What an interrupted run of the same key
    has finished is found there, and said; the folder is removed when the block ends without an error, unless it is to
    be kept."""
    from tillerman.core.store import Store  # loads torch, which the help must not

    store = Store(folder, key)
    if store.resumed:
        whose = "" if keep else " of an interrupted run"
        console.print(f"resuming from {store.resumed} finished pieces{whose}")
    finished = False
    try:
        yield store
        finished = not keep
    except Stopped as stopped:
        stopped.keeps = folder is not None
        if folder is not None and folder.exists():
            stopped.kept.append(folder)
        raise
    finally:
        store.close(finished=finished)


def beside(out: Path | None) -> Path | None:
    """Where unfinished work on a file lies: ``OUT.partial``; None, in memory, beside a device or a pipe."""
    return None if out is None or is_stream(out) else out.with_name(out.name + ".partial")
