"""What steering costs: perplexity and KL on neutral text, steered on every token (CAE finding 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from tillerman.core.errors import DataError
from tillerman.core.plan import Plan, Scope
from tillerman.core.rows import Progress, silent
from tillerman.models.batches import Batch, padded
from tillerman.models.head import Predictions
from tillerman.models.logits import kept_text_predictions, text_predictions
from tillerman.models.memory import fitting, positions_at_once
from tillerman.models.opened import OpenModel
from tillerman.models.restart import border_of, starting
from tillerman.statistics.estimates import bootstrap_mean, ensure_finite
from tillerman.statistics.values import NO_INTERVAL, Interval
from tillerman.steering.steer import steer

WINDOW = 128
LEAST_OF_CURVE = 8  # windows
MOST_WINDOWS = 8  # of one pass
# Nats per token, more than any model that still says something. A model that gives NaN or infinity on any window
# costs this much: a large number, never one that passes a limit.
_WRECKED = 1e6


@dataclass(frozen=True)
class NeutralText:
    """Windows ``[b, s]`` of text that has nothing to do with the behaviour."""

    name: str
    windows: Tensor

    @property
    def tokens(self) -> int:
        """Tokens that are predicted: all but each window's first."""
        return int(self.windows.shape[0] * (self.windows.shape[1] - 1))


@dataclass(frozen=True, eq=False)
class Windows:
    """Per window of neutral text, nats per token: surprise without and with a plan ``[w]``, and
    KL(unsteered || steered) ``[w]``. Where steering breaks the model the values are not finite."""

    unsteered: Tensor
    steered: Tensor
    kl: Tensor


@dataclass(frozen=True)
class Drift:
    """Steered against unsteered on neutral text. KL(unsteered || steered) in nats per token."""

    perplexity: float
    perplexity_ratio: float
    perplexity_ratio_interval: Interval
    kl: float


