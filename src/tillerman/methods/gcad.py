"""Gated cropped attention-delta steering: what a prompt's own tokens give to attention's output, as strong at each
token as that token would ask for them (arXiv 2605.10664)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tillerman.core.errors import FitError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.spec import option
from tillerman.core.steerings.base import Steering
from tillerman.core.steerings.gated import GatedSteering
from tillerman.core.steerings.vector import SteeringVector
from tillerman.data.writing import Written
from tillerman.methods.base import Context, Fitted, Habits
from tillerman.methods.prompts import OfPrompts, UnderPrompts
from tillerman.methods.readers import axes, held_out, spread
from tillerman.models.attending import SpanDemands, Spanned, SpanParts, asked, taken
from tillerman.models.batches import common_prefix
from tillerman.models.capture import in_passes
from tillerman.reports.numbers import decimal

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 1e3)  # in units of the first axis; the last reads next to nothing off the token
ENDS = (0.05, 0.95)  # quantiles of the gate that a fit tells


@dataclass(frozen=True)
class Gcad(OfPrompts):
    """``a + strength * g v`` at attention's output a, with ``v = mean [c(prompt) - c(other prompt)]`` and
    ``g = 2 / (1 + exp(-sharpness (d - D)))``.

    c is what the tokens of the prompt alone give to attention's output at the tokens of an answer (eq. 7 and 8), d how
    much a token asks for the prompt's mean key: the mean over heads of ``q . k / sqrt(width)``, and D the mean of d at
    answers under the prompt (eq. 9 and 10). d is read off a itself, by a ridge regression on answers without the
    prompt.
    """

    name: ClassVar[str] = "gcad"
    habits: ClassVar[Habits] = Habits(site="attn_out")
    sharpness: float = option(1.5, "how sharply the gate opens; 0: no gate, one vector for all tokens", least=0)
    tokens: int = option(3000, "tokens of answers that it is fitted on, at most", least=2)

    def fit(self, context: Context) -> Steering:
        return self._made(self._read(context), context, context.dealt)

    def fitted(self, context: Context) -> Fitted:
        """The nulls are made of what was read once, and keep the gate."""
        with context.stage(f"fit, {self}", len(context.items)) as progress:
            read = self._read(replace(context, progress=progress))
        vector = self._made(read, context, None)
        return Fitted(self, vector, partial(self.random, vector), lambda seed: self._made(read, context, seed))

    def _read(self, context: Context) -> _Found:
        if any(point.site != "attn_out" for point in context.points):
            raise UsageError(f"{self.name} steers attention's output, attn_out, not {context.points[0].site}")
        texts = _texts(self.answers(context), max(2, self.tokens // len(context.items)))
        found = _Found({}, {}, {}, len(texts.items))
        for point, given, read in _read(context, texts):
            found.parts[point], found.norms[point] = given.parts, float(read.outputs.norm(dim=-1).mean())
            if self.sharpness:
                found.gates[point] = _gate(given, read, texts.items, self.sharpness, context.seed)
        return found

    def _made(self, found: _Found, context: Context, dealt: int | None) -> Steering:
        """``dealt``, the null: by a coin for each item, the prompt's part is added or taken away."""
        signs = {p: _coins(len(parts), dealt)[:, None] for p, parts in found.parts.items()}
        directions = {p: (signs[p] * parts).mean(0) for p, parts in found.parts.items()}
        _ensure_changed(directions)
        gates = found.gates
        facts = [[str(p), *(round(x, 4) for x in one.told)] for p, one in gates.items()]
        told = replace(context.provenance, found={"gates": facts, "tokens": found.tokens})
        if not self.sharpness:
            return SteeringVector(directions, found.norms, told)
        return GatedSteering(
            {p: gates[p].mean * float(v.norm()) for p, v in directions.items()},
            found.norms,
            told,
            {p: one.keys for p, one in gates.items()},
            {p: one.offsets for p, one in gates.items()},
            {p: 2 * v[None] for p, v in directions.items()},
            "logistic",
        )

    def report(self, found: Mapping[str, Any]) -> tuple[str, ...]:
        if not found["gates"]:  # no gate
            return ()
        each = "; ".join(
            f"{point} {decimal(share, 2)}, {decimal(mean, 2)} ({decimal(low, 2)} to {decimal(high, 2)})"
            for point, share, mean, low, high in found["gates"]
        )
        return (
            f"at {found['tokens']} tokens of answers without the prompt, share of the demand for it that attention's "
            f"output tells on items held out, and the gate, mean (5 to 95 % of tokens): {each}",
        )


@dataclass(frozen=True, eq=False)
class _Found:
    """What was read, by hook point: of each item the prompt's part, the mean norm of attention's output, the gate."""

    parts: dict[HookPoint, Float[Tensor, "n d"]]
    norms: dict[HookPoint, float]
    gates: dict[HookPoint, _Gate]
    tokens: int


@dataclass(frozen=True, eq=False)
class _Texts:
    """Every answer under the prompt, under the other one, and as it is steered; of each token that is read its item."""

    told: list[Spanned]
    other: list[Spanned]
    plain: list[Spanned]
    items: Int[Tensor, " t"]


