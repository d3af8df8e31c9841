"""Prompt steering replacement: what a prompt adds to each token of an answer, as a direction and a strength that is
read off the token itself (arXiv 2605.03907)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tillerman.core.errors import FitError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import Row
from tillerman.core.spec import option
from tillerman.core.steerings.base import Steering
from tillerman.core.steerings.gated import GatedSteering
from tillerman.core.steerings.vector import SteeringVector
from tillerman.methods.base import Context
from tillerman.methods.prompts import OfPrompts, UnderPrompts
from tillerman.methods.readers import axes, held_out, relu_fit, spread
from tillerman.models.capture import capture, in_passes
from tillerman.reports.numbers import decimal

RIDGES = (1e-3, 1e-2, 1e-1, 1.0)  # of which the items held out choose one; in units of the targets' variance
ROUNDS = 3  # of the direction in turn with the gate


@dataclass(frozen=True)
class Psr(OfPrompts):
    """``h + strength * max(w . h + b, 0) z``, fitted to ``h_t(with the prompt) - h_t(without)`` at the tokens of the
    wanted answers and at the prompt's last one, z of length 1; strength 1 adds what the prompt adds."""

    name: ClassVar[str] = "psr"
    strength: str = option(
        "token", "read off each token, or constant: the mean of what the prompt adds", choices=("token", "constant")
    )
    tokens: int = option(3000, "tokens that it is fitted on, at most", least=2)

    def fit(self, context: Context) -> Steering:
        rows = _rows(self.answers(context), max(2, self.tokens // len(context.items)))
        norms: dict[HookPoint, float] = {}
        made: dict[HookPoint, _Found] = {}
        for point, plain, added in _read(context, rows):
            norms[point] = float(plain.norm(dim=-1).mean())
            if context.dealt is not None:  # the null: by a coin for each item, the prompt added or took away
                added = added * _coins(rows.items, context.dealt)[:, None]
            made[point] = _found(plain, added, rows.items, context.seed)
        facts = [[str(p), round(one.constant, 4), round(one.gated, 4), round(one.silent, 4)] for p, one in made.items()]
        told = replace(context.provenance, found={"explained": facts, "tokens": len(rows.items)})
        if self.strength == "constant":
            return SteeringVector({p: one.mean for p, one in made.items()}, norms, told)
        return GatedSteering(
            {p: one.size for p, one in made.items()},
            norms,
            told,
            {p: one.keys for p, one in made.items()},
            {p: one.offsets for p, one in made.items()},
            {p: one.direction for p, one in made.items()},
            "relu",
        )

    def report(self, found: Mapping[str, Any]) -> tuple[str, ...]:
        shares = "; ".join(
            f"{point} {decimal(constant, 2)}, {decimal(gated, 2)}, {decimal(silent, 2)}"
            for point, constant, gated, silent in found["explained"]
        )
        return (
            f"what the prompt adds at {found['tokens']} tokens, share explained on items held out by one vector, by "
            f"the gate, and share of tokens that the gate leaves alone: {shares}",
        )


@dataclass(frozen=True, eq=False)
class _Rows:
    """Of each token the row that ends with it, with and without the prompt, and the item that it belongs to."""

    told: list[Row]
    plain: list[Row]
    items: Int[Tensor, " n"]


def _rows(answers: Sequence[UnderPrompts], each: int) -> _Rows:
    """``each``: tokens of an answer, at most."""
    ends = [spread(len(one.answer) + 1, each) for one in answers]
    of = [one.item for one, some in zip(answers, ends, strict=True) for _ in some]
    found = _Rows([], [], torch.tensor(of))
    for one, some in zip(answers, ends, strict=True):
        for end in some:
            for written, rows in ((one.told, found.told), (one.other, found.plain)):
                rows.append(Row(written.prompt + one.answer[:end], len(written.prompt)))
    return found


def _read(context: Context, rows: _Rows) -> Iterator[tuple[HookPoint, Float[Tensor, "n d"], Float[Tensor, "n d"]]]:
    """Activations without the prompt and what it adds, point by point."""
    n, opened = len(rows.items), context.opened
    width = max(opened.parts.width_at(point) for point in context.points)
    for some in in_passes(context.points, 8 * n * width):
        got = capture(opened, [*rows.told, *rows.plain], some)
        for point in some:
            yield point, got[point][n:], got[point][:n] - got[point][n:]
    context.progress(len(context.items))


def _coins(items: Int[Tensor, " n"], seed: int) -> Float[Tensor, " n"]:
    draw = random.Random(seed)
    sides = torch.tensor([draw.choice((-1.0, 1.0)) for _ in range(1 + int(items.max()))])
    return sides[items]


@dataclass(frozen=True, eq=False)
class _Found:
    """The gate at one hook point. ``constant`` and ``gated``: share of what the prompt adds that the mean of other
    items explains, and that the gate does; ``silent``: of tokens that it leaves alone; ``size``: its mean."""

    keys: Float[Tensor, "1 d"]
    offsets: Float[Tensor, 1]
    direction: Float[Tensor, "1 d"]
    mean: Float[Tensor, " d"]
    size: float
    constant: float
    gated: float
    silent: float


def _found(plain: Float[Tensor, "n d"], added: Float[Tensor, "n d"], items: Int[Tensor, " n"], seed: int) -> _Found:
    h, change = plain.double(), added.double()
    if not bool(torch.isfinite(change).all()) or not float(change.norm()) > 0:
        raise FitError(
            "the prompt changes no activation, or they are not finite; give another text, or open in float32"
        )
    where = axes(h)
    x = where.of(h)
    out = held_out(items, seed)
    tried = []
    for ridge in RIDGES:
        weights, z = _alternate(x[~out], change[~out], ridge)
        tried.append((_explained(_strengths(x[out], weights)[:, None] * z, change[out]), -ridge))
    gated, negative = max(tried)
    weights, z = _alternate(x, change, -negative)
    strengths = _strengths(x, weights)
    if not float(strengths.mean()) > 0:
        raise FitError("the gate opens at no token: what the prompt adds has no direction that answers share")
    keys, offsets = where.keys(weights[None, :-1], weights[-1:])
    return _Found(
        keys,
        offsets,
        z[None],
        change.mean(0).float(),
        float(strengths.mean()),
        _explained(change[~out].mean(0).expand_as(change[out]), change[out]),
        gated,
        float((strengths == 0).double().mean()),
    )


def _alternate(
    x: Float[Tensor, "n k"], change: Float[Tensor, "n d"], ridge: float
) -> tuple[Float[Tensor, " k+1"], Float[Tensor, " d"]]:
    """Weights of the gate and a unit direction z: each in turn the best for the other, by ``sum |change - a z|^2``,
    from the mean change on. The ridge is in units of the mean square of what the gate is to give."""
    z = _unit(change.mean(0))
    weights: Tensor | None = None
    for _ in range(ROUNDS):
        target = change @ z
        weights = relu_fit(x, target, ridge * float(target.var(correction=0)) / x.shape[1], weights)
        turned = _strengths(x, weights) @ change
        if not float(turned.norm()) > 0:
            break
        z = _unit(turned)
    assert weights is not None
    return weights, z


def _strengths(x: Float[Tensor, "n k"], weights: Float[Tensor, " k+1"]) -> Float[Tensor, " n"]:
    return (x @ weights[:-1] + weights[-1]).relu()


def _explained(guess: Float[Tensor, "n d"], change: Float[Tensor, "n d"]) -> float:
    """``1 - sum |change - guess|^2 / sum |change|^2``."""
    return 1 - float((change - guess).square().sum() / change.square().sum())


def _unit(v: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
    unit: Tensor = v / v.norm().clamp_min(1e-30)
    return unit
