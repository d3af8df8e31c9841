"""One description that was tried: the log of its data, some rows, and the evaluation of the fit. As files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "real_models"))

from measured import Measured, small

from packed import read_packed, write_packed
from tillerman.logs.making import MakingLog

SHOWN_ROWS = 3


@dataclass(frozen=True)
class Tried:
    """``fit`` is None where none was run: the data were refused, or the time was over. Seconds are of one thread."""

    case: str
    model: str
    cpu_seconds: float
    log: MakingLog
    rows: tuple[dict[str, str], ...]
    fit: Measured | None = None

    def to_json(self) -> dict[str, Any]:
        told = {"case": self.case, "model": self.model, "cpu_seconds": self.cpu_seconds, "rows": list(self.rows)}
        return told | {"log": self.log.to_json(), "fit": None if self.fit is None else small(self.fit).to_json()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Tried:
        fit = values["fit"]
        return cls(
            values["case"],
            values["model"],
            values["cpu_seconds"],
            MakingLog.from_json(values["log"]),
            tuple(values["rows"]),
            None if fit is None else Measured.from_json(fit),
        )


def read(folder: Path) -> list[Tried]:
    """What ``measure.py`` has written so far."""
    found = []
    for path in sorted(folder.glob("*.making.json")):
        values = json.loads(path.read_bytes())
        rows = (folder / path.name.replace(".making.json", ".jsonl")).read_text(encoding="utf-8").splitlines()
        kept = [json.loads(row) for row in rows[:SHOWN_ROWS]]
        fitted = folder / f"{values['model']}.{values['case']}.fit.json"
        fit = json.loads(fitted.read_bytes()) if fitted.exists() else None
        found.append(Tried.from_json({**values, "rows": kept, "fit": fit}))
    return found


def pack(path: Path, many: Iterable[Tried]) -> None:
    """As one file, the same bytes for the same measurements."""
    rows = [one.to_json() for one in sorted(many, key=lambda one: one.case)]
    write_packed(path, rows)


def unpack(path: Path) -> list[Tried]:
    return [Tried.from_json(row) for row in read_packed(path)]