def _texts(answers: Sequence[UnderPrompts], each: int) -> _Texts:
    """``each``: tokens of an answer, at most."""
    ends = [spread(len(one.answer) + 1, each) for one in answers]
    of = [one.item for one, some in zip(answers, ends, strict=True) for _ in some]
    texts = _Texts([], [], [], torch.tensor(of))
    for one, some in zip(answers, ends, strict=True):
        texts.told.append(_spanned(one.told, one.other, one.answer, some))
        texts.other.append(_spanned(one.other, one.told, one.answer, some))
        texts.plain.append(_spanned(one.plain, one.plain, one.answer, some))
    if all(text.span[0] == text.span[1] for text in texts.told):
        raise FitError("gcad: the prompt leaves no tokens of its own; give another text, or use prompt-contrast")
    return texts


def _spanned(written: Written, beside: Written, answer: tuple[int, ...], ends: list[int]) -> Spanned:
    """The span: tokens of the prompt that those of the other one do not have, between what both begin and end with.
    Read: the prompt's last token, and tokens of the answer."""
    mine, theirs = written.prompt, beside.prompt
    begin = common_prefix(mine, theirs)
    end = common_prefix(mine[begin:][::-1], theirs[begin:][::-1])
    last = len(mine) - 1
    return Spanned(mine + answer, (begin, len(mine) - end), tuple(last + at for at in ends))


def _read(context: Context, texts: _Texts) -> Iterator[tuple[HookPoint, SpanParts, SpanDemands]]:
    """Point by point, several in one pass: the prompt's part less the other prompt's, and what answers ask of it."""
    opened = context.opened
    seen = 0
    for some in in_passes(context.points, 8 * len(texts.items) * opened.parts.width):
        layers = [point.layer for point in some]
        given = taken(opened, texts.told, layers)
        if any(text.span[0] < text.span[1] for text in texts.other):
            less = taken(opened, texts.other, list(given))
            given = {layer: replace(one, parts=one.parts - less[layer].parts) for layer, one in given.items()}
        read = asked(opened, texts.plain, {layer: one.key for layer, one in given.items()}) if given else {}
        for layer, one in given.items():
            seen += 1
            yield HookPoint(layer, "attn_out"), one, read[layer]
    if not seen:
        raise FitError(
            f"{context.points[0]}: nothing at these layers attends to keys and values in a way that transformers lets "
            "one see; fit layers that do, or use --method psr"
        )
    context.progress(len(context.items))


def _coins(count: int, seed: int | None) -> Float[Tensor, " n"]:
    if seed is None:
        return torch.ones(count)
    draw = random.Random(seed)
    return torch.tensor([draw.choice((-1.0, 1.0)) for _ in range(count)])


@dataclass(frozen=True, eq=False)
class _Gate:
    """``share``: of the demand's variance that it reads on items held out; ``mean`` and ``ends``: of the gate."""

    keys: Float[Tensor, "1 d"]
    offsets: Float[Tensor, 1]
    share: float
    mean: float
    ends: tuple[float, float]

    @property
    def told(self) -> tuple[float, ...]:
        return self.share, self.mean, *self.ends


def _gate(given: SpanParts, read: SpanDemands, items: Int[Tensor, " t"], sharpness: float, seed: int) -> _Gate:
    """Keys and offset that read ``sharpness (d - D)`` off attention's output, by the ridge that does it best on items
    held out."""
    h, demand = read.outputs.double(), read.demands.double()
    where, out = axes(h), held_out(items, seed)
    x = where.of(h)
    tried = []
    for ridge in RIDGES:
        guess = _linear(x[~out], demand[~out], ridge)
        tried.append((_explained(_value(x[out], guess), demand[out]), ridge))
    share, ridge = max(tried)
    weights = _linear(x, demand, ridge)
    usual = float((given.query * _each_head(given)).sum(1).mean())
    keys, offsets = where.keys(sharpness * weights[None, :-1], sharpness * (weights[-1:] - usual))
    gates = 2 * (h @ keys[0] + offsets).sigmoid()
    low, high = gates.quantile(torch.tensor(ENDS).to(gates)).tolist()
    return _Gate(keys, offsets, share, float(gates.mean()), (low, high))


def _each_head(given: SpanParts) -> Float[Tensor, "h k"]:
    return given.key.repeat_interleave(len(given.query) // len(given.key), 0)


def _linear(x: Float[Tensor, "n k"], target: Float[Tensor, " n"], ridge: float) -> Float[Tensor, " k+1"]:
    """Weights and offset (last) of a ridge regression in centred coordinates."""
    centre, mean = x.mean(0), target.mean()
    around = x - centre
    gram = around.T @ around / len(x) + ridge * torch.eye(x.shape[1]).to(x)
    weights = torch.linalg.solve(gram, around.T @ (target - mean) / len(x))
    return torch.cat([weights, (mean - weights @ centre)[None]])


def _value(x: Float[Tensor, "n k"], weights: Float[Tensor, " k+1"]) -> Float[Tensor, " n"]:
    return x @ weights[:-1] + weights[-1]


def _explained(guess: Float[Tensor, " n"], target: Float[Tensor, " n"]) -> float:
    """``1 - sum (target - guess)^2 / sum (target - mean)^2``; 0 where the target does not vary."""
    spread_out = float((target - target.mean()).square().sum())
    return 1 - float((target - guess).square().sum()) / spread_out if spread_out > 0 else 0.0


def _ensure_changed(directions: Mapping[HookPoint, Float[Tensor, " d"]]) -> None:
    for point, v in directions.items():
        if not bool(torch.isfinite(v).all()) or not float(v.norm()) > 0:
            raise FitError(
                f"{point}: attention takes nothing from the prompt, or its output is not finite; give another text, or "
                "open in float32"
            )
