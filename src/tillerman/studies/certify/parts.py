"""Trials of several studies in one log: each has its gate's name before its case. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tillerman.logs.study import Trial

_BETWEEN = " | "


def under(gate: str, case: str) -> str:
    """``utility | KL``."""
    return f"{gate}{_BETWEEN}{case}"


def part(trials: Sequence[Trial], gate: str) -> tuple[Trial, ...]:
    """The trials of one gate, as its own study has them."""
    begin = f"{gate}{_BETWEEN}"
    return tuple(
        replace(trial, case=trial.case.removeprefix(begin)) for trial in trials if trial.case.startswith(begin)
    )
