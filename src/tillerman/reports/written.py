"""What is said of written replies: the table, the sentence, and what they tell beside scored answers. Pure."""

from __future__ import annotations

from tillerman.logs.conditions import STEERED, ConditionName, condition_label
from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.evidence import WrittenCondition, WrittenReplies, WrittenScorer
from tillerman.logs.table import Table
from tillerman.reports.numbers import decimal, shown_number, shown_p
from tillerman.statistics.values import MeanEffect

SHOW_IT = "show it, %"  # score above one half and are no loops


def written_table(log: EvaluationLog) -> Table:
    """Replies to the held-out prompts under every condition; no rows where none were written."""
    written = log.written
    if written is None or not written.conditions:
        return Table("Written replies", ("condition",), ())
    head: tuple[str, ...] = (
        "condition",
        "score, 0 to 1 (95 %)",
        "n",
        "change (95 %)",
        "p",
        "perplexity of replies",
        "repeated, %",
    )
    if any(c.shown is not None for c in written.conditions):
        head = (*head, SHOW_IT)
    title = f"Written replies to {len(written.prompts)} test prompts, at most {written.tokens} tokens each"
    strong = tuple(i for i, c in enumerate(written.conditions) if c.name == STEERED)
    return Table(title, head, tuple(_row(c)[: len(head)] for c in written.conditions), strong)


def _row(c: WrittenCondition) -> tuple[str, ...]:
    score = ("", "0") if c.score is None else (shown_number(c.score.value, c.score.interval), str(c.score.n))
    change = ("", "") if c.change is None else (_change(c.change), shown_p(c.change.p_value))
    cost = (decimal(c.perplexity, 1), decimal(100 * c.repetition, 1))
    return (condition_label(c.name), *score, *change, *cost, "" if c.shown is None else decimal(100 * c.shown.value, 0))


def written_words(log: EvaluationLog) -> str:
    """What reads the replies and what it says, beside the scored answers; empty where nothing was to be written."""
    written = log.written
    if written is None:
        return ""
    if not written.conditions:
        return f"Written replies are not measured: {written.scorer.refused}."
    said = [_means(written), _both_effects(log, written)]
    means = " ".join(filter(None, said))
    return f"Written replies, read by a scorer made of the labels ({_validity(written.scorer)}): {means}"


def writes(log: EvaluationLog) -> bool | None:
    """Whether steering makes the model write more like the wanted answers; None where that was not measured."""
    steered = None if log.written is None else log.written.condition(STEERED)
    return None if steered is None or steered.change is None else steered.change.found


def _validity(scorer: WrittenScorer) -> str:
    low, high = scorer.interval.low, scorer.interval.high
    return f"AUC {decimal(scorer.auc)}, {decimal(low)} to {decimal(high)}, on the answers of {scorer.n} test items"


def _means(written: WrittenReplies) -> str:
    """The mean score under the conditions that are compared first."""
    parts = []
    for name, label in (
        ("unsteered", "unsteered"),
        ("steered", "steered"),
        ("prompt", "prompted"),
        ("icl", "few-shot"),
        ("lora", "fine-tuned"),
    ):
        one = written.condition(name)
        if one is None or one.score is None:
            continue
        change = f" ({_change(one.change)})" if name == STEERED and one.change is not None else ""
        parts.append(f"{decimal(one.score.value)} {label}{change}")
    null = written.condition(ConditionName.RANDOM)
    if null is not None and null.change is not None:
        parts.append(f"random directions {_change(null.change)}")
    return f"mean score {', '.join(parts)}."


def _both_effects(log: EvaluationLog, written: WrittenReplies) -> str:
    found = writes(log)
    if found is None:
        return ""
    scored = log.effect.found
    one = written.condition(STEERED)
    missing = one.score.missing if one is not None and one.score is not None else 0
    silent = f" {missing} steered replies have no word and are left out." if missing else ""
    match scored, found:
        case True, True:
            words = "It scores better and writes so"
        case True, False:
            words = "It scores better, but does not write so"
        case False, True:
            words = "It writes so, although no effect on scored answers was found"
        case _:
            words = "It neither scores better nor writes so"
    control = "; but random directions already gain half of what is written" if found and _explained(written) else ""
    return f"{words}{control}.{silent}"


def _explained(written: WrittenReplies) -> bool:
    """Whether random directions of equal norm change what is written half as much."""
    steered, null = written.condition(STEERED), written.condition(ConditionName.RANDOM)
    if steered is None or null is None or steered.change is None or null.change is None:
        return False
    return null.change.value >= 0.5 * steered.change.value


def _change(change: MeanEffect) -> str:
    return shown_number(change.value, change.interval, signed=True)


def written_summary(log: EvaluationLog) -> dict[str, object] | None:
    """For ``--json``: the scorer and every condition; the replies are in the log."""
    written = log.written
    if written is None:
        return None
    scorer = written.scorer
    conditions = {
        c.name: {
            "score": None if c.score is None else c.score.value,
            "n": 0 if c.score is None else c.score.n,
            "change": None if c.change is None else c.change.value,
            "interval": None if c.change is None else [c.change.interval.low, c.change.interval.high],
            "p_value": None if c.change is None else c.change.p_value,
            "perplexity": c.perplexity,
            "repetition": c.repetition,
            "shown": None if c.shown is None else c.shown.value,
            "lead": None if c.lead is None else [c.lead.value, *c.lead.interval.ends],
        }
        for c in written.conditions
    }
    return {
        "writes_so": writes(log),
        "scorer_auc": scorer.auc,
        "scorer_interval": [scorer.interval.low, scorer.interval.high],
        "scorer_n": scorer.n,
        "refused": scorer.refused,
        "prompts": len(written.prompts),
        "tokens": written.tokens,
        "conditions": conditions,
    }
