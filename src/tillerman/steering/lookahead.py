"""The second streams of a plan that looks ahead, beside the passes of a live model."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tillerman.core.errors import UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Plan
from tillerman.core.steerings.base import Steering
from tillerman.core.steerings.lookahead import LookaheadSteering
from tillerman.models.families import Anatomy
from tillerman.models.forward import ForwardInfo
from tillerman.models.lookahead import SecondStream

_PROMPT_ONLY = ("prompt", "last")  # scopes that need no cache of the second stream


def looks_ahead(plan: Plan) -> bool:
    return any(item.steering.looks_ahead for item in plan)


@runtime_checkable
class KnownTexts(Protocol):
    """Who knows the texts that a pass goes on with."""

    def text(self) -> tuple[Int[Tensor, "b k"], Bool[Tensor, "b k"]]:
        """All tokens up to this pass's last, and which of them are real."""


class Ahead:
    """One second stream per steering. A pass that steers no token has none; tokens that it has missed, or
    that beams have put in other rows, are run with the next one."""

    def __init__(self, parts: Anatomy, plans: Sequence[Plan]) -> None:
        for plan in plans:
            ensure_in_order(plan)
        items = [i for plan in plans for i in plan if i.steering.looks_ahead and i.strength != 0]
        self._kept = {i.steering for i in items if i.scope.name not in _PROMPT_ONLY}
        displaced = dict.fromkeys(i.steering for i in items if isinstance(i.steering, LookaheadSteering))
        self._streams: dict[Steering, SecondStream] = {one: SecondStream(parts, one) for one in displaced}
        self._one_at_a_time = threading.Lock()  # a second stream has one cache and is moved by one thread
        self._seen: dict[SecondStream, tuple[Int[Tensor, "b k"], Bool[Tensor, "b k"]]] = {}

    def change(
        self,
        steering: Steering,
        point: HookPoint,
        h: Float[Tensor, "b s d"],
        sequences: KnownTexts,
        info: ForwardInfo,
    ) -> Float[Tensor, "b s d"]:
        """The change at strength 1 of this pass's tokens; ``h`` is the stream as the unsteered model has it."""
        with self._one_at_a_time:
            return self._changed(steering, point, h, sequences, info)

    def _changed(
        self, steering: Steering, point: HookPoint, h: Tensor, sequences: KnownTexts, info: ForwardInfo
    ) -> Tensor:
        stream = self._streams[steering]
        tokens, real = sequences.text()
        start = stream.columns if self._continues(stream, tokens, real, info.past) else 0
        if start == 0:
            stream.forget()
        positions = info.placed
        if positions is not None and start != info.past:
            positions = (real.long().cumsum(1) - 1).clamp(min=0)[:, start:]
        ran = stream.run(tokens[:, start:], real, positions, keep_cache=steering in self._kept)
        self._seen[stream] = (tokens, real)
        ends = {point: ran[point][:, ran[point].shape[1] - h.shape[1] :].to(h.device)}
        return stream.changes(ends, {point: h})[point]

    def _continues(self, stream: SecondStream, tokens: Tensor, real: Tensor, past: int) -> bool:
        done = stream.columns
        if done == 0 or done > past or len(self._seen[stream][0]) != len(tokens):
            return False
        before = self._seen[stream]
        return torch.equal(before[0], tokens[:, :done]) and torch.equal(before[1], real[:, :done])


def ensure_in_order(plan: Plan) -> None:
    """``UsageError`` where something is steered before a look ahead, which reads the unsteered stream."""
    for place, item in enumerate(plan):
        if not item.steering.looks_ahead:
            continue
        if len(item.steering.points) != 1:
            raise UsageError(
                f"a look ahead steers at one hook point, this one at {', '.join(map(str, item.steering.points))}; "
                "choose with .at(point)"
            )
        (point,) = item.steering.points
        for other_place, other in enumerate(plan):
            for earlier in other.steering.points:
                if earlier.order < point.order or (earlier == point and other_place < place):
                    raise UsageError(
                        f"a look ahead at {point} reads the unsteered stream, and the plan steers {earlier} before it; "
                        "steer later hook points, or put the look ahead first"
                    )
