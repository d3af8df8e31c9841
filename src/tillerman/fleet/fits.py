"""Many fits over many processes: each is ``tillerman fit`` with options of its own, run until it ends by itself."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tillerman.core.errors import DataError
from tillerman.core.facts import digest_of
from tillerman.core.files import write_text
from tillerman.core.shown import clipped

_EACH = ("model", "data", "method")  # over which jobs are made, the last one changing first
_OWN = ("out", "json", "report", "samples", "save-model", "config", "write-config", "exit-zero", "quiet")
_DONE = (0, 3)  # exit codes of a fit that ended by itself: with an effect, and without
_ATTEMPTS = 3  # of a process that was killed
_COMMAND = (sys.executable, "-c", "from tillerman.cli.app import main; main()", "fit")
_NAME = re.compile(r"[^A-Za-z0-9.+-]+")


@dataclass(frozen=True)
class FitJob:
    """One fit: ``options`` as on the command line, without their dashes."""

    name: str
    data: str
    options: Mapping[str, Any]

    def arguments(self) -> list[str]:
        """Of ``tillerman fit``, without where it is written."""
        found = []
        for name, value in self.options.items():
            if value is True:
                found.append(f"--{name}")
            elif value is not False:
                found += [f"--{name}", ",".join(map(str, value)) if isinstance(value, list) else str(value)]
        return [self.data, *found]

    @property
    def digest(self) -> str:
        return digest_of(self.data, dict(self.options))


@dataclass(frozen=True)
class FitOutcome:
    """How it ended. ``card`` is what ``tillerman fit --json`` says; None where it failed, as ``why`` says."""

    job: FitJob
    card: Mapping[str, Any] | None
    why: str = ""


class Runner(Protocol):
    """Where commands are run."""

    async def run(self, command: Sequence[str], out: Path, err: Path) -> int:
        """The exit code; below 0 where a signal ended it."""


class Processes:
    """``count`` at a time on this machine, each with its share of the cores."""

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)
        self._env = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count)), **os.environ}

    async def run(self, command: Sequence[str], out: Path, err: Path) -> int:
        async with self._free:
            with out.open("wb") as told, err.open("wb") as words:
                process = await asyncio.create_subprocess_exec(
                    *command, stdin=subprocess.DEVNULL, stdout=told, stderr=words, env=self._env
                )
                try:
                    return await process.wait()
                finally:
                    if process.returncode is None:  # we are being stopped; it keeps what it has
                        with suppress(ProcessLookupError):
                            process.send_signal(signal.SIGTERM)
                        await process.wait()


def read_plan(path: Path) -> tuple[FitJob, ...]:
    """A table ``each`` with lists of models, data and methods, of which every combination is a job, and a table
    ``fit`` with options for all of them; ``[[job]]`` tables add single ones. ``DataError`` names what is wrong."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"cannot read the plan: {error}", file=path) from None
    unknown = sorted(set(table) - {"each", "fit", "job"})
    if unknown:
        raise DataError(f"no table {unknown[0]!r}; a plan has each, fit and job", file=path)
    each, shared = dict(table.get("each", {})), dict(table.get("fit", {}))
    strange = sorted(set(each) - set(_EACH))
    if strange:
        raise DataError(f"each.{strange[0]}: jobs are made over {', '.join(_EACH)}; put it into [fit]", file=path)
    lists = {name: each[name] if isinstance(each.get(name), list) else [each[name]] for name in _EACH if name in each}
    made = [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())] if lists else []
    made += [dict(one) for one in table.get("job", [])]
    jobs = [_job({**shared, **one}, path) for one in made]
    if not jobs:
        raise DataError('no job; write [each] with data = ["sample:..."] and method = ["caa", "pas"]', file=path)
    names = [job.name for job in jobs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"two jobs are named {twice[0]!r}; give one a name = of its own", file=path)
    return tuple(jobs)


def _job(table: dict[str, Any], path: Path) -> FitJob:
    data = table.pop("data", None)
    if not isinstance(data, str) or not data:
        raise DataError(f"a job needs data, a text: {clipped(str(table), 80)}", file=path)
    options = {key.replace("_", "-"): value for key, value in table.items()}
    name = options.pop("name", None) or _name(data, options)
    own = sorted(set(options) & set(_OWN))
    if own:
        raise DataError(f"job {name}: --{own[0]} is the fleet's own; leave it out", file=path)
    if _NAME.search(str(name)) or str(name).startswith("."):
        raise DataError(f"job {str(name)[:60]!r}: a name has letters, digits, '.', '+' and '-'", file=path)
    return FitJob(str(name), data, options)


def _name(data: str, options: Mapping[str, Any]) -> str:
    """Of what differs: ``pilot.interest-in-science.caa``."""
    stem = Path(data.removeprefix("sample:")).name.split(":")[0]
    parts = [Path(str(options.get("model", "pilot"))).name, stem.split(".")[0], str(options.get("method", "auto"))]
    return ".".join(_NAME.sub("-", part).strip("-.") for part in parts)


async def run_fits(
    jobs: Sequence[FitJob], folder: Path, runner: Runner, done: Callable[[FitOutcome], None]
) -> tuple[FitOutcome, ...]:
    """In the order of the jobs. What a run before has finished is taken as it is; a fit that was stopped goes on from
    its own finished pieces."""

    async def one(job: FitJob) -> FitOutcome:
        outcome = _finished(job, folder) or await _fitted(job, folder, runner)
        done(outcome)
        return outcome

    return tuple(await asyncio.gather(*(one(job) for job in jobs)))


async def _fitted(job: FitJob, folder: Path, runner: Runner) -> FitOutcome:
    out, told, words = (folder / f"{job.name}.{end}" for end in ("safetensors", "out", "err"))
    command = [*_COMMAND, *job.arguments(), "--out", str(out), "--json", "--quiet"]
    code = 0
    for _ in range(_ATTEMPTS):
        code = await runner.run(command, told, words)
        if code >= 0:
            break
    if code not in _DONE:
        why = f"killed by signal {-code} each time" if code < 0 else _last_words(words)
        return FitOutcome(job, None, why)
    card = json.loads(told.read_text(encoding="utf-8"))
    write_text(folder / f"{job.name}.json", json.dumps({"digest": job.digest, "card": card}))
    told.unlink()
    words.unlink()
    return FitOutcome(job, card)


def _finished(job: FitJob, folder: Path) -> FitOutcome | None:
    path = folder / f"{job.name}.json"
    if not path.is_file() or not (folder / f"{job.name}.safetensors").is_file():
        return None
    kept = json.loads(path.read_text(encoding="utf-8"))
    return FitOutcome(job, kept["card"]) if kept.get("digest") == job.digest else None


def _last_words(path: Path) -> str:
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return clipped(lines[-1], 300) if lines else "it says nothing"
