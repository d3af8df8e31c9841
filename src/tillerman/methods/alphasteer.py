"""The vector of ``caa``, as strong at each token as it is unlike text that steering is to leave alone: a reading in the
directions that such text hardly uses (AlphaSteer: Sheng et al. 2025, arXiv 2506.07022)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tillerman.core.errors import IN_FLOAT32, FitError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.provenance import Provenance
from tillerman.core.rows import Row
from tillerman.core.spec import option
from tillerman.core.steerings.base import Steering
from tillerman.core.steerings.gated import GatedSteering
from tillerman.data.neutral import load_texts
from tillerman.methods.base import Context, Fitted
from tillerman.methods.contrast import ContrastMethod
from tillerman.methods.estimators import mean_difference
from tillerman.methods.fit import Activations, fit
from tillerman.models.capture import capture
from tillerman.reports.numbers import decimal

LONGEST = 64  # tokens of one text
HELD_OUT = 5  # one text in so many is not fitted on
AT_ONCE = 2**28  # bytes of activations that are read in one pass
_TINY = 1e-12
Benign = Mapping[HookPoint, tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]]  # fitted on, and held out


@dataclass(frozen=True)
class AlphaSteer(ContrastMethod):
    """``h + strength * (w . h) v``, v the vector of ``caa`` and w, in the null space of the benign activations, the
    ridge regression that reads 1 at the rows of both sides.

    With H the rows ``[n d]`` and P the projection onto the directions along which benign tokens have the least energy,
    ``w = P H^T (H P H^T + a I)^-1 1``. It is the paper's ``delta P``: its regression target is the same vector for
    every row, so that its d x d matrix is ``v w^T``.
    """

    name: ClassVar[str] = "alphasteer"
    reads_itself: ClassVar[bool] = True
    benign: str = option("sample:tinystories", "text to leave alone: a file, or sample:tinystories")
    null_space: float = option(0.5, "share of all directions, those that such text uses least", above=0, most=1)
    ridge: float = option(
        0.01, "weight of the reader's squared length; rows all alike are read as 1 / (1 + it)", above=0
    )
    tokens: int = option(3000, "tokens of such text, at most", least=2 * HELD_OUT)

    def direction(
        self, positive: Float[Tensor, "n d"], negative: Float[Tensor, "m d"], paired: bool
    ) -> Float[Tensor, " d"]:
        return mean_difference(positive, negative, paired)

    def spared(self) -> tuple[str, ...]:
        return (self.benign,)

    def sources(self) -> tuple[str, ...]:
        return (hashlib.sha256("\0".join(load_texts(self.benign)).encode()).hexdigest(),)

    def fitted(self, context: Context) -> Fitted:
        """The nulls are made from the same activations and keep the reader."""
        sides, benign = self.sides(context), self._benign(context)
        made = self.made(sides.activations, benign, context.provenance)
        return Fitted(
            self,
            made,
            partial(self.random, made),
            lambda seed: self.made(sides.shuffled(seed), benign, context.provenance),
        )

    def fit(self, context: Context) -> Steering:
        return self.made(self.sides(context).activations, self._benign(context), context.provenance)

    def made(self, activations: Activations, benign: Benign, provenance: Provenance) -> GatedSteering:
        """The steering of two sides and, at each hook point, benign tokens to fit on and others held out."""
        vector = fit(activations, self.direction, provenance)
        rows = {p: torch.cat([activations.positive[p], activations.negative[p]]) for p in vector.points}
        readers = {p: self.reader(rows[p].double(), benign[p][0].double(), p) for p in vector.points}
        facts = [
            [str(p), round(float((rows[p].double() @ w).mean()), 4), *(round(_size(side, w), 4) for side in benign[p])]
            for p, w in readers.items()
        ]
        steering = GatedSteering(
            dict.fromkeys(vector.points, 1.0),
            vector.stream_norms,
            replace(provenance, found={"readings": facts, "benign": self.benign}),
            {p: w[None] for p, w in readers.items()},
            {p: torch.zeros(1) for p in vector.points},
            {p: vector.directions[p][None] for p in vector.points},
        )
        return steering.measured(rows)

    def reader(self, rows: Float[Tensor, "n d"], benign: Float[Tensor, "m d"], point: HookPoint) -> Float[Tensor, " d"]:
        """``w``, in float64."""
        used = _leading(benign, round((1 - self.null_space) * benign.shape[1]), point)
        left = rows - rows @ used.T @ used
        gram = left @ left.T
        penalty = float(self.ridge * gram.trace())
        if not penalty > _TINY * float(rows.square().sum()):
            raise FitError(
                f"{self.name}: the rows at {point} have nothing in the directions that {self.benign} does not use; "
                f"use a larger share of them ({self.name}:null_space=0.9), or --method caa"
            )
        w: Tensor = left.T @ torch.linalg.solve(
            gram + penalty * torch.eye(len(gram)).to(gram), gram.new_ones(len(gram))
        )
        return w

    def _benign(self, context: Context) -> Benign:
        rows, out = _rows(context, load_texts(self.benign), self.tokens)
        width = max(context.opened.parts.width_at(point) for point in context.points)
        size = max(1, AT_ONCE // (4 * len(rows) * width))
        found: dict[HookPoint, tuple[Tensor, Tensor]] = {}
        for at in range(0, len(context.points), size):
            got = capture(context.opened, rows, context.points[at : at + size])
            found |= {point: (h[~out], h[out]) for point, h in got.items()}
        return found

    def report(self, found: Mapping[str, Any]) -> tuple[str, ...]:
        told = "; ".join(f"{p} {decimal(steered, 2)}, {decimal(new, 2)}" for p, steered, _, new in found["readings"])
        return (
            f"mean reading at the rows of both sides, and root mean square at tokens of {found['benign']} that it was "
            f"not fitted on: {told}",
        )


def _rows(context: Context, texts: Sequence[str], most: int) -> tuple[list[Row], Bool[Tensor, " n"]]:
    """Of each token the row that ends with it, of texts as they stand and as a user's message, and which are held out;
    the first token of all prompts, whose activation is like no other, is always among the others."""
    if len(texts) < HELD_OUT:
        raise FitError(f"{AlphaSteer.name}: {len(texts)} texts to leave alone; it needs {HELD_OUT} or more")
    some = texts[: max(HELD_OUT, most // (2 * LONGEST))]
    rows = [Row(w.prompt[:1]) for w in context.written[:1] if w.prompt]
    out = [False] * len(rows)
    for number, text in enumerate(some):
        for written in dict.fromkeys((text, context.writer.prompt_text(text))):
            tokens = context.writer.encode(written)[: min(LONGEST, most // (2 * len(some)))]
            rows += [Row(tokens[: end + 1]) for end in range(len(tokens))]
            out += [number % HELD_OUT == HELD_OUT - 1] * len(tokens)
    return rows, torch.tensor(out)


def _leading(rows: Float[Tensor, "n d"], count: int, point: HookPoint) -> Float[Tensor, "k d"]:
    """Unit directions along which the rows have the most energy; fewer where they span fewer."""
    if not bool(torch.isfinite(rows).all()):
        raise FitError(f"activations at {point} are not finite; {IN_FLOAT32}")
    tall = len(rows) > rows.shape[1]
    sizes, vectors = torch.linalg.eigh(rows.T @ rows if tall else rows @ rows.T)
    sizes, vectors = sizes.flip(0).clamp_min(0), vectors.flip(1)
    kept = min(count, int((sizes > _TINY * sizes[0]).sum()))
    found: Tensor = vectors[:, :kept].T if tall else (vectors[:, :kept].T @ rows) / sizes[:kept, None].sqrt()
    return found


def _size(rows: Float[Tensor, "n d"], w: Float[Tensor, " d"]) -> float:
    return float((rows.double() @ w).square().mean().sqrt())
