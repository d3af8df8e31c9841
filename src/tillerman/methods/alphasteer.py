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
from tillerman.data.pairings import another
from tillerman.methods.base import Context, Fitted
from tillerman.methods.contrast import ContrastMethod
from tillerman.methods.estimators import mean_difference
from tillerman.methods.fit import Activations, fit
from tillerman.methods.readers import spread
from tillerman.models.capture import capture, in_passes
from tillerman.reports.numbers import decimal

LONGEST = 64  # tokens of one text to leave alone
HELD_OUT = 5  # one text in so many is not fitted on
_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class TokenReader:
    """``w`` at one hook point, with means over tokens: of the reading and of its size at those to steer, and the root
    of its square at benign ones, fitted on and held out."""

    w: Float[Tensor, " d"]
    steered: float
    size: float
    known: float
    held_out: float


@dataclass(frozen=True)
class AlphaSteer(ContrastMethod):
    """``h + strength * (w . h) v``, v the vector of ``caa`` and w, in the null space of the benign activations, the
    ridge regression that reads 1 at the tokens of both answers and at the prompt's last one.

    With H these tokens ``[n d]`` and P the projection onto the directions along which benign tokens have the least
    energy, ``w = P H^T (H P H^T + a I)^-1 1``. It is the paper's ``delta P``: its regression target is the same vector
    for every row, so that its d x d matrix is ``v w^T``.
    """

    name: ClassVar[str] = "alphasteer"
    benign: str = option("sample:tinystories", "text to leave alone: a file, or sample:tinystories")
    null_space: float = option(0.5, "share of all directions, those that such text uses least", above=0, most=1)
    ridge: float = option(
        0.01, "weight of the reader's squared length; tokens all alike are read as 1 / (1 + it)", above=0
    )
    tokens: int = option(3000, "tokens of either kind, at most", least=2 * HELD_OUT)

    def direction(
        self, positive: Float[Tensor, "n d"], negative: Float[Tensor, "m d"], paired: bool
    ) -> Float[Tensor, " d"]:
        return mean_difference(positive, negative, paired)

    def spared(self) -> tuple[str, ...]:
        return (self.benign,)

    def sources(self) -> tuple[str, ...]:
        return (hashlib.sha256("\0".join(load_texts(self.benign)).encode()).hexdigest(),)

    def fitted(self, context: Context) -> Fitted:
        """The nulls are made from the same activations and keep the readers."""
        sides, readers = self.sides(context), self.readers(context)
        made = self.made(sides.activations, readers, context.provenance)
        return Fitted(
            self,
            made,
            partial(self.random, made),
            lambda seed: self.made(sides.shuffled(seed), readers, context.provenance),
        )

    def fit(self, context: Context) -> Steering:
        return self.made(self.sides(context).activations, self.readers(context), context.provenance)

    def made(
        self, activations: Activations, readers: Mapping[HookPoint, TokenReader], provenance: Provenance
    ) -> GatedSteering:
        vector = fit(activations, self.direction, provenance)
        here = {p: readers[p] for p in vector.points}
        facts = [
            [str(p), *(round(x, 4) for x in (one.steered, one.known, one.held_out))] for p, one in sorted(here.items())
        ]
        return GatedSteering(
            {p: one.size * vector.norm(p) for p, one in here.items()},
            vector.stream_norms,
            replace(provenance, found={"readings": facts, "benign": self.benign}),
            {p: one.w[None] for p, one in here.items()},
            {p: torch.zeros(1) for p in here},
            {p: vector.directions[p][None] for p in here},
        )

    def readers(self, context: Context) -> dict[HookPoint, TokenReader]:
        """Several hook points in one pass over the tokens."""
        wanted = _wanted_rows(context, self.tokens)
        benign, out = _benign_rows(context, load_texts(self.benign), self.tokens)
        rows = [*wanted, *benign]
        width = max(context.opened.parts.width_at(point) for point in context.points)
        found: dict[HookPoint, TokenReader] = {}
        for some in in_passes(context.points, 4 * len(rows) * width):
            for point, h in capture(context.opened, rows, some).items():
                if not bool(torch.isfinite(h).all()):
                    raise FitError(f"activations at {point} are not finite; {IN_FLOAT32}")
                plain = h[len(wanted) :]
                found[point] = self.reader(h[: len(wanted)], plain[~out], plain[out], point)
        return found

    def reader(
        self,
        wanted: Float[Tensor, "n d"],
        known: Float[Tensor, "m d"],
        held_out: Float[Tensor, "k d"],
        point: HookPoint,
    ) -> TokenReader:
        """In float64."""
        rows = wanted.double()
        used = _leading(known.double(), round((1 - self.null_space) * known.shape[1]))
        left = rows - rows @ used.T @ used
        energy = float(left.square().sum())
        if not energy > _TINY * float(rows.square().sum()):
            raise FitError(
                f"{self.name}: the tokens to steer at {point} have nothing in the directions that {self.benign} does "
                f"not use; use a larger share of them ({self.name}:null_space=0.9), or --method caa"
            )
        tall, ones = len(left) > left.shape[1], left.new_ones(len(left))
        gram = left.T @ left if tall else left @ left.T  # the smaller one
        gram = gram + self.ridge * energy * torch.eye(len(gram)).to(gram)
        w = torch.linalg.solve(gram, left.T @ ones) if tall else left.T @ torch.linalg.solve(gram, ones)
        read, others = rows @ w, [float((side.double() @ w).square().mean().sqrt()) for side in (known, held_out)]
        return TokenReader(w, float(read.mean()), float(read.abs().mean()), others[0], others[1])

    def report(self, found: Mapping[str, Any]) -> tuple[str, ...]:
        told = "; ".join(f"{p} {decimal(steered, 2)}, {decimal(new, 2)}" for p, steered, _, new in found["readings"])
        return (
            f"mean reading at the tokens of the answers, and root mean square at tokens of {found['benign']} that it "
            f"was not fitted on: {told}",
            "KL and perplexity are of neutral text, which it is fitted to leave alone: they say nothing of chats",
        )


def _wanted_rows(context: Context, most: int) -> list[Row]:
    """Of tokens of both answers, and of each prompt's last one, the row that ends with it."""
    each = max(2, most // (2 * len(context.items)))
    rows: dict[Row, None] = {}
    for item, written in zip(context.items, context.written, strict=True):
        for place in (item.right, another(item)):
            answer = written.answers[place]
            ends = (written.prompt + answer[:end] for end in spread(len(answer) + 1, each))
            rows |= dict.fromkeys(Row(tokens) for tokens in ends if tokens)
    return list(rows)


def _benign_rows(context: Context, texts: Sequence[str], most: int) -> tuple[list[Row], Bool[Tensor, " n"]]:
    """The same of texts as they stand and as a user's message, and which are held out; the first token of all prompts,
    whose activation is like no other, is always among the others."""
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


def _leading(rows: Float[Tensor, "n d"], count: int) -> Float[Tensor, "k d"]:
    """Unit directions along which the rows have the most energy; fewer where they span fewer."""
    tall = len(rows) > rows.shape[1]
    sizes, vectors = torch.linalg.eigh(rows.T @ rows if tall else rows @ rows.T)
    sizes, vectors = sizes.flip(0).clamp_min(0), vectors.flip(1)
    kept = min(count, int((sizes > _TINY * sizes[0]).sum()))
    found: Tensor = vectors[:, :kept].T if tall else (vectors[:, :kept].T @ rows) / sizes[:kept, None].sqrt()
    return found