def neutral_text(opened: OpenModel, name: str, texts: Sequence[str], tokens: int) -> NeutralText:
    """Cut texts into equal windows until about ``tokens`` tokens are reached."""
    start = [] if opened.tokenizer.bos_token_id is None else [int(opened.tokenizer.bos_token_id)]
    windows: list[list[int]] = []
    for text in texts:
        ids = opened.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        size = WINDOW - len(start)
        windows += [start + ids[at : at + size] for at in range(0, len(ids) - size + 1, size)]
        if len(windows) * WINDOW >= tokens:
            break
    if not windows:
        raise DataError(f"neutral text {name!r} has no window of {WINDOW} tokens; provide longer texts")
    return NeutralText(name, torch.tensor(windows[: max(1, tokens // WINDOW)]))


class DriftMeter:
    """Measures plans on one neutral text. The unsteered log-probabilities of a few windows are held, as many as the
    vocabulary allows, and the steered ones of some tokens of these at a time."""

    def __init__(self, opened: OpenModel, text: NeutralText, batch: int | None = None) -> None:
        self.opened, self.text = opened, text
        self._size = batch or min(MOST_WINDOWS, max(1, positions_at_once(opened.parts) // WINDOW))
        self._batches = text.windows.split(self._size)  # type: ignore[no-untyped-call]

    @property
    def passes(self) -> int:
        return len(self._batches)

    def measure(self, plan: Plan) -> Drift:
        """Drift of one plan; its scope is widened to all tokens, the strictest reading."""
        return self.measure_all([plan])[0]

    def measure_all(self, plans: Sequence[Plan], progress: Progress = silent) -> list[Drift]:
        """Drift of each plan. ``progress`` is told plans times batches of text."""
        return [_drift(one.unsteered, one.steered, one.kl) for one in self.windows(plans, progress)]

    def measure_curve(self, plans: Sequence[Plan], chosen: int, progress: Progress = silent) -> list[Drift]:
        """Drift of the plan at the place ``chosen`` on all of the text, of the others on the windows ``of_curve``.
        ``progress`` is told plans times batches."""
        part, rest = self._parted()
        found = part.windows(plans, progress)
        drifts = [_drift(one.unsteered, one.steered, one.kl) for one in found]
        if rest is not None:
            (more,) = rest.windows([plans[chosen]], progress)
            mine = found[chosen]
            pairs = ((mine.unsteered, more.unsteered), (mine.steered, more.steered), (mine.kl, more.kl))
            drifts[chosen] = _drift(*(torch.cat(pair) for pair in pairs))
        return drifts

    @property
    def of_curve(self) -> NeutralText:
        """A quarter of the windows, spread over the text; more where that would be fewer than eight."""
        return self._parted()[0].text

    def passes_of_curve(self, plans: int) -> int:
        """What ``measure_curve`` tells its progress in all."""
        part, rest = self._parted()
        return plans * part.passes + (0 if rest is None else rest.passes)

    def _parted(self) -> tuple[DriftMeter, DriftMeter | None]:
        windows = self.text.windows
        here = torch.arange(len(windows)) % min(4, max(1, len(windows) // LEAST_OF_CURVE)) == 0
        both = (replace(self.text, windows=windows[place]) for place in (here, ~here))
        part, rest = (DriftMeter(self.opened, text, self._size) if len(text.windows) else None for text in both)
        assert part is not None  # its first window is there
        return part, rest

    def windows(self, plans: Sequence[Plan], progress: Progress = silent) -> list[Windows]:
        """What ``measure_all`` averages. The unsteered side runs once for all plans, and a plan only the blocks
        that it can change."""
        wide = [tuple(replace(item, scope=Scope("all")) for item in plan) for plan in plans]
        base: list[Tensor] = []
        sides: list[list[tuple[Tensor, Tensor]]] = [[] for _ in plans]
        whole = [padded(some.tolist(), pad=0) for some in self._batches]
        compared = partial(self._compared, wide, progress=progress)
        for _, (plain, changed) in fitting(self.opened.parts, whole, compared, Batch.halves):
            base.append(plain)
            for side, one in zip(sides, changed, strict=True):
                side.append(one)
        nats = torch.cat(base)
        return [Windows(nats, *(torch.cat(parts) for parts in zip(*side, strict=True))) for side in sides]

    @torch.inference_mode()
    def _compared(
        self, plans: Sequence[Plan], batch: Batch, *, progress: Progress
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Of some windows, the unsteered surprise; of each plan the surprise and the divergence."""
        tokens = batch.tokens
        plain, kept = kept_text_predictions(self.opened, tokens, {_border(plan) for plan in plans})
        base = plain.all().flatten(0, 1)
        nats = _windows_mean(_surprise(base, _targets(tokens)), tokens)
        sides = []
        for plan in plans:
            with steer(self.opened.model, plan), starting(self.opened.parts, kept[_border(plan)]):
                changed = text_predictions(self.opened, tokens)
            sides.append(_against(base, changed, tokens))
            progress(1)
        return nats, sides


def drift_over(parts: Sequence[Windows]) -> Drift:
    """Of one plan over several parts of a text."""
    return _drift(
        torch.cat([part.unsteered for part in parts]),
        torch.cat([part.steered for part in parts]),
        torch.cat([part.kl for part in parts]),
    )


def _border(plan: Plan) -> int:
    """The first block that a plan can change anything in."""
    return min(border_of(point) for item in plan for point in item.steering.points)


def _against(base: Tensor, said: Predictions, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Of each window, per token that is predicted: the mean surprise, and the mean KL(base || said)."""
    targets = _targets(tokens)
    nats, kl = [], []
    for here, logprobs in said.slices():
        nats.append(_surprise(logprobs, targets[here]))
        kl.append((base[here].exp() * (base[here] - logprobs)).sum(-1))
    return _windows_mean(torch.cat(nats), tokens), _windows_mean(torch.cat(kl), tokens)


def _targets(tokens: Tensor) -> Tensor:
    """The token that each one predicts, window after window; a window's last one predicts none, and is not counted."""
    return tokens.roll(-1, 1).flatten()


def _surprise(logprobs: Tensor, targets: Tensor) -> Tensor:
    return -logprobs.gather(1, targets.to(logprobs.device)[:, None]).squeeze(1)


def _windows_mean(of_tokens: Tensor, tokens: Tensor) -> Tensor:
    return of_tokens.reshape(tokens.shape)[:, :-1].mean(1).cpu()


def _drift(unsteered: Tensor, steered: Tensor, divergences: Tensor) -> Drift:
    nats, more, kl = (part.double().numpy() for part in (unsteered, steered, divergences))
    ensure_finite(nats, "windows' surprises of the unsteered model")
    perplexity = math.exp(nats.mean())
    if not (np.isfinite(more).all() and np.isfinite(kl).all()):
        return Drift(perplexity, _exp(_WRECKED), Interval(_exp(_WRECKED), _exp(_WRECKED)), _WRECKED)
    ratio = bootstrap_mean(more - nats)
    return Drift(
        perplexity=perplexity,
        perplexity_ratio=_exp(float((more - nats).mean())),
        perplexity_ratio_interval=Interval(_exp(ratio.low), _exp(ratio.high)) if ratio.known else NO_INTERVAL,
        kl=max(0.0, float(kl.mean())),
    )


def _exp(x: float) -> float:
    return math.exp(min(x, 700.0))
