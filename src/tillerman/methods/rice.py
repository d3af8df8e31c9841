"""RICE: find the experts that fire with thinking tokens, and strengthen them (Wang et al., arXiv 2505.14681).

Score of an expert: ``sum over marks of coefficient * nPMI(mark, expert)``, by default ``nPMI(<think>) -
nPMI(</think>)``; the best n over all layers together are steered, ``w <- (1 + strength) w``, the others not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tillerman.core.errors import FitError, UsageError
from tillerman.core.rows import Row
from tillerman.core.steerings.vector import SteeringVector
from tillerman.methods.base import Lesson
from tillerman.models.experts import count_routing, npmi
from tillerman.models.opened import OpenModel

LISTED = 8  # experts named in the report
# Strengths of the paper's grid, beta = 1 + strength in 2, 4, ..., 512, and two gentle ones for small models.
RICE_STRENGTHS = (0.25, 0.5, *(2.0**i - 1 for i in range(1, 10)))


@dataclass(frozen=True)
class RiceOptions:
    """``experts`` is the paper's n. ``marks``: words and their coefficients in the score; the paper also has
    ``"Alternatively": -1``. ``renormalised``: what the experts gain is taken from the others."""

    experts: int = 2
    marks: Mapping[str, float] = field(default_factory=lambda: {"<think>": 1.0, "</think>": -1.0})
    renormalised: bool = False

    def __post_init__(self) -> None:
        if self.experts < 1:
            raise UsageError(f"experts {self.experts}: expected at least 1")
        if not any(coefficient > 0 for coefficient in self.marks.values()):
            raise UsageError("marks: expected at least one word with a coefficient above 0")


def fit_rice(lesson: Lesson, options: RiceOptions) -> SteeringVector:
    """Count over the unsteered model's own replies; 1 at the chosen experts, 0 at all others."""
    points = lesson.points
    rows = lesson.replies()
    if not rows:
        raise FitError("rice: there are no replies to count over; give items with a question")
    marks = _marks(lesson.opened, rows, list(options.marks), lesson.dealt)
    counts = count_routing(lesson.opened, rows, marks, points, progress=lesson.progress)
    coefficients = torch.tensor(list(options.marks.values()), dtype=torch.float64)
    scores = torch.einsum("w,wle->le", coefficients, npmi(counts))
    best = _best(scores, counts.chosen, options.experts)
    directions = {point: torch.zeros(scores.shape[1]) for point in points}
    for layer, expert in best:
        directions[points[layer]][expert] = 1.0
    found = {
        "tokens": counts.tokens,
        "marks": dict(zip(options.marks, counts.marked.int().tolist(), strict=True)),
        "experts": [
            {"layer": points[layer].layer, "expert": expert, "score": round(float(scores[layer, expert]), 4)}
            for layer, expert in _best(scores, counts.chosen, max(LISTED, options.experts))
        ],
        "steered": options.experts,
    }
    norms = {point: float(norm) for point, norm in zip(points, counts.norms, strict=True)}
    made = replace(lesson.provenance, found=found)
    return SteeringVector(directions, norms, made, operator="reweigh" if options.renormalised else "scale")


def _best(scores: Float[Tensor, "l e"], chosen: Float[Tensor, "l e"], count: int) -> list[tuple[int, int]]:
    """Of all layers together; an expert that no token chose says nothing and is never taken."""
    if count > int((chosen > 0).sum()):
        raise FitError(f"rice: {count} experts asked for, the tokens chose {int((chosen > 0).sum())}")
    order = torch.where(chosen > 0, scores, -torch.inf).flatten().argsort(descending=True, stable=True)
    return [divmod(int(place), scores.shape[1]) for place in order[:count]]


def _marks(
    opened: OpenModel, rows: Sequence[Row], words: Sequence[str], dealt: int | None
) -> list[Bool[Tensor, "w _"]]:
    """Which tokens of the replies are which word. A prompt may name a word without a thought: its tokens count,
    but have no mark, unless its template itself opens the thought."""
    ids = [_token(opened, word) for word in words]
    marks = []
    for row in rows:
        tokens = torch.tensor(row.tokens)
        mark = torch.stack([tokens == token for token in ids])
        mark[:, : max(0, row.read_from - 2)] = False  # the tag of a template stands at the prompt's very end
        marks.append(mark)
    counts = torch.stack([mark.sum(1) for mark in marks]).sum(0)
    for word, count in zip(words, counts.tolist(), strict=True):
        if count == 0:
            raise FitError(
                f"rice: none of the {len(rows)} replies holds {word!r}; this model does not think in such tags on "
                "these questions, or --answer-tokens is too small"
            )
    return marks if dealt is None else _dealt(marks, dealt)


def _dealt(marks: Sequence[Bool[Tensor, "w _"]], seed: int) -> list[Bool[Tensor, "w _"]]:
    """The null: as many marks of every kind, on tokens drawn from all."""
    together = torch.cat(list(marks), dim=1)
    order = torch.randperm(together.shape[1], generator=torch.Generator().manual_seed(seed))
    return list(torch.split(together[:, order], [mark.shape[1] for mark in marks], dim=1))


def _token(opened: OpenModel, word: str) -> int:
    ids = opened.tokenizer(word, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise FitError(f"rice: {word!r} is {len(ids)} tokens of this tokenizer; name one that marks a thought")
    return int(ids[0])
