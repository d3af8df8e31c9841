"""The second stream of a look ahead: what a hook point would hold under displaced parameters.

It runs beside the model, from the embedding to the hook point and no further, in modules of its own that
share the weights which are not displaced. One pass of it per pass of the model, whatever the number of
examples the displacement was fitted on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cosine_similarity
from transformers import DynamicCache

from tillerman.core.errors import MismatchError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.sparse import entries
from tillerman.core.steerings.lookahead import LookaheadSteering
from tillerman.models.batches import Batch, batches, token_budget
from tillerman.models.branches import DeepEnoughError, placed
from tillerman.models.edit import Edit, edit_forward
from tillerman.models.families import Anatomy
from tillerman.models.memory import fitting
from tillerman.models.opened import OpenModel
from tillerman.models.shadow import set_parameters, shadow

Ends = dict[HookPoint, Float[Tensor, "b s d"]]


class SecondStream:
    """Runs the displaced model up to the hook points of a steering."""

    def __init__(self, parts: Anatomy, steering: LookaheadSteering) -> None:
        self._steering, self._parts = steering, shadow(parts)
        own = dict(self._parts.decoder.named_parameters())
        unknown = sorted(set(steering.displacement) - set(own))
        if unknown:
            raise MismatchError(f"{unknown[0]}: displaced in {steering.provenance.model_id}, and this model has none")
        self._weights = {name: own[name].detach() for name in steering.displacement}
        self._tangents: dict[str, Tensor] = {}
        for name, w in self._weights.items():
            tangent = steering.displacement[name].to_dense().to(w)
            if steering.mode == "fd":
                set_parameters(self._parts.decoder, {name: w + steering.epsilon * tangent})
            else:
                self._tangents[name] = tangent
        self._cache: _Cache | None = None

    @property
    def columns(self) -> int:
        """How many columns its cache holds."""
        return 0 if self._cache is None else self._cache.columns

    def forget(self) -> None:
        self._cache = None

    def run(
        self,
        tokens: Int[Tensor, "b s"],
        mask: Bool[Tensor, "b k"],
        positions: Int[Tensor, "b s"] | None,
        *,
        keep_cache: bool,
    ) -> Ends:
        """At the hook points, the stream under displaced parameters (``fd``), or its derivative (``jvp``), of
        these tokens. ``mask`` shows the columns in the cache too."""
        with torch.inference_mode(False), torch.no_grad():
            if keep_cache and self._cache is None:
                self._cache = _Cache(self._parts)
            cache = self._cache if keep_cache else None
            run = self._displaced if self._steering.mode == "fd" else self._tangent
            return run(tokens, mask, positions, cache)

    def changes(self, ran: Ends, before: Mapping[HookPoint, Tensor]) -> Ends:
        """The change of each hook point at strength 1, from what ``run`` gave and the stream ``before``."""
        if self._steering.mode == "jvp":
            return {point: -tangent for point, tangent in ran.items()}
        return {point: (before[point] - moved) / self._steering.epsilon for point, moved in ran.items()}

    def _displaced(self, tokens: Tensor, mask: Tensor, positions: Tensor | None, cache: _Cache | None) -> Ends:
        return run_to(
            self._parts, self._steering.points, tokens, mask, positions, None if cache is None else cache.plain
        )

    def _tangent(self, tokens: Tensor, mask: Tensor, positions: Tensor | None, cache: _Cache | None) -> Ends:
        decoder = self._parts.decoder
        # The fused kernels of attention have no forward derivative.
        with forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
            duals = {n: forward_ad.make_dual(w, self._tangents[n]) for n, w in self._weights.items()}  # type: ignore[no-untyped-call]
            set_parameters(decoder, duals)
            try:
                with _dual(cache):
                    kept = None if cache is None else cache.plain
                    got = run_to(self._parts, self._steering.points, tokens, mask, positions, kept)
            finally:
                set_parameters(decoder, self._weights)
            found = {point: forward_ad.unpack_dual(h) for point, h in got.items()}  # type: ignore[no-untyped-call]
            return {p: torch.zeros_like(h.primal) if h.tangent is None else h.tangent for p, h in found.items()}


class _Cache:
    """Keys and values of the second stream and, where it is a derivative, theirs."""

    def __init__(self, parts: Anatomy) -> None:
        self.plain: Any = DynamicCache(config=parts.causal.config)
        self.tangents: dict[tuple[int, str], Tensor] = {}

    @property
    def columns(self) -> int:
        return int(self.plain.get_seq_length())


@contextmanager
def _dual(cache: _Cache | None) -> Iterator[None]:
    """Inside, the cache holds dual numbers; they do not outlive their level."""
    for (layer, name), tangent in ({} if cache is None else cache.tangents).items():
        kept = cache.plain.layers[layer]  # type: ignore[union-attr]
        setattr(kept, name, forward_ad.make_dual(getattr(kept, name), tangent))  # type: ignore[no-untyped-call]
    yield
    for layer, kept in enumerate(() if cache is None else cache.plain.layers):
        for name in ("keys", "values"):
            held = getattr(kept, name, None)
            if held is not None and held.numel():
                primal, tangent = forward_ad.unpack_dual(held)  # type: ignore[no-untyped-call]
                setattr(kept, name, primal)
                cache.tangents[layer, name] = torch.zeros_like(primal) if tangent is None else tangent  # type: ignore[union-attr]


def run_to(
    parts: Anatomy,
    points: Sequence[HookPoint],
    tokens: Int[Tensor, "b s"],
    mask: Bool[Tensor, "b k"],
    positions: Int[Tensor, "b s"] | None,
    cache: Any = None,
) -> Ends:
    """The stream at the hook points; the pass ends at the last of them."""
    got: Ends = {}
    edits = {point: _keeper(point, got, len(points)) for point in points}
    with edit_forward(parts, edits, lambda _: None), suppress(DeepEnoughError):
        parts.decoder(
            input_ids=tokens,
            attention_mask=mask.long(),
            past_key_values=cache,
            use_cache=cache is not None,
            **({} if positions is None else placed(parts, positions)),
        )
    return got


def _keeper(point: HookPoint, got: Ends, count: int) -> Edit:
    def keep(h: Tensor) -> Tensor:
        got[point] = h
        if len(got) == count:
            raise DeepEnoughError
        return h

    return keep


def measured(
    opened: OpenModel, steering: LookaheadSteering, prompts: Sequence[tuple[int, ...]], *, own_step: bool = False
) -> LookaheadSteering:
    """The steering with its norms (``change_norms``) and, if ``own_step``, a step of its own."""
    return change_norms(opened, with_own_step(opened, steering, prompts) if own_step else steering, prompts)


def with_own_step(
    opened: OpenModel, steering: LookaheadSteering, prompts: Sequence[tuple[int, ...]]
) -> LookaheadSteering:
    """With a step that moves the stream by ``sqrt(machine epsilon)`` of its norm, where there is one (``fd``).
    Rounding and curvature then weigh about the same.

    A fixed step (the paper's is 1e-6) drowns in rounding where gradients are small or numbers are short. A share
    of ``|theta| / |g|`` is only where the search begins: a gradient that lies in few parameters moves the stream
    far more than its length says.
    """
    if steering.mode != "fd":
        return steering
    share = math.sqrt(torch.finfo(opened.parts.causal.dtype).eps)
    steering = replace(steering, epsilon=_first_step(opened.parts, steering.displacement))
    for _ in range(2):
        tried = change_norms(opened, steering, prompts[:8])
        steering = replace(tried, epsilon=share / max(tried.dose(point, 1.0) for point in tried.points))
    return steering


def _first_step(parts: Anatomy, gradient: Mapping[str, Tensor]) -> float:
    """``sqrt(machine epsilon) |theta| / |g|``."""
    own = dict(parts.decoder.named_parameters())
    size = math.sqrt(sum(float(own[name].detach().float().square().sum()) for name in gradient))
    slope = math.sqrt(sum(float(entries(g).square().sum()) for g in gradient.values()))
    return math.sqrt(torch.finfo(parts.causal.dtype).eps) * size / slope


def change_norms(
    opened: OpenModel, steering: LookaheadSteering, prompts: Sequence[tuple[int, ...]]
) -> LookaheadSteering:
    """The steering with the mean norms of its change, and of the stream, at the prompts' last tokens."""
    sizes: dict[HookPoint, list[Tensor]] = {point: [] for point in steering.points}
    for ends in _ends(opened, steering, prompts):
        for point, both in ends.items():
            sizes[point].append(both.norm(dim=-1).cpu())
    means = {point: torch.cat(found).mean(0).tolist() for point, found in sizes.items()}
    return replace(
        steering,
        change_norms={point: mean[0] for point, mean in means.items()},
        stream_norms={point: mean[1] for point, mean in means.items()},
    )


def agreement(
    opened: OpenModel, steering: LookaheadSteering, whole: LookaheadSteering, prompts: Sequence[tuple[int, ...]]
) -> dict[HookPoint, tuple[float, float]]:
    """How far the change is that of ``whole``, at the prompts' last tokens: mean cosine, ratio of mean norms."""
    facts: dict[HookPoint, list[Tensor]] = {point: [] for point in steering.points}
    for ours, theirs in zip(_ends(opened, steering, prompts), _ends(opened, whole, prompts), strict=True):
        for point in steering.points:
            a, b = ours[point][:, 0], theirs[point][:, 0]
            cosine = cosine_similarity(a, b, eps=torch.finfo(a.dtype).tiny)  # changes may be very short
            facts[point].append(torch.stack([cosine, a.norm(dim=-1), b.norm(dim=-1)], 1).cpu())
    means = {point: torch.cat(found).mean(0).tolist() for point, found in facts.items()}
    return {point: (cosine, norm / other) for point, (cosine, norm, other) in means.items()}


def _ends(
    opened: OpenModel, steering: LookaheadSteering, prompts: Sequence[tuple[int, ...]]
) -> Iterator[dict[HookPoint, Float[Tensor, "b 2 d"]]]:
    """Batch by batch, at the prompts' last tokens: the change at strength 1, and the stream."""
    stream = SecondStream(opened.parts, steering)

    def run(batch: Batch) -> dict[HookPoint, Float[Tensor, "b 2 d"]]:
        tokens, mask = batch.tokens.to(opened.device), batch.mask.to(opened.device).bool()
        positions = batch.positions.to(opened.device)
        with torch.no_grad():
            before = run_to(opened.parts, steering.points, tokens, mask, positions)
        change = stream.changes(stream.run(tokens, mask, positions, keep_cache=False), before)
        return {p: torch.stack([change[p][:, -1], before[p][:, -1]], 1).float() for p in steering.points}

    work = batches(prompts, pad=opened.pad_id, budget=token_budget(opened.parts))
    yield from (ends for _, ends in fitting(opened.parts, work, run, Batch.halves))
