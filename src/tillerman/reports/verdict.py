"""What a whole evaluation says about a vector: the evidence in its log, and the verdict on it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tillerman.logs.conditions import STEERED, ConditionName, condition_label, is_null
from tillerman.logs.evaluation import Condition, EvaluationLog
from tillerman.logs.study import StudyLog
from tillerman.logs.verdict import Verdict
from tillerman.reports.account import Named
from tillerman.reports.bias import only_bias
from tillerman.reports.judging import Control, Evidence, Price, Rival, Texts, judge
from tillerman.statistics.estimates import unpaired

_IN_A_SENTENCE: dict[str, str] = {
    ConditionName.RANDOM: "a random direction",
    ConditionName.SHUFFLED: "the shuffled-label control",
}
_RIVALS: dict[str, str] = {ConditionName.PROMPT: "the prompt", ConditionName.ICL: "the few-shot prompt"}


def judgements(log: EvaluationLog, studies: Sequence[StudyLog] = ()) -> tuple[Named, ...]:
    """What the evaluation of an artefact and each of its studies say of it."""
    return (Named("evaluation", judge_log(log)), *(Named(study.study, study.verdict) for study in studies))


def judge_log(log: EvaluationLog) -> Verdict:
    """``judge`` of the evidence in a log."""
    return judge(evidence_of(log))


def evidence_of(log: EvaluationLog) -> Evidence:
    """All that a verdict weighs. Logs of before something was measured lack it."""
    by_name = {c.name: c for c in log.conditions}
    steered = by_name[STEERED]
    turned, constant = by_name.get(ConditionName.TURNED), by_name.get(ConditionName.CONSTANT)
    written = None if log.written is None else log.written.condition(STEERED)
    return Evidence(
        effect=log.effect,
        price=_price(log),
        steered=steered.rate.value,
        abstained=log.strength == 0,
        controls=tuple(
            Control(_IN_A_SENTENCE.get(c.name, condition_label(c.name).lower()), c.effect)
            for c in log.conditions
            if is_null(c.name) and c.effect is not None
        ),
        turned=None if turned is None else turned.effect,
        constant=None if constant is None else constant.rate.value,
        only_bias=only_bias(log),
        written=None if written is None else written.change,
        written_refused="" if log.written is None else log.written.scorer.refused,
        prompt=_rival(steered, by_name.get(ConditionName.PROMPT)),
        few_shot=_rival(steered, by_name.get(ConditionName.ICL)),
        texts=_texts(log),
        unchecked=log.unchecked,
    )


def _price(log: EvaluationLog) -> Price:
    """Against the budget of the run, where it had one."""
    side = log.side_effects
    return Price(
        kl=side.kl,
        perplexity_ratio=side.perplexity_ratio,
        perplexity_interval=side.perplexity_ratio_interval,
        max_kl=log.constraints.get("kl"),
        max_perplexity_ratio=log.constraints.get("perplexity_ratio"),
        unrelated=side.unrelated_effect,
    )


def _rival(steered: Condition, other: Condition | None) -> Rival | None:
    if other is None:
        return None
    name, right = _RIVALS[other.name], other.rate.value
    if other.lead is not None:
        return Rival(name, right, other.lead.value, other.lead.interval)
    return Rival(name, right, steered.rate.value - right, unpaired(steered.rate, other.rate))


def _texts(log: EvaluationLog) -> Texts | None:
    one = log.coherence
    if one is None:
        return None
    return Texts(one.perplexity_steered / one.perplexity_unsteered, one.repeated_steered, one.repeated_unsteered)
