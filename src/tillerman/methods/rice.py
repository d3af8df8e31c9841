"""RICE: find the experts that fire with thinking tokens, and strengthen them (Wang et al., arXiv 2505.14681).

Score of an expert: ``sum over marks of coefficient * nPMI(mark, expert)``, by default ``nPMI(<think>) -
nPMI(</think>)``; the best n over all layers together are steered, ``w <- (1 + strength) w``, the others not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tillerman.core.errors import FitError, UsageError
from tillerman.core.rows import Row
from tillerman.core.spec import option
from tillerman.core.steerings.vector import SteeringVector
from tillerman.methods.base import Context, Habits, Method
from tillerman.models.experts import count_routing, npmi
from tillerman.models.opened import OpenModel
from tillerman.reports.numbers import decimal

LISTED = 8  # experts named in the report
# Strengths of the paper's grid, beta = 1 + strength in 2, 4, ..., 512, and two gentle ones for small models.
RICE_STRENGTHS = (0.25, 0.5, *(2.0**i - 1 for i in range(1, 10)))


@dataclass(frozen=True)
class Rice(Method):
    """Count over the unsteered model's own replies; 1 at the chosen experts, 0 at all others."""

    name: ClassVar[str] = "rice"
    habits: ClassVar[Habits] = Habits(site="router_weights", scope="all", doses=RICE_STRENGTHS, joint=True)
    operator: ClassVar[str] = "scale"
    experts: int = option(2, "how many experts are steered, the paper's n", least=1)
    marks: str = option(
        "<think>=1 </think>=-1", 'words and their coefficients in the score; the paper also has "Alternatively=-1"'
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not any(coefficient > 0 for coefficient in self.coefficients.values()):
            raise UsageError(f"{self.name}: marks={self.marks}: expected at least one word with a coefficient above 0")

    @property
    def coefficients(self) -> dict[str, float]:
        """Word -> coefficient, from ``marks``."""
        parts = [part.rpartition("=") for part in self.marks.split()]
        try:
            return {word: float(number) for word, _, number in parts}
        except ValueError:
            raise UsageError(
                f"{self.name}: marks={self.marks}: write WORD=NUMBER with blanks between, e.g. <think>=1 </think>=-1"
            ) from None

    def fit(self, context: Context) -> SteeringVector:
        points = context.points
        rows = context.replies()
        if not rows:
            raise FitError("rice: there are no replies to count over; give items with a question")
        words = self.coefficients
        marks = _marks(context.opened, rows, list(words), context.dealt)
        counts = count_routing(context.opened, rows, marks, points, progress=context.progress)
        scores = torch.einsum("w,wle->le", torch.tensor(list(words.values()), dtype=torch.float64), npmi(counts))
        best = _best(scores, counts.chosen, self.experts)
        directions = {point: torch.zeros(scores.shape[1]) for point in points}
        for layer, expert in best:
            directions[points[layer]][expert] = 1.0
        found = {
            "tokens": counts.tokens,
            "marks": dict(zip(words, counts.marked.int().tolist(), strict=True)),
            "experts": [
                {"layer": points[layer].layer, "expert": expert, "score": round(float(scores[layer, expert]), 4)}
                for layer, expert in _best(scores, counts.chosen, max(LISTED, self.experts))
            ],
            "steered": self.experts,
        }
        norms = {point: float(norm) for point, norm in zip(points, counts.norms, strict=True)}
        return SteeringVector(directions, norms, replace(context.provenance, found=found), operator=self.operator)

    def report(self, found: Mapping[str, Any]) -> tuple[str, ...]:
        marks = ", ".join(f"{count} {word}" for word, count in found["marks"].items())
        ranked = "; ".join(
            f"layer {e['layer']} expert {e['expert']} ({decimal(e['score'], 3, signed=True)})" for e in found["experts"]
        )
        return (
            f"routing counted over {found['tokens']} tokens with {marks}",
            f"experts by score, the first {found['steered']} steered: {ranked}",
        )


@dataclass(frozen=True)
class RiceRenormalised(Rice):
    """The same, but what the experts gain is taken from the others."""

    name: ClassVar[str] = "rice-renormalised"
    operator: ClassVar[str] = "reweigh"


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
