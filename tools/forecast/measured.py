"""One behaviour of one model: what was foretold, and what a vector then did. As a file, and many as one."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tillerman.core.decoding import build
from tillerman.core.files import write_text
from tillerman.logs.forecast import EffectForecast
from tillerman.statistics.values import Effect, MeanEffect

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from packed import read_packed, write_packed

DIGITS = 4


@dataclass(frozen=True)
class Outcome:
    """What ``caa`` did to the test items at the cell that raises the log-odds of the validation items most.

    ``change``: of the log-odds of the right answer, in nats. ``accuracy``: share of right answers, steered minus
    unsteered. ``moved_wrong``: share of items whose log-odds fell. ``slope``: mean over items of the slope of the
    log-odds over the doses -1, -1/2, 0, 1/2 and 1 times the chosen one; ``slope_wrong``: the share of items whose slope
    is below 0. ``fixed``: change of the log-odds at one cell that is the same for all behaviours. ``nulls``: the mean
    change of the log-odds under each draw, at the chosen cell."""

    hook_point: str
    dose: float
    change: MeanEffect
    accuracy: Effect
    moved_wrong: float
    slope: float
    slope_wrong: float
    fixed: MeanEffect
    nulls: dict[str, tuple[float, ...]]

    @property
    def beyond_nulls(self) -> bool:
        """The log-odds rose, and by more than under any draw of a null."""
        return self.change.found and self.change.value > max(max(draws) for draws in self.nulls.values())


@dataclass(frozen=True)
class Measured:
    """``unsteered``: accuracy; ``unsteered_auc``: of its log-odds. Without outcome where the data were refused."""

    model: str
    behaviour: str
    kind: str
    items: tuple[int, int, int]
    cpu_seconds: float
    forecast_seconds: float
    unsteered: float
    unsteered_auc: float | None
    forecast: EffectForecast | None
    outcome: Outcome | None
    refused: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.model, self.behaviour


def path_of(folder: Path, key: tuple[str, str]) -> Path:
    return folder / f"{key[0]}.{key[1]}.json"


def write(folder: Path, one: Measured) -> None:
    write_text(path_of(folder, one.key), json.dumps(asdict(one)))


def read(folder: Path) -> list[Measured]:
    return [build(Measured, json.loads(path.read_bytes())) for path in sorted(folder.glob("*.*.json"))]


def pack(path: Path, many: Iterable[Measured]) -> None:
    """As one file, figures rounded, the same bytes for the same measurements."""
    rows = [_rounded(asdict(one)) for one in sorted(many, key=lambda one: one.key)]
    write_packed(path, rows)


def unpack(path: Path) -> list[Measured]:
    return [build(Measured, row) for row in read_packed(path)]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value
