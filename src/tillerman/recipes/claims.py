"""Claims and their verdicts as tables: those that a run decided, and the rest with what it could have shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tillerman.logs.reproduction import ClaimVerdict, ReproductionLog
from tillerman.logs.table import Table
from tillerman.recipes.metrics import METRICS, Metric
from tillerman.recipes.power import least_shown
from tillerman.recipes.recipe import Claim, Recipe
from tillerman.recipes.verdicts import FAILS, HOLDS, NOT_RUN, UNDECIDED, UNTESTABLE, Pooled
from tillerman.reports.numbers import size

OUTCOMES = (HOLDS, FAILS, UNDECIDED, UNTESTABLE)
_COUNTED = ("hold", "do not hold", "undecided", "cannot be tested here")
_MORE = {"above": "more", "below": "less"}
_PLURALS = {"seed": "seeds", "task": "tasks", "item": "items"}
TITLE = "The paper's claims"


def claims_table(recipe: Recipe, log: ReproductionLog) -> Table:
    """A line per claim and step it was tested in."""
    return _table(TITLE, recipe, {"": log}, range(len(log.verdicts)))


def sorted_claims(recipe: Recipe, logs: Mapping[str, ReproductionLog]) -> tuple[Table, Table]:
    """The lines that a run of ``logs`` decided, and those that none did: undecided, or not tested. ``logs`` by the
    name of their model, all weighed against this recipe."""
    rows = range(len(next(iter(logs.values())).verdicts))
    decided = [i for i in rows if any(log.verdicts[i].outcome in (HOLDS, FAILS) for log in logs.values())]
    rest = [i for i in rows if i not in decided]
    return _table(TITLE, recipe, logs, decided), _table("Claims that no run here decides", recipe, logs, rest)


def summary(log: ReproductionLog) -> str:
    """How many claims hold."""
    counts = [sum(verdict.outcome == outcome for verdict in log.verdicts) for outcome in OUTCOMES]
    said = ", ".join(f"{n} {words}" for n, words in zip(counts, _COUNTED, strict=True))
    return f"{len(log.verdicts)} tests of claims: {said}."


def with_interval(found: Pooled | ClaimVerdict, metric: Metric) -> str:
    """``+3.1 (−0.2 to +6.4)``; the value alone where its error was not measured."""
    show = metric.show
    assert found.value is not None and found.interval is not None
    low, high = show(found.interval.low), show(found.interval.high)
    return show(found.value) if low == high == show(found.value) else f"{show(found.value)} ({low} to {high})"


def counted(n: int, unit: str) -> str:
    return f"{n} {unit if n == 1 else _PLURALS.get(unit, unit + 's')}"


def _table(title: str, recipe: Recipe, logs: Mapping[str, ReproductionLog], rows: Sequence[int]) -> Table:
    """Of several logs each has one column, under its model's name."""
    claims = {claim.name: claim for claim in recipe.claims}
    lines = []
    for i in rows:
        first = next(iter(logs.values())).verdicts[i]
        claim = claims[first.claim]
        step = recipe.step(first.step).words if first.step else ""
        found = [_cells(claim, log.verdicts[i]) for log in logs.values()]
        cells = found[0] if len(found) == 1 else tuple(map(_one_cell, found))
        lines.append((claim.words, claim.source, step, *cells))
    heads = ("verdict", "measured", "power") if len(logs) == 1 else tuple(logs)
    return Table(title, ("claim", "source", "tested with", *heads), tuple(lines))


def _cells(claim: Claim, verdict: ClaimVerdict) -> tuple[str, str, str]:
    return verdict.outcome, _evidence(claim, verdict), shown_power(claim, verdict)


def _one_cell(cells: tuple[str, str, str]) -> str:
    outcome, evidence, power = cells
    if evidence.startswith(NOT_RUN):
        return "not run"
    return f"{outcome}: {evidence}" + (f"; power: {power}" if power else "")


def _evidence(claim: Claim, verdict: ClaimVerdict) -> str:
    if verdict.value is None:
        return verdict.why
    metric = METRICS[verdict.metric]
    shown = metric if claim.against is None else metric.difference
    difference = "" if claim.against is None else "ratio " if metric.log else "difference "
    figure = f"{difference}{with_interval(verdict, shown)} {shown.unit}".rstrip()
    figure += f", {counted(verdict.n, verdict.unit)}"
    return f"{figure}; {verdict.why}" if verdict.why else figure


def shown_power(claim: Claim, verdict: ClaimVerdict) -> str:
    """What such a run would have shown in four of five cases; nothing where it has no interval to tell by."""
    least = least_shown(claim, verdict)
    if least is None or verdict.outcome == UNTESTABLE:
        return ""
    metric, sign = METRICS[verdict.metric].difference, -1 if claim.expect == "below" else 1
    if metric.is_share and least > 1:
        return "none"
    if metric.log:
        return f"× {metric.show(least**sign)} or {'more' if sign > 0 else 'less'}"
    said = f"{metric.show(sign * least)} {metric.unit}".rstrip()
    return f"no change, to within {size(said)}" if claim.expect == "within" else f"{said} or {_MORE[claim.expect]}"
