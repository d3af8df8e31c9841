"""Which reading of a file makes its vector do what its labels say: measured on labelled items, never assumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy import float64
from numpy.typing import NDArray

from tillerman.core.cell import Cell
from tillerman.core.errors import HookPointError, UsageError
from tillerman.core.hookpoint import HookPoint, named
from tillerman.core.steerings.vector import SteeringVector
from tillerman.evaluation.exam import Exam
from tillerman.exchange.found import Found
from tillerman.exchange.nearest import leads_under
from tillerman.exchange.placing import CONVENTIONS, Placed, Placing, placed
from tillerman.statistics.estimates import mean_effect
from tillerman.statistics.values import MeanEffect

DOSE = 0.5  # of all hook points together: enough to see, short of wrecking the model
SIGNS = (1.0, -1.0)


@dataclass(frozen=True, eq=False)
class FileReading:
    """A convention and a sign, where it puts the vector, and what it does to the lead of the right answers."""

    convention: str
    sign: float
    directions: Placed
    leads: NDArray[float64]
    effect: MeanEffect

    @property
    def words(self) -> str:
        return f"{self.convention}, {'as-is' if self.sign > 0 else 'flipped'} ({named(tuple(self.directions))})"


def readings(
    exam: Exam, found: Found, placing: Placing, signs: Sequence[float] = SIGNS, dose: float = DOSE
) -> tuple[FileReading, ...]:
    """Every convention that the file's numbers allow (the given one, where one is given), with every sign, the best
    first. Each is tried at the strength whose doses, over all hook points, add up to ``dose``.

    ``HookPointError`` where no convention fits the model's layers."""
    places = _places(exam, found, placing)
    plain = leads_under(exam, [()])[0]
    tried: list[tuple[str, float, Placed]] = [(name, sign, directions) for name, directions in places for sign in signs]
    plans = []
    for _, sign, directions in tried:
        keyed: dict[HookPoint | int | str, Any] = {point: v for point, v in directions.items()}  # noqa: C416 (invariant keys)
        vector = exam.opened.vector(keyed, name="tried")
        plans.append(Cell.of(vector, sign * dose / _total(vector)).plan(vector))
    leads = leads_under(exam, plans)
    made = [
        FileReading(name, sign, directions, lead, mean_effect(lead, plain))
        for (name, sign, directions), lead in zip(tried, leads, strict=True)
    ]
    return tuple(sorted(made, key=lambda one: -one.effect.value))


def _places(exam: Exam, found: Found, placing: Placing) -> list[tuple[str, Placed]]:
    if not placing.is_open(found):
        return [(placing.convention or "as named", placed(found, placing))]
    usable = []
    for name in CONVENTIONS:
        if name == "input" and placing.site != "resid_post":
            continue
        directions = placed(found, Placing(name, placing.site, None, placing.numbers))
        if all(exam.opened.parts.has(point) for point in directions):
            usable.append((name, directions))
    if not usable:
        raise HookPointError(
            f"the file's numbers {found.numbers[0]} to {found.numbers[-1]} fit no convention: the model has layers "
            f"0..{exam.opened.layers - 1}; choose some by --layers"
        )
    return usable


def _total(vector: SteeringVector) -> float:
    return sum(vector.dose(point, 1.0) for point in vector.points)


def best(tried: Sequence[FileReading]) -> FileReading:
    """The reading that does most for the right answers. ``UsageError`` where none does anything, or where two cannot
    be told apart on these items: then it is for the user to say."""
    first = tried[0]
    if not first.effect.found:
        low, high = first.effect.interval.low, first.effect.interval.high
        raise UsageError(
            f"no reading of the file moves the items the labelled way: the best, {first.words}, moves the lead of "
            f"right answers by {first.effect.value:.2f} nats ({low:.2f} to {high:.2f}). Give more items or others, "
            "or say --convention and --sign"
        )
    for other in tried[1:]:
        gap = mean_effect(first.leads, other.leads)
        if set(other.directions) == set(first.directions) and other.sign == first.sign:
            continue
        if not gap.found:
            raise UsageError(
                f"two readings cannot be told apart on {gap.n} items: {first.words} and {other.words} differ by "
                f"{gap.value:.2f} nats ({gap.interval.low:.2f} to {gap.interval.high:.2f}). Give more items, or say "
                "--convention and --sign"
            )
    return first
