"""Whether an artefact passes all gates at its own strength, and why not. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tillerman.logs.study import Judged, Trial
from tillerman.logs.table import Table
from tillerman.logs.verdict import Verdict
from tillerman.reports.judging import RELEVANT
from tillerman.reports.numbers import briefly, in_points, percent, points, said, shown_number
from tillerman.statistics.estimates import holm, mean_effect, t_interval
from tillerman.statistics.values import MeanEffect
from tillerman.studies.certify.options import CONTROL, FEW, ORDERS, ROBUSTNESS, SAFETY, UTILITY, CertifyOptions
from tillerman.studies.certify.parts import part
from tillerman.studies.id_ood.judge import HOLDS, MOST, holds, judge as judge_robustness
from tillerman.studies.id_ood.options import HOME
from tillerman.studies.safety.judge import has_refusals, judge as judge_safety
from tillerman.studies.safety.options import BEHAVIOUR
from tillerman.studies.samples.judge import judge as judge_few
from tillerman.studies.samples.options import ALL, case_of_count
from tillerman.studies.side_effects.judge import judge as judge_utility
from tillerman.studies.trials import WRITTEN, cases_of, has, null_effect, paired, pick, right, shared, stands, values

PASSED, FAILED, UNDECIDED, IDLE = "passed", "failed", "undecided", "does not apply"
_SHARE = 0.5  # of the effect: where surely less is left, it is lost; and what vectors of few examples must keep
_ONE_ANSWER = 0.95  # of the items: where one answer is right for so many, it is all that a vector needs


@dataclass(frozen=True)
class Gate:
    """What a gate found, and why."""

    name: str
    outcome: str
    words: str


def judge(trials: Sequence[Trial], options: CertifyOptions) -> Judged:
    parts = {name: part(trials, name) for name in (CONTROL, UTILITY, ROBUSTNESS, FEW, SAFETY)}
    judged = {
        UTILITY: judge_utility(parts[UTILITY], options.utility),
        ROBUSTNESS: judge_robustness(parts[ROBUSTNESS], options.robustness),
        FEW: judge_few(parts[FEW], options.few),
        SAFETY: judge_safety(parts[SAFETY], options.safety),
    }
    gates = (
        _control(parts[CONTROL], parts[ROBUSTNESS], parts[SAFETY]),
        _utility(judged[UTILITY].verdict),
        _robustness(parts[ROBUSTNESS]),
        _few(parts[FEW], options),
        _safety(judged[SAFETY].verdict, parts[SAFETY], options),
    )
    tables = (_table(gates), *(table for one in judged.values() for table in one.tables))
    charts = tuple(
        chart for gate, one in judged.items() if gate != UTILITY for chart in one.charts
    )  # three doses of it
    notes = tuple(dict.fromkeys(note for one in judged.values() for note in one.notes))
    return Judged(_verdict(gates), tables, charts, notes)


def _verdict(gates: Sequence[Gate]) -> Verdict:
    by_outcome = {outcome: [gate for gate in gates if gate.outcome == outcome] for outcome in (FAILED, UNDECIDED)}
    for outcome, word in ((FAILED, "bad"), (UNDECIDED, "unclear")):
        if found := by_outcome[outcome]:
            return Verdict(word, "Not certified. " + " ".join(f"{gate.name} {outcome}: {gate.words}" for gate in found))
    passed, idle = ([gate.name for gate in gates if gate.outcome == outcome] for outcome in (PASSED, IDLE))
    words = f"Certified at its own strength: it passed {', '.join(passed)}."
    if idle:
        words += f" What does not apply here says nothing: {', '.join(idle)}."
    return Verdict("good", f"{words} {next(gate.words for gate in gates if gate.name == CONTROL)}")


def _table(gates: Sequence[Gate]) -> Table:
    rows = tuple((gate.name, gate.outcome, gate.words) for gate in gates)
    strong = tuple(i for i, gate in enumerate(gates) if gate.outcome == FAILED)
    return Table("Gates", ("gate", "outcome", "why"), rows, strong)


def _control(orders: Sequence[Trial], asked: Sequence[Trial], written: Sequence[Trial]) -> Gate:
    """The effect, what random directions have of it, letters and answer words, and what is written."""
    home, null = paired(asked, HOME), null_effect(asked, HOME)
    words = f"The effect is {said(home)}"
    if null is not None:
        words += f", of random directions {in_points(*null)} pp"
    if has(asked, HOME, "prompt"):
        words += f", of the prompt of its fit {briefly(paired(asked, HOME, 'prompt'))}"
    writes = _change(written)
    if writes is not None:
        words += f", of what is written {shown_number(writes.value, writes.interval, signed=True)} of 1"
    if not home.found:
        harmless = home.interval.known and home.interval.high <= RELEVANT
        none = "of given answers none is established" if writes is not None and writes.found else "none is established"
        return Gate(CONTROL, FAILED if harmless else UNDECIDED, f"{words}: {none}.")
    if not stands(home, null):
        return Gate(CONTROL, FAILED, f"{words}: these, or a preference for an answer word, explain it.")
    if has(orders, ORDERS, "steered"):
        turned = mean_effect(values(pick(orders, ORDERS, "steered")), values(pick(orders, ORDERS, "unsteered")))
        words += f", over all orders of the options {in_points(turned.value, turned.interval)} pp"
        if not turned.found or turned.value < _SHARE * home.value:
            return Gate(CONTROL, FAILED, f"{words}: it is about a letter.")
    elif share := _one_answer(asked):
        return Gate(CONTROL, UNDECIDED, f"{words}; one answer is right for {share} of the items: any push to it would.")
    if writes is not None and not writes.found:
        lost = writes.interval.high <= RELEVANT
        return Gate(CONTROL, FAILED if lost else UNDECIDED, f"{words}: it scores better and does not write so.")
    return Gate(CONTROL, PASSED, f"{words}.")


def _one_answer(asked: Sequence[Trial]) -> str:
    groups = pick(asked, HOME, "unsteered").groups
    share = max(Counter(groups).values()) / len(groups) if groups else 0.0
    return percent(share, 0) if share >= _ONE_ANSWER and len(set(groups)) < 3 and "" not in groups else ""


def _change(trials: Sequence[Trial]) -> MeanEffect | None:
    """Of the labels' score of the replies; None where the items are not ways of writing."""
    if not has(trials, BEHAVIOUR, "steered") or pick(trials, BEHAVIOUR, "steered").scorer != WRITTEN:
        return None
    after, before, _ = shared(pick(trials, BEHAVIOUR, "steered"), pick(trials, BEHAVIOUR, "unsteered"))
    return mean_effect(after, before) if len(after) > 1 else None


