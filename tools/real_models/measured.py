"""One measurement of a behaviour by a method on a real model, as a file, and many of them as one that is committed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from behaviours import DEFAULTS

from tillerman.core.files import write_text
from tillerman.logs.evaluation import EvaluationLog

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from packed import read_packed, write_packed

SHOWN_PROMPTS = 3  # whose replies are kept
KEPT_CELLS = 40  # of a search, the best
TOLD = ("template", "read_positions", "operator")  # of the provenance; the rest names folders of the machine


@dataclass(frozen=True)
class Refusals:
    """Shares of so many prompts of one side that are refused: XSTest's unsafe ones, or its safe ones that look unsafe.
    ``prompt``: under the prompt of the fit; ``random``: the mean over random directions."""

    prompts: int
    unsteered: float
    steered: float
    random: float
    prompt: float | None


@dataclass(frozen=True)
class Measured:
    """``log`` is None where the method refused the data (``refused`` says why). Seconds are of one thread's CPU.
    ``size``: bytes of the artefact; ``unsafe`` and ``safe``: what it does to refusals. Both are None in runs that did
    not ask, and refusals where the method abstains."""

    model: str
    behaviour: str
    method: str
    cpu_seconds: float
    log: EvaluationLog | None
    refused: str = ""
    size: int | None = None
    unsafe: Refusals | None = None
    safe: Refusals | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        return self.model, self.behaviour, self.method

    def to_json(self) -> dict[str, Any]:
        log = None if self.log is None else self.log.to_json()
        return asdict(replace(self, log=None)) | {"log": log}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Measured:
        log = values["log"]
        sides = {side: Refusals(**found) for side in ("unsafe", "safe") if (found := values.get(side)) is not None}
        return cls(**{**values, **sides, "log": None if log is None else EvaluationLog.from_json(log)})


def path_of(folder: Path, key: tuple[str, str, str]) -> Path:
    return folder / f"{'.'.join(key)}.json"


def write(folder: Path, one: Measured) -> None:
    """The whole log; the file is there when all of it is."""
    write_text(path_of(folder, one.key), json.dumps(one.to_json()))


def read(folder: Path) -> list[Measured]:
    return [Measured.from_json(json.loads(path.read_bytes())) for path in sorted(folder.glob("*.*.*.json"))]


def small(one: Measured) -> Measured:
    """Without the items, all but the best cells and all but the first replies: what a page shows."""
    log = one.log
    if log is None:
        return one
    # The name of the method is the page's: options of a run may name a folder.
    named = log.cells if one.method == DEFAULTS else [replace(cell, method=one.method) for cell in log.cells]
    cells = sorted(named, key=lambda cell: -(cell.score if cell.written is None else cell.written))
    written = log.written
    if written is not None:
        conditions = tuple(replace(c, replies=c.replies[:SHOWN_PROMPTS]) for c in written.conditions)
        written = replace(written, conditions=conditions, prompts=written.prompts[:SHOWN_PROMPTS])
    told = {name: log.provenance[name] for name in TOLD if name in log.provenance}
    less = replace(log, items=(), diagnostics=(), cells=tuple(cells[:KEPT_CELLS]), written=written, provenance=told)
    method = log.method if one.method == DEFAULTS else one.method
    return replace(one, log=replace(less, model_id=one.model, method=method))


def pack(path: Path, many: Iterable[Measured]) -> None:
    """As one file, the same bytes for the same measurements."""
    rows = [small(one).to_json() for one in sorted(many, key=lambda one: one.key)]
    write_packed(path, rows)


def unpack(path: Path) -> list[Measured]:
    return [Measured.from_json(row) for row in read_packed(path)]
