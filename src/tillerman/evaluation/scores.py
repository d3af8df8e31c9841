"""The typed log of scored replies: all texts, each scorer's values, figures with n and interval, and its table.

Plain values only. The texts are kept, so a log can be scored again, by other scorers, without a model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from tillerman.core.errors import UsageError
from tillerman.evaluation.scorers.base import TextScorer, checked
from tillerman.logs.scores import ScoreLog, ScorerResult, ScorerRow
from tillerman.statistics.scores import Value, change, figure, over_draws, per_prompt


def scored(log: ScoreLog, scorers: Sequence[TextScorer]) -> ScoreLog:
    """The log with these scorers' values, which take the place of earlier ones of the same name."""
    if not log.conditions or log.conditions[0].name != "unsteered":
        raise UsageError("the log's first condition must be the unsteered one, because changes are measured against it")
    made = [_scored(log, scorer) for scorer in scorers]
    kept = [one for one in log.scored if one.scorer not in {new.scorer for new in made}]
    return replace(log, scored=(*kept, *made))


def _scored(log: ScoreLog, scorer: TextScorer) -> ScorerResult:
    # All conditions in one call: a judge then cannot tell by the order which text is steered.
    values = iter(checked(scorer.name, scorer.scale, scorer.score(*log.texts())))
    size = len(log.prompts) * log.samples
    of = [[[next(values) for _ in range(size)] for _ in spoken.replies] for spoken in log.conditions]
    plain = per_prompt(of[0][0], log.samples)
    rows = [_row(i, draws, plain, log.samples) for i, draws in enumerate(of)]
    scale = scorer.scale
    low, high = (bound if math.isfinite(bound) else None for bound in (scale.low, scale.high))
    return ScorerResult(scorer.name, scale.unit, low, high, scale.better, scorer.note, tuple(rows))


def _row(place: int, draws: list[list[Value]], plain: list[Value], samples: int) -> ScorerRow:
    prompts = [per_prompt(draw, samples) for draw in draws]
    means = [figure(one) for one in prompts]
    changes = [change(one, plain) for one in prompts] if place else [None]
    single = len(draws) == 1
    return ScorerRow(
        condition=place,
        figure=means[0] if single else over_draws(means),
        change=changes[0] if single else over_draws(changes),
        values=tuple(tuple(draw) for draw in draws),
    )
