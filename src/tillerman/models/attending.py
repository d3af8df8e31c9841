"""What attention takes from some tokens of a text: their part of its output, their mean key, and how much other tokens
ask for it.

Attention's output is linear in the values: run once more with the values of all other tokens at 0, the attention of
the model itself gives what these tokens contribute, under weights that still know of all (arXiv 2605.10664, eq. 7).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.errors import FitError
from tillerman.core.hookpoint import HookPoint
from tillerman.models.attention_calls import AttentionCall, See, watched
from tillerman.models.batches import Batch, batches, token_budget
from tillerman.models.branches import DeepEnoughError
from tillerman.models.edit import Edit, edit_forward
from tillerman.models.families import Anatomy
from tillerman.models.memory import fitting
from tillerman.models.opened import OpenModel


@dataclass(frozen=True)
class Spanned:
    """A text, the tokens of it whose part is wanted (from, to before), and the places that are read."""

    tokens: tuple[int, ...]
    span: tuple[int, int]
    places: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class SpanParts:
    """At one layer: of each text the span's part of attention's output, the mean over its places; over all texts the
    span's mean key as attention compares it (rotated, times attention's scale), and the mean query at the places."""

    parts: Float[Tensor, "n d"]
    key: Float[Tensor, "g k"]
    query: Float[Tensor, "h k"]


@dataclass(frozen=True, eq=False)
class SpanDemands:
    """At one layer, of every place that was read, text by text: attention's output, and how much the token asks for a
    key, the mean over heads of ``scale * q . k``."""

    outputs: Float[Tensor, "t d"]
    demands: Float[Tensor, " t"]


@torch.no_grad()
def taken(opened: OpenModel, texts: Sequence[Spanned], layers: Sequence[int]) -> dict[int, SpanParts]:
    """What the spans give to attention's output (``attn_out``), without layers that have no attention over keys.

    ``FitError`` where the family's attention cannot be run with other values.
    """
    found: dict[int, _Sums] = {}

    def run(batch: Batch) -> dict[int, Float[Tensor, "b d"]]:
        marks = _Marks.of(batch, [texts[i] for i in batch.rows.tolist()], opened.device)
        mean = marks.read / marks.read.sum(1, keepdim=True)
        made: dict[int, Tensor] = {}
        new: dict[int, _Sums] = {}  # of this batch alone: it may be run again, in halves

        def see(layer: int, call: AttentionCall) -> Tensor:
            new[layer] = _Sums.of(call, marks)
            return call.heads(call.value * marks.span[:, None, :, None].to(call.value))

        def finish(layer: int, part: Tensor) -> None:
            made[layer] = torch.einsum("bs,bsd->bd", mean, part.float()).cpu()

        _pass(opened, batch, layers, see, finish)
        for layer, sums in new.items():
            found[layer] = sums if layer not in found else found[layer] + sums
        return made

    parts: dict[int, Tensor] = {}
    for batch, made in _batches(opened, texts, run):
        for layer, rows in made.items():
            parts.setdefault(layer, torch.zeros(len(texts), rows.shape[1]))[batch.rows] = rows
    return {layer: SpanParts(rows, *found[layer].means()) for layer, rows in parts.items()}


@torch.no_grad()
def asked(
    opened: OpenModel, texts: Sequence[Spanned], keys: Mapping[int, Float[Tensor, "g k"]]
) -> dict[int, SpanDemands]:
    """How much each place of the texts asks for a key of each layer; their spans are not looked at."""
    points = {layer: HookPoint(layer, "attn_out") for layer in keys}

    def run(batch: Batch) -> dict[int, tuple[Tensor, Tensor]]:
        marks = _Marks.of(batch, [texts[i] for i in batch.rows.tolist()], opened.device)
        where = marks.read.bool()
        demands: dict[int, Tensor] = {}
        made: dict[int, tuple[Tensor, Tensor]] = {}

        def see(layer: int, call: AttentionCall) -> None:
            key = keys[layer].to(call.query.device)
            each = key.repeat_interleave(call.query.shape[1] // len(key), 0)
            demands[layer] = torch.einsum("bhsk,hk->bs", call.query.float(), each) / len(each)

        def keep(layer: int, h: Tensor) -> Tensor:
            made[layer] = h[where].float().cpu(), demands[layer][where].cpu()
            if len(made) == len(keys):
                raise DeepEnoughError
            return h

        edits: dict[HookPoint, Edit] = {point: partial(keep, layer) for layer, point in points.items()}
        _run(opened, batch, edits, see, list(keys))
        return made

    rows: dict[int, list[tuple[int, Tensor, Tensor]]] = {layer: [] for layer in keys}
    for batch, made in _batches(opened, texts, run):
        sizes = [len(texts[i].places) for i in batch.rows.tolist()]
        for layer, (outputs, demands) in made.items():
            cut = zip(batch.rows.tolist(), outputs.split(sizes), demands.split(sizes), strict=True)
            rows[layer] += cut
    ordered = {layer: sorted(mine, key=lambda row: row[0]) for layer, mine in rows.items()}
    return {
        layer: SpanDemands(torch.cat([h for _, h, _ in mine]), torch.cat([d for _, _, d in mine]))
        for layer, mine in ordered.items()
    }


@dataclass(frozen=True, eq=False)
class _Marks:
    """Of a batch, 1 or 0 for each token: whether it is of the span, and whether it is read."""

    span: Float[Tensor, "b s"]
    read: Float[Tensor, "b s"]

    @classmethod
    def of(cls, batch: Batch, texts: Sequence[Spanned], device: torch.device) -> _Marks:
        span, read = torch.zeros(batch.tokens.shape), torch.zeros(batch.tokens.shape)
        for at, text in enumerate(texts):
            span[at, slice(*text.span)] = 1.0
            read[at, list(text.places)] = 1.0
        return cls(span.to(device), read.to(device))


@dataclass(frozen=True, eq=False)
class _Sums:
    """Keys of spans and queries of places, summed, and how many."""

    keys: Float[Tensor, "g k"]
    spans: float
    queries: Float[Tensor, "h k"]
    places: float

    @classmethod
    def of(cls, call: AttentionCall, marks: _Marks) -> _Sums:
        return cls(
            call.scale * torch.einsum("bs,bgsk->gk", marks.span, call.key.float()).cpu(),
            float(marks.span.sum()),
            torch.einsum("bs,bhsk->hk", marks.read, call.query.float()).cpu(),
            float(marks.read.sum()),
        )

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(
            self.keys + other.keys,
            self.spans + other.spans,
            self.queries + other.queries,
            self.places + other.places,
        )

    def means(self) -> tuple[Tensor, Tensor]:
        return self.keys / max(self.spans, 1.0), self.queries / max(self.places, 1.0)


def _batches(opened: OpenModel, texts: Sequence[Spanned], run: Callable[[Batch], Any]) -> Iterator[tuple[Batch, Any]]:
    # Right padding: real tokens of a causal model never see it.
    work = batches([t.tokens for t in texts], pad=opened.pad_id, side="right", budget=token_budget(opened.parts))
    yield from fitting(opened.parts, work, run, Batch.halves)


def _pass(
    opened: OpenModel,
    batch: Batch,
    layers: Sequence[int],
    see: Callable[[int, AttentionCall], Tensor],
    finish: Callable[[int, Tensor], None],
) -> None:
    """A pass in which ``finish`` is told, layer by layer, what the heads that ``see`` gives back become in
    ``attn_out``."""
    parts, crossed = opened.parts, _Crossed()
    deepest = max(layers)

    def at_heads(layer: int, h: Tensor) -> Tensor:
        if layer in crossed.part:
            if h.shape != crossed.whole[layer].shape or not torch.equal(h, crossed.whole[layer]):
                raise FitError(_changed_heads(opened, layer))
            crossed.given[layer] = h
        return h

    def at_output(layer: int, h: Tensor) -> Tensor:
        if layer in crossed.given:
            finish(layer, _to_stream(parts, layer, crossed.given.pop(layer), crossed.part.pop(layer)))
            crossed.whole.pop(layer)
        if layer == deepest:
            raise DeepEnoughError
        return h

    def keep(layer: int, call: AttentionCall) -> Tensor:
        crossed.part[layer], crossed.whole[layer] = see(layer, call), call.whole
        return crossed.part[layer]

    edits: dict[HookPoint, Edit] = {HookPoint(layer, "heads"): partial(at_heads, layer) for layer in layers}
    edits |= {HookPoint(layer, "attn_out"): partial(at_output, layer) for layer in layers}
    _run(opened, batch, edits, keep, layers)


@dataclass(frozen=True, eq=False)
class _Crossed:
    """Between the attention function and the end of its layer's attention."""

    part: dict[int, Tensor] = field(default_factory=dict)
    whole: dict[int, Tensor] = field(default_factory=dict)
    given: dict[int, Tensor] = field(default_factory=dict)


