"""What a whole evaluation says about a vector, in one word and one sentence. Pure.

The controls speak first: an effect that they show too is theirs, whatever its size.
"""

from __future__ import annotations

from collections.abc import Sequence

from tillerman.logs.conditions import ConditionName, condition_label
from tillerman.logs.evaluation import Condition, EvaluationLog
from tillerman.logs.study import StudyLog
from tillerman.logs.verdict import Verdict
from tillerman.reports.account import Named
from tillerman.reports.numbers import briefly, percent, points, ratio, said
from tillerman.statistics.values import Interval

_SHARE = 0.5  # of the effect: a control that shows so much explains it, one that leaves so little too
_COSTLY = 2.0  # perplexity ratio
_HARM = -0.05  # lost on the unrelated task, surely


def judgements(log: EvaluationLog, studies: Sequence[StudyLog] = ()) -> tuple[Named, ...]:
    """What the evaluation of an artefact and each of its studies say of it."""
    return (Named("evaluation", judge_log(log)), *(Named(study.study, study.verdict) for study in studies))


def judge_log(log: EvaluationLog) -> Verdict:
    """``bad``: no effect, a harmful one, or one that a control explains. ``mixed``: an effect that a control
    comes near to, or that costs much. ``good``: an effect beyond all controls at a moderate price."""
    effect = log.effect
    if effect.interval.high < 0:
        return Verdict("bad", f"It reduces the behaviour: {said(effect)}.")
    if not effect.found:
        most = points(effect.interval.high)
        return Verdict("bad", f"No effect found: {said(effect)}. Effects beyond {most} are ruled out.")
    explained = _explanations(log)
    if explained:
        return Verdict("bad", f"The controls explain the effect of {points(effect.value)}: {'; '.join(explained)}.")
    doubts = (*_near(log), *_prices(log))
    if doubts:
        return Verdict("mixed", f"It works, {said(effect)}, but {'; '.join(doubts)}.")
    controls = [condition_label(c.name).lower() for c in _controls(log)]
    beyond = f", beyond its controls ({', '.join(controls)})" if controls else ""
    cost = log.side_effects
    price = f"perplexity {ratio(cost.perplexity_ratio)}, unrelated task {points(cost.unrelated_effect.value)}"
    return Verdict("good", f"It works: {said(effect)}{beyond}. Cost: {price}.")


def _controls(log: EvaluationLog) -> list[Condition]:
    return [c for c in log.conditions if c.effect is not None and (c.name.startswith("null:") or c.name == "turned")]


def _control(null: Condition) -> str:
    """A control in the middle of a sentence."""
    known: dict[str, str] = {
        ConditionName.RANDOM: "a random direction",
        ConditionName.SHUFFLED: "the shuffled-label control",
    }
    return known.get(null.name, condition_label(null.name).lower())


def _explanations(log: EvaluationLog) -> list[str]:
    """Controls that show as much as the vector, or take its effect away."""
    effect, found = log.effect, []
    for null in log.conditions:
        if null.name.startswith("null:") and null.effect is not None and null.effect.value >= _SHARE * effect.value:
            found.append(f"{_control(null)} already gains more than half of it, {briefly(null.effect)}")
    turned = next((c.effect for c in log.conditions if c.name == "turned"), None)
    if turned is not None and (turned.interval.low <= 0 or turned.value < _SHARE * effect.value):
        found.append(f"it is about a letter, over all option orders {briefly(turned)} remains")
    elif turned is None and effect.balanced < _SHARE * effect.value:
        found.append(
            f"it is about an answer word, averaged over the right answers' words {points(effect.balanced)} remains"
        )
    return found


def _near(log: EvaluationLog) -> list[str]:
    """Controls whose interval reaches into the vector's, and answers that never change."""
    effect = log.effect
    reach = [
        f"the interval of {_control(null)} overlaps, {briefly(null.effect)}"
        for null in log.conditions
        if null.name.startswith("null:") and null.effect is not None and _overlap(null.effect.interval, effect.interval)
    ]
    constant = next((c for c in log.conditions if c.name == "constant"), None)
    turned = any(c.name == "turned" for c in log.conditions)
    if constant is not None and constant.rate.value >= 0.95 and not turned:
        share = percent(constant.rate.value, 0)
        reach.append(f"one answer is right for {share} of the items, so behaviour and answer word cannot be told apart")
    return reach


def _overlap(null: Interval, effect: Interval) -> bool:
    return null.low < null.high and null.high >= effect.low


def _prices(log: EvaluationLog) -> list[str]:
    cost, found = log.side_effects, []
    if cost.perplexity_ratio_interval.low > _COSTLY:
        found.append(f"perplexity on neutral text is {ratio(cost.perplexity_ratio)}")
    if cost.unrelated_effect.interval.high < _HARM:
        found.append(f"the unrelated task loses {points(-cost.unrelated_effect.value).lstrip('+')}")
    return found
