"""What a log says, in sentences: the headline, its cautions, and the rows of the report's tables. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tillerman.logs.conditions import condition_label
from tillerman.logs.evaluation import Condition, EvaluationLog
from tillerman.reports.numbers import compact, decimal, finite, interval_words, p_value, percent, points, span
from tillerman.statistics.power import ALPHA, if_many_change
from tillerman.statistics.values import Effect, Equivalence, Interval, Power

WEAK = 0.25  # an effect of a quarter of all items: far more than most steering has


def _excludes_zero(interval: Interval) -> bool:
    return interval.low > 0 or interval.high < 0


def _statistics(effect: Effect, places: int) -> str:
    return (
        f"{points(effect.value, places)}, {interval_words(effect.interval, places=places, signed=True, unit=' pp')}, "
        f"n = {effect.n}, McNemar {p_value(effect.p_value)}"
    )


def verdict(effect: Effect) -> str:
    """raised, lowered or none: what the interval allows us to say."""
    if not _excludes_zero(effect.interval):
        return "none"
    return "raised" if effect.interval.low > 0 else "lowered"


def headline(log: EvaluationLog) -> str:
    """One sentence: did steering change the behaviour, by how much, and how sure are we."""
    effect = log.effect
    before, after = log.condition("unsteered").rate.value, log.condition("steered").rate.value
    rounds = (round(100 * v) if finite(v) else 0 for v in (after, before, effect.value))
    places = 0 if next(rounds) - next(rounds) == next(rounds) else 1
    start, end = percent(before, places), percent(after, places)
    statistics = _statistics(effect, places)
    match verdict(effect):
        case "none":
            went = f"was {start} unsteered and {end} steered"
            return f"No effect found: accuracy on {log.data_name} {went} ({statistics})."
        case "raised":
            return f"Steering raised accuracy on {log.data_name} from {start} to {end} ({statistics})."
        case _:
            return f"Steering lowered accuracy on {log.data_name} from {start} to {end} ({statistics})."


def comparison(log: EvaluationLog) -> str:
    """What the baselines and the nulls did on the same items."""
    by_name = {c.name: c for c in log.conditions}
    baselines = {"prompt": "the prompt baseline", "icl": "the few-shot baseline", "lora": "fine-tuning"}
    there = [name for name in baselines if name in by_name]
    verbs = [" reached", *[""] * len(there)]  # said once, of the first
    rates = [percent(by_name[name].rate.value, 0) for name in there]
    reached = [f"{baselines[name]}{verb} {rate}" for name, verb, rate in zip(there, verbs, rates, strict=False)]
    nulls = [c for c in log.conditions if c.name.startswith("null")]
    controls = [f"{condition_label(c.name)} {percent(c.rate.value, 0)}" for c in nulls]
    parts = [_sentence(" and ".join(reached))]
    if controls:
        parts.append(_sentence(f"the controls, which must show no effect: {', '.join(controls).lower()}"))
    return " ".join(part for part in parts if part)


def cell_words(log: EvaluationLog) -> str:
    """What was tested, in one line."""
    dose = f"strength {compact(log.strength)} (dose {compact(log.dose)})"
    return f"{log.method} at {log.hook_point}, {dose}, scope {log.scope}, model {log.model_id}"


# How the chosen vector was read, where several ways were tried.
_READ = {
    "end": "read where the answer's turn ends",
    "last": "read at the answer's last token",
    "mean": "read as the mean over the answer's tokens",
    "whole": "read as the mean over prompt and answer",
}


def search_words(log: EvaluationLog) -> str:
    """How the cell was chosen; empty where none was searched for."""
    if not log.cells_compared:
        return ""
    by = " by what they write" if log.objective == "written" else ""
    of = "" if log.of_cells in (None, log.cells_compared) else f" (coarse to fine, of {log.of_cells} in the grid)"
    best = f"The best of {log.cells_compared} cells compared{of}{by} on {log.n_validation} validation items"
    tried = {cell.read for cell in log.cells}
    read = _READ.get(str(log.provenance.get("read_positions")))
    return f"{best}; {read}." if read and len(tried) > 1 else f"{best}."


def range_words(log: EvaluationLog) -> str:
    """Doses that may be recommended; empty where none is known."""
    one = log.dose_range
    if one is None:
        return ""
    kept = " and keep to the budget" if log.constraints else ""
    if one.low == one.high:
        return f"Of the doses tried there, only {compact(one.best)} works{kept} (on validation items)."
    reach = f"Doses from {compact(one.low)} to {compact(one.high)} work{kept}"
    return f"{reach} (on validation items); {compact(one.best)} was chosen."


def seeds_words(log: EvaluationLog) -> str:
    """The mean over seeds; empty for one seed."""
    if log.seeds is None:
        return ""
    s = log.seeds
    within = interval_words(s.interval, signed=True, unit=" pp", name="95 % t-interval")
    return f"Mean effect over {len(s.seeds)} seeds: {points(s.mean)}, {within}, one-sided {p_value(s.p_value)}."


def gate_words(log: EvaluationLog) -> str:
    """What the gate is, how well it tells prompts apart, and how often it opened; empty without a gate."""
    if log.gate is None:
        return ""
    said = [f"Gate: steered where {log.gate.gate}", f"open for {percent(log.gate.opened.value, 0)} of the test items"]
    trial = log.gate.trial
    if trial is not None:
        said.append(
            f"F1 {decimal(trial.f1, 2)} on {trial.n_test} other prompts of {trial.data_name}: open for "
            f"{percent(trial.opened_wanted.value, 0)} of those to steer "
            f"({span(trial.opened_wanted.interval, places=0)}), {percent(trial.opened_others.value, 0)} of the others "
            f"({span(trial.opened_others.interval, places=0)})"
        )
    return "; ".join(said) + "."


def power_words(power: Power) -> str:
    """What the test items can show, said before they are looked at."""
    items = f"n = {power.n} test items"
    if power.minimum is None:
        return f"{items}: no effect of any size can be detected with {percent(power.power, 0)} power"
    changed = f"{percent(power.discordant, 0)} of items change their answer"
    given = changed if power.minimum < power.discordant else "every item that changes its answer gains"
    shared = "" if power.alpha == ALPHA else f", at p below {power.alpha:.2g}: several methods share 0.05"
    least = points(power.minimum).lstrip("+")
    return f"{items}: effects of {least} or more are detected with {percent(power.power, 0)} power (if {given}{shared})"


def foreseen_words(power: Power) -> str:
    """``power_words`` before a run, when nobody knows how many items will change: with what is found if many do."""
    many = if_many_change(power)
    if power.minimum is None or many.minimum is None or many.minimum <= power.minimum:
        return power_words(power)
    more = f"{points(many.minimum).lstrip('+')} or more if {percent(many.discordant, 0)} do"
    return power_words(power).removesuffix(")") + f"; {more})"


def power_warning(power: Power) -> str:
    """Where only very large effects can be found, and what to do; empty else."""
    if power.minimum is not None and power.minimum <= WEAK:
        return ""
    return (
        f"effects below {points(WEAK, 0).lstrip('+')} are likely to be missed (power below 80 %); "
        "provide more data, a larger test share (--shares 0.4,0.2,0.4), or test on "
        "data of its own (tillerman eval --all-items)"
    )


def unrelated_words(equivalence: Equivalence) -> str:
    """Whether the unrelated task is shown to stay the same, which "no effect found" does not say."""
    margin, found = points(equivalence.margin, 0).lstrip("+"), span(equivalence.interval, signed=True)
    said = "equivalence established" if equivalence.equivalent else "equivalence not established"
    return f"{said} (TOST, ±{margin}): 90 % interval {found} pp, {p_value(equivalence.p_value)}"


def nested_words(log: EvaluationLog) -> str:
    """What choosing on validation items promised, and what it kept; empty without nested folds."""
    if log.nested is None:
        return ""
    n = log.nested
    lost, kept = (
        interval_words(one, signed=True, unit=" pp", name="") for one in (n.optimism_interval, n.outer_interval)
    )
    return (
        f"Selection optimism: {points(n.optimism)} "
        f"({lost} over {len(n.folds)} nested folds): the chosen cell's effect is "
        f"{points(n.validation_effect)} where it was chosen and {points(n.outer_effect)} "
        f"({kept}) on the fold left out."
    )


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + "." if words else ""


def cautions(log: EvaluationLog) -> tuple[str, ...]:
    """Reasons to read the headline with care."""
    said = []
    effect = log.effect
    for null in log.conditions:
        if null.name.startswith("null") and null.effect is not None and _excludes_zero(null.effect.interval):
            meant = (
                "Do not trust the headline until this is explained."
                if null.effect.value * effect.value > 0
                else "It goes the other way, so it does not explain the effect."
            )
            within = interval_words(null.effect.interval, signed=True, unit=" pp")
            said.append(
                f"A control that must show no effect shows one: {condition_label(null.name)}, "
                f"{points(null.effect.value)} ({within}). {meant}"
            )
    if effect.found and effect.balanced < effect.value / 2:
        said.append(
            f"Averaged over the right answer's letters the effect is {points(effect.balanced)} instead of "
            f"{points(effect.value)}: steering may favour one letter rather than the behaviour."
        )
    for name in ("prompt", "icl", "lora"):
        baseline = next((c for c in log.conditions if c.name == name), None)
        if baseline is not None and effect.found and _beats(baseline, log.condition("steered")):
            said.append(f"{condition_label(name)} does better than steering on the same items.")
    if log.power is not None and power_warning(log.power):
        said.append(_sentence(f"{power_words(log.power)}; {power_warning(log.power)}"))
    errors = sum(f.level == "error" for f in log.diagnostics)
    if errors:
        said.append(f"{errors} data {'diagnostic is' if errors == 1 else 'diagnostics are'} at level error; see below.")
    return tuple(said)


def _beats(left: Condition, right: Condition) -> bool:
    return left.rate.value > right.rate.value


def baseline_of_grid(log: EvaluationLog) -> tuple[float, str]:
    """The score that the cells are compared with, and where it comes from."""
    zero = next((c.score for c in log.cells if c.strength == 0), None)
    if zero is not None:
        return zero, "unsteered validation score"
    return log.condition("unsteered").rate.value, "unsteered accuracy on the test items"


def flat(values: Mapping[str, Any], prefix: str = "") -> tuple[tuple[str, str], ...]:
    """Provenance as (name, text) rows; nested names are joined with dots."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        full = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            rows += flat(value, f"{full}.")
        else:
            rows.append((full.replace("_", " "), _plain(value)))
    return tuple(rows)


def _plain(value: Any) -> str:
    if value is None or value == "" or value == [] or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(v) for v in value)
    return str(value)


def duration(seconds: float) -> str:
    if not finite(seconds):
        return decimal(seconds)
    if seconds < 120:
        return f"{decimal(seconds, 1)} s"
    return f"{decimal(seconds / 60, 1)} min" if seconds < 7200 else f"{decimal(seconds / 3600, 1)} h"
