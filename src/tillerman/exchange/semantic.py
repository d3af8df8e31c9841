"""Which reading of a file makes its vector do what its labels say: measured on labelled items, never assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from numpy import float64
from numpy.typing import NDArray
from torch import Tensor

from tillerman.core.cell import Cell
from tillerman.core.errors import HookPointError, UsageError
from tillerman.core.hookpoint import HookPoint, named
from tillerman.core.plan import Scope
from tillerman.core.rows import Row
from tillerman.core.steerings.vector import SteeringVector
from tillerman.evaluation.exam import Exam
from tillerman.exchange.found import Found
from tillerman.exchange.nearest import leads_under
from tillerman.exchange.placing import CONVENTIONS, Placed, Placing, placed
from tillerman.models.tokens import token_activations
from tillerman.statistics.estimates import mean_effect
from tillerman.statistics.values import MeanEffect

DOSE = 0.5  # of all hook points together: enough to see, short of wrecking the model
SIGNS = (1.0, -1.0)
# Peers steer every token, which can wreck the question before it is answered; what a direction means shows where the
# answer is made.
_CLOSE = 0.2  # a smaller cosine says nothing of where a vector was found: it was read otherwise than here
_ANSWER = Scope("generated")


@dataclass(frozen=True, eq=False)
class FileReading:
    """A convention and a sign, where it puts the vector, and what it does to the lead of the right answers.

    ``closeness``: the cosine between the directions and what tells right answers from wrong ones there, in each half
    of the items. A vector does much the same a block further; where it was found it is closest."""

    convention: str
    sign: float
    directions: Placed
    leads: NDArray[float64]
    effect: MeanEffect
    closeness: tuple[float, float]

    @property
    def words(self) -> str:
        return f"{self.convention}, {'as-is' if self.sign > 0 else 'flipped'} ({named(tuple(self.directions))})"


def readings(
    exam: Exam,
    found: Found,
    placing: Placing,
    signs: Sequence[float] = SIGNS,
    dose: float = DOSE,
    closing: tuple[int, ...] = (),
) -> tuple[FileReading, ...]:
    """Every convention that the file's numbers allow (the given one, where one is given), with every sign, the best
    first. Each is tried on the tokens that make the answer, at the strength whose doses, over all hook
    points, add up to ``dose``. ``closing`` are the tokens that end a turn, where many read vectors.

    ``HookPointError`` where no convention fits the model's layers."""
    places = _places(exam, found, placing)
    plain = leads_under(exam, [()])[0]
    tried: list[tuple[str, float, Placed]] = [(name, sign, directions) for name, directions in places for sign in signs]
    plans = []
    for _, sign, directions in tried:
        keyed: dict[HookPoint | int | str, Any] = {point: v for point, v in directions.items()}  # noqa: C416 (invariant keys)
        vector = exam.opened.vector(keyed, name="tried")
        plans.append(Cell.of(vector, sign * dose / _total(vector), _ANSWER).plan(vector))
    leads = leads_under(exam, plans)
    close = _closeness(exam, dict(places), closing)
    made = []
    for (name, sign, where), lead in zip(tried, leads, strict=True):
        even, odd = close[name]
        made.append(FileReading(name, sign, where, lead, mean_effect(lead, plain), (sign * even, sign * odd)))
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


def _closeness(exam: Exam, places: Mapping[str, Placed], closing: tuple[int, ...]) -> dict[str, tuple[float, float]]:
    """By convention the mean cosine over the hook points between the direction and the mean difference of right and
    wrong answers, in the items at even and at odd places. Answers are read at the end of their turn or at their last
    token, whichever lies closer to any direction."""
    ways = [{name: _cosines(exam, where, end) for name, where in places.items()} for end in {closing, ()}]
    return max(ways, key=lambda way: max(abs(even + odd) for even, odd in way.values()))


def _cosines(exam: Exam, directions: Placed, closing: tuple[int, ...]) -> tuple[float, float]:
    """Every right answer counts alike: else the difference would mostly be that of the commoner word to the other."""
    groups = exam.groups
    halves: tuple[list[float], list[float]] = ([], [])
    for point, v in directions.items():
        right, wrong = (_last(exam, point, closing, right=which) for which in (True, False))
        for half, found in enumerate(halves):
            gaps = []
            for group in sorted(set(groups)):
                mine = [i for i, other in enumerate(groups) if other == group][half::2]
                gaps += [(right[mine] - wrong[mine]).mean(0)] if mine else []
            gap = torch.stack(gaps).mean(0)
            found.append(float(torch.nn.functional.cosine_similarity(gap, v, dim=0)))
    return sum(halves[0]) / len(directions), sum(halves[1]) / len(directions)


def _last(exam: Exam, point: HookPoint, closing: tuple[int, ...], *, right: bool) -> Float[Tensor, "n d"]:
    """Activations at the last token of the right answer, or of the first other one, per item."""
    rows = []
    for item, written in zip(exam.items, exam.written, strict=True):
        answer = item.right if right else next(i for i in range(len(written.answers)) if i != item.right)
        tokens = written.row(answer).tokens + closing
        rows.append(Row(tokens, len(tokens) - 1))
    found = torch.zeros(len(rows), exam.opened.parts.width_at(point))
    for owners, h in token_activations(exam.opened, rows, point):
        found[owners] = h.detach().cpu()
    return found


def best(tried: Sequence[FileReading]) -> FileReading:
    """The reading to take: its sign moves right answers up, and clearly more than the other sign; of conventions that
    do so, the one whose directions lie closer to what tells answers apart, in both halves of the items.

    ``UsageError`` where no reading does anything, or where two cannot be told apart: then it is for the user to say."""
    first = tried[0]
    if not first.effect.found:
        low, high = first.effect.interval.low, first.effect.interval.high
        raise UsageError(
            f"no reading of the file moves the items the labelled way: the best, {first.words}, moves the lead of "
            f"right answers by {first.effect.value:.2f} nats ({low:.2f} to {high:.2f}). Give more items or others, "
            "or say --convention and --sign"
        )
    working = [one for one in tried if one.effect.found]
    for one in working:
        if one.sign != first.sign and not mean_effect(first.leads, one.leads).found:
            raise _alike(first, one)
    same = sorted((one for one in working if one.sign == first.sign), key=lambda one: -sum(one.closeness))
    for other in same[1:]:
        closer = all(mine > theirs for mine, theirs in zip(same[0].closeness, other.closeness, strict=True))
        if not closer or min(same[0].closeness) < _CLOSE:
            raise _alike(same[0], other)
    return same[0]


def _alike(one: FileReading, other: FileReading) -> UsageError:
    return UsageError(
        f"two readings cannot be told apart on {len(one.leads)} items: {one.words} and {other.words}. Give more items, "
        "or say --convention and --sign"
    )
