"""The data files of a recipe: which are there, which are missing and where they belong, what stands in for which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

from tillerman.core.errors import DataError, UsageError
from tillerman.data.loading import SAMPLE_PREFIX, LoadedData, load_examples
from tillerman.data.samples import sample_path
from tillerman.logs.reproduction import Skipped
from tillerman.recipes.recipe import Task


@dataclass(frozen=True)
class Source:
    """A task whose files are there. ``test`` is None where a share of ``file`` is tested."""

    task: Task
    file: str
    test: str | None = None

    def load(self, limit: int) -> LoadedData:
        return self._loaded(self.file, limit)

    def load_test(self, limit: int) -> LoadedData | None:
        return None if self.test is None else self._loaded(self.test, limit)

    def digest(self) -> str:
        """Of the files' bytes: other files are other work."""
        return "-".join(_digest(file) for file in (self.file, self.test) if file is not None)

    def _loaded(self, file: str, limit: int) -> LoadedData:
        task = self.task
        data = load_examples(
            file, limit=limit, layout=task.layout or None, positive_label=task.positive or None, skip_bad_rows=True
        )
        return replace(data, name=task.name)


def find_sources(
    tasks: Iterable[Task], folder: Path | None, *, skip_missing: bool
) -> tuple[dict[str, Source], tuple[Skipped, ...], tuple[str, ...]]:
    """Every task's source, the tasks that are left out, and what stands in for what.

    Looked for before any work. ``DataError`` lists all missing files and where they are expected;
    ``UsageError`` without a folder where one is wanted.
    """
    found: dict[str, Source] = {}
    missing: dict[str, list[str]] = {}
    notes = []
    for task in tasks:
        wanted = [file for file in task.files if not file.startswith(SAMPLE_PREFIX)]
        if wanted and folder is None:
            raise UsageError(f"the data of {task.name} come from a file, {wanted[0]}; give its folder: `data` DIR")
        absent = [file for file in wanted if not _place(folder, file).exists()]
        if absent == [task.file] and task.instead and _place(folder, task.instead).exists():
            task, absent = replace(task, file=task.instead), []
            notes.append(f"{task.name}: {task.instead} instead of {wanted[0]}: {task.instead_note}")
        if absent:
            missing[task.name] = absent
        else:
            test = _named(folder, task.test) if task.test else None
            found[task.name] = Source(task, _named(folder, task.file), test)
    if missing and not skip_missing:
        raise DataError(_message(missing, folder))
    left_out = tuple(
        Skipped(name, f"no file {' or '.join(files)} in the data folder") for name, files in missing.items()
    )
    return found, left_out, tuple(notes)


def _message(missing: Mapping[str, list[str]], folder: Path | None) -> str:
    lines = [f"  {file}  (task {name})" for name, files in missing.items() for file in files]
    return "\n".join(
        [
            f"{len(lines)} of the recipe's data files are missing in {folder}:",
            *lines,
            "Put them there as published, run without their tasks (`skip_missing`), or name others (`only`).",
        ]
    )


def _place(folder: Path | None, file: str) -> Path:
    return (folder or Path()) / file


def _named(folder: Path | None, file: str) -> str:
    return file if file.startswith(SAMPLE_PREFIX) else str(_place(folder, file))


@lru_cache(maxsize=256)
def _digest(file: str) -> str:
    path = sample_path(file.removeprefix(SAMPLE_PREFIX)) if file.startswith(SAMPLE_PREFIX) else Path(file)
    parts = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    digest = blake2b(digest_size=8)
    for part in parts:
        digest.update(part.read_bytes())
    return digest.hexdigest()
