"""A folder of finished pieces of work, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import Any, TextIO

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from tillerman.core.errors import UsageError
from tillerman.core.facts import digest_of
from tillerman.core.files import as_ours, replacing, write_text
from tillerman.core.kept import line_of, read_lines, read_tensors
from tillerman.core.seal import sealed


class Store:
    """Numbers and tensors by key, written as soon as they are known.

    ``key`` names the run: model, data and options. A folder of another run is emptied, so no number
    can come from other inputs. ``Store(None, "")`` keeps everything in memory. Within a run, ``scoped`` names a piece
    by the facts it depends on.
    """

    def __init__(self, folder: Path | None, key: str) -> None:
        self._pieces = _Pieces(folder, key)
        self._scope = ""

    @property
    def resumed(self) -> int:
        """How many pieces were found where an earlier run left them."""
        return self._pieces.resumed

    @property
    def saved(self) -> float:
        """Seconds that the pieces which were found took to make: what a run that shares or resumes work would have
        cost alone."""
        return self._pieces.saved

    def scoped(self, *facts: Any) -> Store:
        """The same store for what depends on ``facts``: on the values, not on what they are called. Keys of other
        facts are other keys; pieces of the same facts are shared, whoever asks."""
        made = copy(self)
        made._scope = digest_of(self._scope, *facts)
        return made

    def holds(self, key: str) -> bool:
        """Whether ``value`` would find one."""
        return self._pieces.holds(self._full(key))

    def value(self, key: str, make: Callable[[], Any]) -> Any:
        """A JSON value: the stored one, or made now and stored."""
        return self._pieces.value(self._full(key), make)

    def tensors(self, key: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Named tensors: the stored ones, or made now and stored."""
        return self._pieces.tensors(self._full(key), make)

    def close(self, *, finished: bool) -> None:
        """End the run; a finished one needs its pieces no longer."""
        self._pieces.close(finished=finished)

    def _full(self, key: str) -> str:
        return f"{key} {self._scope}".strip()


class _Pieces:
    """The folder, shared by a store and its scopes."""

    def __init__(self, folder: Path | None, key: str) -> None:
        self._folder, self._key = folder, key
        self._values: dict[str, Any] = {}
        self._seconds: dict[str, float] = {}
        self._log: TextIO | None = None
        self.resumed = 0
        self.saved = 0.0
        if folder is None:
            return
        if not folder.parent.is_dir():
            raise UsageError(f"{folder.parent}: no such folder; create it first")
        if folder.exists() and not self._is_run(folder, key):
            with as_ours(folder):
                shutil.rmtree(folder)
        for name, (value, took) in read_lines(folder / "values.jsonl").items():
            self._values[name], self._seconds[name] = value, took
        self.resumed = len(self._values)

    def holds(self, key: str) -> bool:
        return key in self._values

    def value(self, key: str, make: Callable[[], Any]) -> Any:
        if key in self._values:
            self.saved += self._seconds[key]
        else:
            started = time.monotonic()
            self._values[key] = make()
            self._seconds[key] = time.monotonic() - started
            if self._folder is not None:
                with as_ours(self._folder):
                    log = self._opened(self._folder)
                    # The leading newline closes a line that a killed run left unfinished.
                    log.write("\n" + line_of(key, self._values[key], self._seconds[key]) + "\n")
                    log.flush()
                    os.fsync(log.fileno())
        return self._values[key]

    def tensors(self, key: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        if self._folder is None:
            return dict(make())
        path = self._folder / f"{key}.safetensors"
        if path.exists():
            try:
                found = read_tensors(path)
            except SafetensorError:
                found = None  # cut off by a full disk: make it again
            if found is not None:
                self.resumed += 1
                self.saved += found[1]
                return found[0]
            path.unlink()
        started = time.monotonic()
        made = dict(make())
        took = {"seconds": str(time.monotonic() - started)}
        self._opened(self._folder)
        with replacing(path) as part:
            save_file({name: t.contiguous() for name, t in made.items()}, part, metadata=sealed(made, took))
        return made

    def close(self, *, finished: bool) -> None:
        if self._folder is None:
            return
        if self._log is not None:
            with suppress(OSError):  # what it still holds was told when it could not be written
                self._log.close()
        if finished and self._folder.exists():
            with as_ours(self._folder):
                shutil.rmtree(self._folder)

    def _opened(self, folder: Path) -> TextIO:
        """The log of values; the folder is made with the first finished piece, not before."""
        if self._log is None:
            with as_ours(folder):
                folder.mkdir(exist_ok=True)
            write_text(folder / "key", self._key)
            self._log = (folder / "values.jsonl").open("a", encoding="utf-8")
        return self._log

    @staticmethod
    def _is_run(folder: Path, key: str) -> bool:
        named = folder / "key"
        if not named.is_file():
            raise UsageError(f"{folder}: exists and is not the folder of an interrupted run; move it away")
        return named.read_text(encoding="utf-8", errors="replace") == key