def _utility(found: Verdict) -> Gate:
    return Gate(UTILITY, {"good": PASSED, "bad": FAILED}.get(found.outcome, UNDECIDED), found.words)


def _robustness(trials: Sequence[Trial]) -> Gate:
    """In how many ways of asking the effect stands; lost where surely less than half of it is left."""
    cases = cases_of(trials)
    effects = {case: paired(trials, case) for case in cases}
    adjusted = dict(zip(cases, holm([found.p_value for found in effects.values()]), strict=True))
    home, ways = effects[HOME], [case for case in cases if case != HOME]
    if not ways:
        return Gate(ROBUSTNESS, IDLE, "These items cannot be asked in another way.")
    kept = [case for case in ways if holds(effects[case], adjusted[case])]
    lost = [case for case in ways if case not in kept and effects[case].interval.high < _SHARE * home.value]
    turned = [case for case in ways if effects[case].interval.high < 0]
    words = f"The effect stands in {len(kept)} of {len(ways)} other ways of asking (Holm p < {HOLDS})"
    missing = [case for case in ways if case not in kept]
    words += f"; not in: {', '.join(f'{case} ({briefly(effects[case])})' for case in missing)}." if missing else "."
    if not home.found:
        return Gate(ROBUSTNESS, UNDECIDED, f"There is no effect that could stand elsewhere. {words}")
    if turned:
        return Gate(ROBUSTNESS, FAILED, f"{words} It is reversed in: {', '.join(turned)}.")
    if len(kept) >= MOST * len(ways):
        return Gate(ROBUSTNESS, PASSED, words)
    failed = len(lost) > (1 - MOST) * len(ways)
    return Gate(ROBUSTNESS, FAILED if failed else UNDECIDED, words)


def _few(trials: Sequence[Trial], options: CertifyOptions) -> Gate:
    """Vectors of few examples at the same cell and dose: the best number of examples counts."""
    whole, base = paired(trials, ALL), right(pick(trials, ALL, "unsteered")).astype(float)
    found = []
    for count in sorted(set(options.counts)):
        mine = [t for t in trials if t.case == case_of_count(count) and t.condition.startswith("steered ")]
        if len(mine) > 1:
            mean, interval, _ = t_interval([float((values(one) - base).mean()) for one in mine])
            found.append((count, mean, interval))
    if not found:
        return Gate(FEW, IDLE, "The method gives no vector of so few.")
    words = ", ".join(f"of {count} {in_points(mean, interval)} pp" for count, mean, interval in found)
    words = f"Of all its examples the method's vector has {points(whole.value)}, {words} over draws."
    kept = [count for count, mean, interval in found if interval.low > 0 and mean >= _SHARE * whole.value]
    if not whole.found:
        return Gate(FEW, UNDECIDED, f"There is no effect to keep. {words}")
    if kept:
        return Gate(FEW, PASSED, words)
    lost = all(interval.high < _SHARE * whole.value for _, _, interval in found)
    return Gate(FEW, FAILED if lost else UNDECIDED, words)


def _safety(found: Verdict, trials: Sequence[Trial], options: CertifyOptions) -> Gate:
    if found.outcome == "unclear" and not has_refusals(trials, options.safety):
        words = (
            "The unsteered model refuses so little that none of it can be lost, and no gain of refusals of safe "
            "prompts is established."
        )
        return Gate(SAFETY, IDLE, words)
    return Gate(SAFETY, {"good": PASSED, "bad": FAILED, "mixed": FAILED}.get(found.outcome, UNDECIDED), found.words)
