"""Inference-time intervention: shift the attention heads that tell the sides apart best, each along its own
difference of means (Li et al., arXiv 2306.03341, section 3)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tillerman.core.errors import FitError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.steerings.vector import SteeringVector
from tillerman.data.pairings import PAIRINGS
from tillerman.methods.base import Lesson
from tillerman.methods.fit import Activations, fit
from tillerman.models.capture import capture

_RIDGE = 1e-2  # of a probe's loss, on standardised activations
_NEWTON_STEPS = 12  # the loss is quadratic enough: four bring it to 1e-6


@dataclass(frozen=True)
class ItiOptions:
    """``share`` of all heads is steered, but no fewer than ``least``. A head's accuracy is that of probes fitted
    without the pairs they are asked about, in ``folds`` folds."""

    share: float = 1 / 8
    least: int = 4
    folds: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UsageError(f"share {self.share}: expected more than 0 and at most 1")
        if self.least < 1 or self.folds < 2:
            raise UsageError(f"least {self.least}, folds {self.folds}: expected at least 1 head and 2 folds")


@dataclass(frozen=True)
class RatedHead:
    accuracy: float
    point: HookPoint
    head: int


def fit_iti(lesson: Lesson, options: ItiOptions) -> SteeringVector:
    """``v_h = sd_h u_h`` for the chosen heads h, 0 for the others; ``u_h`` is the head's difference of means at
    length 1 and ``sd_h`` the standard deviation of both sides along it. Sides are those of ``caa``.

    All hook points are steered at once; one without a chosen head has a direction of zeros, so that a null, which
    chooses other heads, has the same hook points.
    """
    sides = _read(lesson)
    gaps = fit(sides, "mean_difference", lesson.provenance)
    rated = [head for point in gaps.points for head in _rate(lesson, sides, point, options)]
    count = min(len(rated), max(options.least, round(options.share * len(rated))))
    chosen = sorted(rated, key=lambda head: -head.accuracy)[:count]
    directions = {point: torch.zeros(gaps.width(point)) for point in gaps.points}
    for one in chosen:
        mine = _coordinates(lesson, one.point, one.head)
        gap = gaps.directions[one.point][mine]
        unit = gap / gap.norm().clamp_min(1e-30)
        along = torch.cat([sides.positive[one.point], sides.negative[one.point]])[:, mine] @ unit
        directions[one.point][mine] = along.std(correction=0) * unit
    facts = {"heads": [[head.point.layer, head.head, round(head.accuracy, 4)] for head in chosen]}
    return SteeringVector(directions, gaps.stream_norms, replace(lesson.provenance, found=facts))


def _read(lesson: Lesson) -> Activations:
    """Where an answer's turn ends, in a chat template; over a whole text, where there is no answer."""
    if any(point.site != "heads" for point in lesson.points):
        raise UsageError(f"ITI steers attention heads, not {lesson.points[0].site}")
    contrast = PAIRINGS["caa"].build(lesson.items, [], lesson.writer.closing_turns())
    read = "mean" if lesson.items[0].example.kind == "text" else "last"
    n = len(contrast.positive)
    got = capture(lesson.opened, contrast.positive + contrast.negative, lesson.points, read=read)
    lesson.progress(n)
    norms = {point: float(h.norm(dim=-1).mean()) for point, h in got.items()}
    return Activations({p: h[:n] for p, h in got.items()}, {p: h[n:] for p, h in got.items()}, norms, paired=True)


def _rate(lesson: Lesson, sides: Activations, point: HookPoint, options: ItiOptions) -> list[RatedHead]:
    count = lesson.opened.parts.heads_at(point)
    positive, negative = (
        side[point].double().reshape(len(side[point]), count, -1).transpose(0, 1)
        for side in (sides.positive, sides.negative)
    )
    accuracies = held_out_accuracy(positive, negative, options.folds, lesson.seed)
    return [RatedHead(accuracy, point, head) for head, accuracy in enumerate(accuracies.tolist())]


def _coordinates(lesson: Lesson, point: HookPoint, head: int) -> slice:
    size = lesson.opened.parts.width_at(point) // lesson.opened.parts.heads_at(point)
    return slice(head * size, (head + 1) * size)


def held_out_accuracy(
    positive: Float[Tensor, "h n k"], negative: Float[Tensor, "h n k"], folds: int, seed: int
) -> Float[Tensor, " h"]:
    """Per head the share of rows that a logistic regression puts on their side, fitted on the other folds. The
    rows of a pair are in one fold."""
    pairs = positive.shape[1]
    if pairs < 2:
        raise FitError(f"{pairs} pair of answers: ITI holds pairs out to find the heads; give more items")
    order = torch.randperm(pairs, generator=torch.Generator().manual_seed(seed))
    fold = torch.empty(pairs, dtype=torch.long)
    fold[order] = torch.arange(pairs) % min(folds, pairs)
    right = torch.zeros(len(positive), dtype=torch.long)
    for k in range(int(fold.max()) + 1):
        weights = _probes(positive[:, fold != k], negative[:, fold != k])
        for side, sign in ((positive, 1), (negative, -1)):
            right += _hits(side[:, fold == k], weights, sign)
    return right.double() / (2 * pairs)


def _hits(rows: Float[Tensor, "h n k"], weights: Float[Tensor, "h k+1"], sign: int) -> Int[Tensor, " h"]:
    logits = torch.einsum("hnk,hk->hn", rows, weights[:, :-1]) + weights[:, -1:]
    hits: Bool[Tensor, "h n"] = sign * logits > 0
    return hits.sum(1)


def _probes(positive: Float[Tensor, "h n k"], negative: Float[Tensor, "h n k"]) -> Float[Tensor, "h k+1"]:
    """Normals and offsets of one L2-regularised logistic regression per head, all at once, by Newton's method; the
    loss is that of the estimator ``probe``."""
    both = torch.cat([positive, negative], dim=1)
    centre = both.mean(1, keepdim=True)
    scale = both.std(1, keepdim=True) + 1e-6 * both.abs().mean() + 1e-12
    x = torch.cat([(both - centre) / scale, both.new_ones(*both.shape[:2], 1)], dim=2)
    y = torch.cat([both.new_ones(positive.shape[1]), both.new_zeros(negative.shape[1])])
    penalty = torch.full((x.shape[2],), 2 * _RIDGE, dtype=x.dtype)
    penalty[-1] = 1e-12  # the offset is free
    weights = x.new_zeros(len(x), x.shape[2])
    for _ in range(_NEWTON_STEPS):
        p = torch.einsum("hnk,hk->hn", x, weights).sigmoid()
        slope = torch.einsum("hnk,hn->hk", x, (p - y) / len(y)) + penalty * weights
        curvature = torch.einsum("hnk,hn,hnm->hkm", x, p * (1 - p) / len(y), x) + penalty.diag()
        weights = weights - torch.linalg.solve(curvature, slope)
    normals = weights[:, :-1] / scale[:, 0]
    offsets = weights[:, -1] - (normals * centre[:, 0]).sum(1)
    return torch.cat([normals, offsets[:, None]], dim=1)
