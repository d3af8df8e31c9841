"""What steering costs: perplexity and KL on neutral text, steered on every token (CAE finding 4)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor

from tillerman.core.errors import DataError
from tillerman.core.plan import Plan, Scope
from tillerman.core.rows import Progress, silent
from tillerman.evaluation.unsteered_text import Unsteered, UnsteeredText
from tillerman.models.batches import Batch, padded
from tillerman.models.head import Predictions, can_be_asked, in_cache
from tillerman.models.logits import text_predictions
from tillerman.models.memory import fitting, positions_at_once
from tillerman.models.opened import OpenModel
from tillerman.models.restart import border_of, starting
from tillerman.statistics.estimates import bootstrap_mean, ensure_finite
from tillerman.statistics.values import NO_INTERVAL, Interval
from tillerman.steering.steer import steer

WINDOW = 128
ENDS = (1, 4, 8)  # windows after which a batch ends
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
    """Measures plans on one neutral text, of which the unsteered model's pass is run once.

    The text is worked off in ``batches`` whose first ones already lie spread over it, so that a part of it stands for
    the whole: one window, four, eight, and so on."""

    def __init__(self, opened: OpenModel, text: NeutralText, batch: int | None = None) -> None:
        self.opened, self.text = opened, text
        self._unsteered = UnsteeredText(opened)
        most = MOST_WINDOWS if can_be_asked(opened.parts) else max(1, positions_at_once(opened.parts) // WINDOW)
        self._order = _spread(len(text.windows))
        cuts = _cuts(len(self._order), batch or min(MOST_WINDOWS, most))
        self.batches = tuple(self._order[start:stop] for start, stop in pairwise(cuts))

    @property
    def passes(self) -> int:
        return len(self.batches)

    @property
    def of_curve(self) -> int:
        """How many batches a dose curve is measured on: a quarter of the windows, but at least eight."""
        wanted = max(LEAST_OF_CURVE, len(self._order) // 4)
        ends = accumulate(map(len, self.batches))
        return next((k for k, end in enumerate(ends, 1) if end >= wanted), self.passes)

    def tokens_in(self, count: int) -> int:
        """Tokens that are predicted in the first ``count`` batches."""
        return sum(map(len, self.batches[:count])) * (self.text.windows.shape[1] - 1)

    def measure(self, plan: Plan) -> Drift:
        """Drift of one plan; its scope is widened to all tokens, the strictest reading."""
        return self.measure_all([plan])[0]

    def measure_all(self, plans: Sequence[Plan], progress: Progress = silent) -> list[Drift]:
        """Drift of each plan. ``progress`` is told plans times batches of text."""
        return [drift_over([one]) for one in self.windows(plans, progress)]

    def windows(self, plans: Sequence[Plan], progress: Progress = silent) -> list[Windows]:
        """What ``measure_all`` averages, in the order of the text."""
        back = torch.tensor(self._order).argsort()
        return [
            Windows(one.unsteered[back], one.steered[back], one.kl[back])
            for one in self.windows_in(self.batches, plans, progress)
        ]

    def windows_in(
        self, batches: Sequence[Sequence[int]], plans: Sequence[Plan], progress: Progress = silent
    ) -> list[Windows]:
        """Of each plan, over some of ``batches``, in their order. A plan runs only about those blocks that it can
        change. ``progress`` is told plans times batches."""
        wide = [tuple(replace(item, scope=Scope("all")) for item in plan) for plan in plans]
        found: list[list[Windows]] = [[] for _ in plans]
        work = [self._batch(places) for places in batches]
        compared = partial(self._compared, wide, progress=progress)
        for _, sides in fitting(self.opened.parts, work, compared, Batch.halves):
            for mine, one in zip(found, sides, strict=True):
                mine.append(one)
        return [joined(mine) for mine in found]

    def forget_passes(self) -> None:
        """Free the memory of the unsteered passes: they run anew where the text is asked again."""
        self._unsteered.forget()

    def _batch(self, places: Sequence[int]) -> Batch:
        some = padded(self.text.windows[list(places)].tolist(), pad=0)
        return replace(some, rows=torch.tensor(places))

    @torch.inference_mode()
    def _compared(self, plans: Sequence[Plan], batch: Batch, *, progress: Progress) -> list[Windows]:
        plain, said = self._unsteered.of(batch, self._only_border(plans, batch)), []
        for plan in plans:
            said.append(self._under(plan, plain, batch) if plan else plain.said)
            progress(1)
        return _against(plain.said, said, batch.tokens)

    def _only_border(self, plans: Sequence[Plan], batch: Batch) -> int | None:
        """Of the first windows, which every cell of a search is asked on, None. The rest is read for few plans, of one
        cell as a rule."""
        if set(batch.rows.tolist()) & set(self._order[: ENDS[-1]]):
            return None
        return min((_border(plan) for plan in plans if plan), default=None)

    def _under(self, plan: Plan, plain: Unsteered, batch: Batch) -> Predictions:
        with steer(self.opened.model, plan), starting(self.opened.parts, plain.before(_border(plan))):
            return text_predictions(self.opened, batch.tokens)


def _spread(count: int) -> list[int]:
    """All places, the first of which already lie evenly over them, however many are taken: by their bits, backwards."""
    bits = max(1, (count - 1).bit_length())
    return sorted(range(count), key=lambda place: int(format(place, f"0{bits}b")[::-1], 2))


def _cuts(count: int, most: int) -> list[int]:
    """Where batches end: at ``ENDS`` and then every so many, none with more than ``most``."""
    ends = [*(end for end in ENDS if end < count), *range(2 * ENDS[-1], count, ENDS[-1]), count]
    cuts = [0]
    for end in ends:
        cuts += [*range(cuts[-1] + most, end, most), end]
    return cuts


def joined(parts: Sequence[Windows]) -> Windows:
    """Of one plan over several parts of a text, one after the other."""
    return Windows(
        torch.cat([part.unsteered for part in parts]),
        torch.cat([part.steered for part in parts]),
        torch.cat([part.kl for part in parts]),
    )


def drift_over(parts: Sequence[Windows]) -> Drift:
    """Of one plan over several parts of a text."""
    whole = joined(parts)
    return _drift(whole.unsteered, whole.steered, whole.kl)


def _border(plan: Plan) -> int:
    """The first block that a plan can change anything in, or that a gate of it reads."""
    points = (point for item in plan for point in (*item.steering.points, *(gate.point for gate in item.gates)))
    return min(map(border_of, points))


def _against(base: Predictions, others: Sequence[Predictions], tokens: Tensor) -> list[Windows]:
    """Of each window, per token that is predicted: the mean surprises, and the mean KL(base || other)."""
    targets, plain = _targets(tokens), list[Tensor]()
    found: list[tuple[list[Tensor], list[Tensor]]] = [([], []) for _ in others]
    for here in base.places:
        some_rows = in_cache(base.logits(here))
        rows = [len(some) for some in some_rows]
        wanted = torch.split(targets[here], rows)
        mine: Iterable[Tensor] = (some.float().log_softmax(-1) for some in some_rows)
        if len(others) > 1:  # made once for all; for one alone, a few rows at a time
            mine = [*mine]
        for k, ((nats, kl), other) in enumerate(zip(found, others, strict=True)):
            said = [None] * len(rows) if other is base else torch.split(other.logits(here), rows)
            for some, those, logits in zip(mine, wanted, said, strict=True):
                unsteered = _surprise(some, those)
                if k == 0:
                    plain.append(unsteered)
                if logits is None:
                    nats.append(unsteered)
                    kl.append(torch.zeros_like(unsteered))
                    continue
                theirs = logits.to(some.device).float().log_softmax(-1)
                nats.append(_surprise(theirs, those))
                kl.append((theirs.neg_().add_(some).mul_(some.exp())).sum(-1))
    first = _windows_mean(torch.cat(plain), tokens)
    means = [[_windows_mean(torch.cat(side), tokens) for side in sides] for sides in found]
    return [Windows(first, nats, kl) for nats, kl in means]


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
