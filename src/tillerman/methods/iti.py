"""Inference-time intervention: shift the attention heads that tell the sides apart best, each along its own
difference of means (Li et al., arXiv 2306.03341, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tillerman.core.errors import FitError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.spec import option
from tillerman.core.steerings.vector import SteeringVector
from tillerman.data import pairings
from tillerman.methods.base import Context, Habits, Method
from tillerman.methods.fit import Activations, fit
from tillerman.models.capture import capture

_RIDGE = 1e-2  # of a probe's loss, on standardised activations
_NEWTON_STEPS = 12  # the loss is quadratic enough: four bring it to 1e-6


@dataclass(frozen=True)
class RatedHead:
    accuracy: float
    point: HookPoint
    head: int


@dataclass(frozen=True)
class Iti(Method):
    """``v_h = sd_h u_h`` for the chosen heads h, 0 for the others; ``u_h`` is the head's difference of means at
    length 1 and ``sd_h`` the standard deviation of both sides along it. Sides are those of ``caa``.

    All hook points are steered at once; one without a chosen head has a direction of zeros, so that a null, which
    chooses other heads, has the same hook points.
    """

    name: ClassVar[str] = "iti"
    # A dose is the mean over all layers, and most have no chosen head: small doses are large where there is one.
    habits: ClassVar[Habits] = Habits(site="heads", doses=(0.01, 0.02, 0.035, 0.05, 0.07, 0.1, 0.2, 0.4), joint=True)
    share: float = option(1 / 8, "share of all heads that is steered", above=0, most=1)
    least: int = option(4, "steer at least so many heads", least=1)
    folds: int = option(5, "folds in which a head's probe is tested on pairs it was not fitted on", least=2)

    def fit(self, context: Context) -> SteeringVector:
        sides = _read(context)
        gaps = fit(sides, "mean_difference", context.provenance)
        rated = [head for point in gaps.points for head in _rate(context, sides, point, self.folds)]
        count = min(len(rated), max(self.least, round(self.share * len(rated))))
        chosen = sorted(rated, key=lambda head: -head.accuracy)[:count]
        directions = {point: torch.zeros(gaps.width(point)) for point in gaps.points}
        for one in chosen:
            mine = _coordinates(context, one.point, one.head)
            gap = gaps.directions[one.point][mine]
            unit = gap / gap.norm().clamp_min(1e-30)
            along = torch.cat([sides.positive[one.point], sides.negative[one.point]])[:, mine] @ unit
            directions[one.point][mine] = along.std(correction=0) * unit
        facts = {"heads": [[head.point.layer, head.head, round(head.accuracy, 4)] for head in chosen]}
        return SteeringVector(directions, gaps.stream_norms, replace(context.provenance, found=facts))

    def report(self, found: Mapping[str, Any]) -> tuple[str, ...]:
        heads = "; ".join(f"layer {layer} head {head} ({accuracy:.2f})" for layer, head, accuracy in found["heads"])
        return (f"heads steered (accuracy of their probes on pairs held out): {heads}",)


def _read(context: Context) -> Activations:
    """Where an answer's turn ends, in a chat template; over a whole text, where there is no answer."""
    if any(point.site != "heads" for point in context.points):
        raise UsageError(f"ITI steers attention heads, not {context.points[0].site}")
    contrast = pairings.caa(context.items, context.writer.closing_turns())
    read = "mean" if context.items[0].example.kind == "text" else "last"
    n = len(contrast.positive)
    got = capture(context.opened, contrast.positive + contrast.negative, context.points, read=read)
    context.progress(n)
    norms = {point: float(h.norm(dim=-1).mean()) for point, h in got.items()}
    return Activations({p: h[:n] for p, h in got.items()}, {p: h[n:] for p, h in got.items()}, norms, paired=True)


def _rate(context: Context, sides: Activations, point: HookPoint, folds: int) -> list[RatedHead]:
    count = context.opened.parts.heads_at(point)
    positive, negative = (
        side[point].double().reshape(len(side[point]), count, -1).transpose(0, 1)
        for side in (sides.positive, sides.negative)
    )
    accuracies = held_out_accuracy(positive, negative, folds, context.seed)
    return [RatedHead(accuracy, point, head) for head, accuracy in enumerate(accuracies.tolist())]


def _coordinates(context: Context, point: HookPoint, head: int) -> slice:
    size = context.opened.parts.width_at(point) // context.opened.parts.heads_at(point)
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
