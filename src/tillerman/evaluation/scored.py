"""The typed log of scored replies: all texts, each scorer's values, figures with n and interval, and its table.

Plain values only. The texts are kept, so a log can be scored again, by other scorers, without a model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tillerman.core.errors import DataError, UsageError
from tillerman.evaluation.log import build
from tillerman.evaluation.scorers.agreement import Agreement
from tillerman.evaluation.scorers.base import (
    Figure,
    TextScorer,
    Value,
    change,
    checked,
    figure,
    over_draws,
    per_prompt,
)

SCORE_VERSION = 1


@dataclass(frozen=True)
class Spoken:
    """What the model said under one condition: ``replies[draw]`` are each prompt's samples in turn. One draw, but
    for the null of random directions."""

    name: str  # unsteered, steered, prompt, both, null:random
    detail: str
    strength: float
    dose: float
    replies: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Row:
    """A scorer on one condition. ``change`` is against unsteered on the same prompts, None for unsteered itself and
    where no prompt could be measured on both sides. ``values[draw]`` are those of the replies, None where missing."""

    condition: int  # its place in the log
    figure: Figure | None
    change: Figure | None
    values: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True)
class Scored:
    """One scorer on all conditions. ``low`` and ``high`` are its range, None where there is no bound."""

    scorer: str
    unit: str
    low: float | None
    high: float | None
    better: str
    note: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class JudgeAgreement:
    """How far the first two ratings of the same texts agree, over all conditions."""

    rubric: str
    agreement: Agreement


@dataclass(frozen=True)
class ScoreLog:
    """Everything ``tillerman score`` made and measured."""

    model_id: str
    method: str
    hook_point: str
    scope: str
    prompts: tuple[str, ...]  # as scorers see them
    references: tuple[str | None, ...]
    samples: int  # replies to each prompt
    tokens: int
    temperature: float
    seed: int
    conditions: tuple[Spoken, ...]
    scored: tuple[Scored, ...]
    provenance: dict[str, Any]
    agreements: tuple[JudgeAgreement, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    version: int = field(default=SCORE_VERSION)

    def by(self, scorer: str) -> Scored:
        return next(one for one in self.scored if one.scorer == scorer)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ScoreLog:
        if not isinstance(values, dict) or values.get("version") != SCORE_VERSION or "conditions" not in values:
            raise DataError(f"not a log of 'tillerman score' of version {SCORE_VERSION}; it writes one with --out")
        try:
            return build(cls, values)
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise DataError(f"the log of 'tillerman score' is damaged ({error!r}); make it again") from error

    def texts(self) -> tuple[list[str], list[str]]:
        """Prompt and reply of every text, condition by condition, draw by draw."""
        asked = [prompt for prompt in self.prompts for _ in range(self.samples)]
        draws = [draw for condition in self.conditions for draw in condition.replies]
        return asked * len(draws), [reply for draw in draws for reply in draw]


def scored(log: ScoreLog, scorers: Sequence[TextScorer]) -> ScoreLog:
    """The log with these scorers' values, which take the place of earlier ones of the same name."""
    if not log.conditions or log.conditions[0].name != "unsteered":
        raise UsageError("the log's first condition has to be the unsteered one: changes are against it")
    made = [_scored(log, scorer) for scorer in scorers]
    kept = [one for one in log.scored if one.scorer not in {new.scorer for new in made}]
    return replace(log, scored=(*kept, *made))


def _scored(log: ScoreLog, scorer: TextScorer) -> Scored:
    # All conditions in one call: a judge then cannot tell by the order which text is steered.
    values = iter(checked(scorer.name, scorer.scale, scorer.score(*log.texts())))
    size = len(log.prompts) * log.samples
    of = [[[next(values) for _ in range(size)] for _ in spoken.replies] for spoken in log.conditions]
    plain = per_prompt(of[0][0], log.samples)
    rows = [_row(i, draws, plain, log.samples) for i, draws in enumerate(of)]
    scale = scorer.scale
    low, high = (bound if math.isfinite(bound) else None for bound in (scale.low, scale.high))
    return Scored(scorer.name, scale.unit, low, high, scale.better, scorer.note, tuple(rows))


def _row(place: int, draws: list[list[Value]], plain: list[Value], samples: int) -> Row:
    prompts = [per_prompt(draw, samples) for draw in draws]
    means = [figure(one) for one in prompts]
    changes = [change(one, plain) for one in prompts] if place else [None]
    single = len(draws) == 1
    return Row(
        condition=place,
        figure=means[0] if single else over_draws(means),
        change=changes[0] if single else over_draws(changes),
        values=tuple(tuple(draw) for draw in draws),
    )
