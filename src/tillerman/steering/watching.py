"""Continue prompts under alarms: each text followed by its monitors, stopped or steered where one is crossed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from tillerman.core.alarms import Alarm
from tillerman.core.errors import UsageError
from tillerman.core.plan import Plan, joined
from tillerman.models.batches import padded
from tillerman.models.opened import OpenModel
from tillerman.steering.following import Following
from tillerman.steering.generation import Sampling, generated
from tillerman.steering.steer import Steered, steer_rows


@dataclass(frozen=True)
class Crossing:
    """Where one alarm was crossed in one answer: after its token ``token`` (counted from 1; 0: by the prompt), at
    ``value`` of the monitor's statistic. Action ``steer`` steers from token ``token + 1`` on."""

    alarm: str
    action: str
    token: int
    value: float
    threshold: float


@dataclass(frozen=True)
class WatchedAnswer:
    """An answer made under alarms: its tokens and text, and the crossings, the earliest first. ``aborted``: one of them
    has ended it."""

    tokens: tuple[int, ...]
    text: str
    crossings: tuple[Crossing, ...]

    @property
    def aborted(self) -> bool:
        return any(one.action == "abort" for one in self.crossings)


@torch.inference_mode()
def watched_continuations(
    opened: OpenModel,
    prompts: Sequence[tuple[int, ...]],
    plans: Sequence[Plan],
    sampling: Sampling,
    alarms: Sequence[Alarm],
) -> list[WatchedAnswer]:
    """``continuations`` under alarms, all of them on every row, each row followed by itself.

    Up to where it crosses, a text is the one that ``continuations`` gives. An ``abort`` ends it with the token that
    crossed (by the prompt: before the first); ``steer`` applies the alarm's plan from the next token on, so that the
    one after that is the first it can change. What a monitor reads at its hook point is what arrives there, steering
    before it included.
    """
    if len(prompts) != len(plans) or not prompts:
        raise UsageError(f"{len(prompts)} prompts and {len(plans)} plans: expected one plan per prompt, at least one")
    if not alarms:
        raise UsageError("no alarm is given; without one, tillerman.continuations makes the texts")
    batch = padded(prompts, pad=opened.pad_id)
    switched = tuple(item for alarm in alarms for item in alarm.switched)
    monitors = tuple(dict.fromkeys(alarm.monitor for alarm in alarms))
    own = [joined([plan, switched]) for plan in plans]
    with steer_rows(opened.model, own, watching=monitors, must_apply=bool(switched) or any(plans)) as steered:
        stop = StoppingCriteriaList([_Aborts(steered, [a for a in alarms if a.action == "abort"])])
        said = generated(opened, batch, sampling, {"stopping_criteria": stop})
    return [
        _watched(opened, tokens, [(alarm, steered.followed[alarm.monitor][i]) for alarm in alarms])
        for i, tokens in enumerate(said)
    ]


def _watched(opened: OpenModel, tokens: list[int], followed: Sequence[tuple[Alarm, Following]]) -> WatchedAnswer:
    """``tokens`` may have more than the answer: the one drawn with the crossing, and what its neighbours waited for."""
    ends = [one.crossed for alarm, one in followed if alarm.action == "abort" and one.crossed is not None]
    # The last token of an answer is not read while the row is alone, so that what is read of it, beside others that go
    # on, is nothing of this answer's.
    ran = min([len(tokens) - 1, *ends])
    crossings = [
        Crossing(alarm.name, alarm.action, one.crossed, one.value or 0.0, alarm.monitor.threshold)
        for alarm, one in followed
        if one.crossed is not None and one.crossed <= ran
    ]
    kept = tokens[: min(ends)] if ends and min(ends) <= len(tokens) - 1 else tokens
    text = str(opened.tokenizer.decode(kept, skip_special_tokens=True))
    return WatchedAnswer(tuple(kept), text, tuple(sorted(crossings, key=lambda one: one.token)))


class _Aborts(StoppingCriteria):
    """Rows in which an alarm that aborts has been crossed are done."""

    def __init__(self, steered: Steered, alarms: Sequence[Alarm]) -> None:
        self._steered, self._alarms = steered, alarms

    def __call__(self, input_ids: Int[Tensor, "b k"], scores: Any, **_: Any) -> Bool[Tensor, " b"]:
        done = [False] * len(input_ids)
        for alarm in self._alarms:
            rows = self._steered.followed[alarm.monitor]
            done = [before or row.crossed is not None for before, row in zip(done, rows, strict=True)]
        return torch.tensor(done, device=input_ids.device)
