"""Which of several prompts is the best one, and whether it does better than none. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SURE = 2.0  # standard errors by which log-odds must rise where as many items are right


@dataclass(frozen=True, eq=False)
class Tried:
    """A prompt's answers to the validation items ``[n]``: which are right, or what each reply is worth (0 to 1), and by
    how much the wanted answer is likelier than the best other one (nats; 0 throughout where answers are written
    freely)."""

    text: str
    source: str
    right: NDArray[np.bool_] | NDArray[np.float64]
    margin: NDArray[np.float64]

    @property
    def score(self) -> float:
        return float(self.right.mean())


def ranked(tried: Sequence[Tried], none: Tried) -> tuple[Tried, ...]:
    """Best first: the most right answers, then the highest mean margin, then the first. ``none`` (no prompt) comes
    first where no prompt does better than it, and last else."""
    order = sorted(tried, key=lambda one: (-one.score, -float(one.margin.mean())))
    if order and does_better(order[0], none):
        return (*order, none)
    return (none, *order)


def does_better(one: Tried, none: Tried) -> bool:
    """More items are right; or as many are, and the mean margin is surely higher on the same items."""
    if one.score != none.score:
        return bool(one.score > none.score)
    change = one.margin - none.margin
    if len(change) < 2 or not np.isfinite(change).all():
        return False
    error = float(change.std(ddof=1)) / len(change) ** 0.5
    return bool(change.mean() > _SURE * error)