def _run(opened: OpenModel, batch: Batch, edits: Mapping[HookPoint, Edit], see: See, layers: Sequence[int]) -> None:
    device = opened.device
    with (
        watched(opened.parts, layers, see),
        edit_forward(opened.parts, edits, lambda _: None),
        suppress(DeepEnoughError),
    ):
        opened.model(input_ids=batch.tokens.to(device), attention_mask=batch.mask.to(device), use_cache=False)


def _to_stream(parts: Anatomy, layer: int, heads: Tensor, part: Tensor) -> Tensor:
    """A part of the heads as a part of ``attn_out``: through the output projection without its bias; where a norm
    follows, what the norm gives less what it would give without the part."""
    projection = parts.part(HookPoint(layer, "heads"))
    joins = parts.part(HookPoint(layer, "attn_out"))
    own: Tensor = projection.forward(part).float() - projection.forward(torch.zeros_like(part[:1, :1])).float()
    if any(module is projection for module in joins.modules()):
        return own
    whole = projection.forward(heads).float()
    gone: Tensor = joins.forward(whole).float() - joins.forward(whole - own).float()
    return gone


def _changed_heads(opened: OpenModel, layer: int) -> str:
    return (
        f"layer {layer}: attention of {opened.model.config.model_type!r} changes its heads before it projects them, so "
        "that their parts cannot be told apart; fit other layers, or use --method psr"
    )
