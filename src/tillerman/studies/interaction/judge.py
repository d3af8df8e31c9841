"""What each vector keeps in company, and whether effects and costs add up. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tillerman.logs.study import Chart, Judged, Line, Mark, Trial
from tillerman.logs.table import Table
from tillerman.logs.verdict import Verdict
from tillerman.reports.numbers import percent, points
from tillerman.statistics.values import Effect, Interval
from tillerman.studies.interaction.options import COMPANY, PROMPT, TOGETHER, InteractionOptions, acting_alone, left_out
from tillerman.studies.trials import (
    KL,
    PERPLEXITY,
    Figure,
    cases_of,
    change,
    has,
    in_points,
    mark,
    mean_of,
    null_effect,
    odds_of,
    paired,
    pick,
    rate_of,
    said,
    said_share,
    share_of,
    shown,
    shown_figure,
    shown_rate,
    stands,
    values,
)

_KEPT, _LOST = 0.7, 0.5  # share of the effect alone: at least so much is kept, less than so much is lost
_NOTES = (
    "Additivity: joint effect minus the sum of the separate effects, per item; log-odds are in nats; below 0 the "
    "vectors get in each other's way.",
    "Random company: each vector with random directions of the others' norms instead of these.",
    "Neutral text is steered on every token; costs are additive where the joint cost equals the sum.",
)


@dataclass(frozen=True)
class _Behaviour:
    """One behaviour's own vector, alone and in company. ``kept`` is None where it does nothing alone."""

    name: str
    alone: Effect
    together: Effect
    company: tuple[float, Interval] | None
    works: bool
    kept: Figure | None
    beyond: Figure  # together less random company, per item


def judge(trials: Sequence[Trial], options: InteractionOptions) -> Judged:
    del options  # all that matters is in the trials
    names = [case for case in cases_of(trials) if case not in (KL, PERPLEXITY)]
    found = [_behaviour(trials, name) for name in names]
    tables = (_own(trials, found), _additivity_table(trials, names), _cross(trials, names), _costs(trials, names))
    charts = (_effects_chart(found), _additivity_chart(trials, names), *_cost_chart(trials, names))
    return Judged(_verdict(trials, found), tables, charts, _NOTES)


def _behaviour(trials: Sequence[Trial], name: str) -> _Behaviour:
    alone, together = change(trials, name, acting_alone(name)), change(trials, name, TOGETHER)
    draws = [t.condition for t in trials if t.case == name and t.condition.startswith(f"{COMPANY} ")]
    pushed = np.mean([change(trials, name, draw) for draw in draws], axis=0)
    own = paired(trials, name, acting_alone(name))
    return _Behaviour(
        name=name,
        alone=own,
        together=paired(trials, name, TOGETHER),
        company=null_effect(trials, name, COMPANY),
        works=stands(own, null_effect(trials, name)),
        kept=share_of(together, alone) if own.found else None,
        beyond=mean_of(together - pushed),
    )


def _additivity(trials: Sequence[Trial], case: str, names: Sequence[str], *, odds: bool) -> tuple[Figure, ...] | None:
    """Sum of the effects alone, effect together, and together less the sum; None where there are no log-odds."""
    conditions = [*(acting_alone(name) for name in names), TOGETHER]
    base = "unsteered"
    if odds:
        conditions, base = [odds_of(one) for one in conditions], odds_of(base)
        if not all(has(trials, case, one) for one in (*conditions, base)):
            return None
    *alone, together = (change(trials, case, one, base) for one in conditions)
    total: NDArray[np.float64] = np.sum(alone, axis=0)
    return mean_of(total), mean_of(together), mean_of(together - total)


def _verdict(trials: Sequence[Trial], found: Sequence[_Behaviour]) -> Verdict:
    idle = [one for one in found if not one.works]
    if idle:
        words = "; ".join(f"{one.name}, {said(one.alone)}" for one in idle)
        return Verdict("bad", f"Nothing to combine: alone there is no effect beyond the controls of {words}.")
    kept = [(one, one.kept) for one in found if one.kept is not None]
    words = "Together " + "; ".join(
        f"{one.name} keeps {said_share(share)} of its {points(one.alone.value)} (n = {one.alone.n})"
        for one, share in kept
    )
    words += f". {_blame([one for one, share in kept if share.interval.high < 1])}{_sums(trials, found)}"
    lows, highs = [s.interval.low for _, s in kept], [s.interval.high for _, s in kept]
    if min(highs) < _LOST:
        return Verdict("bad", words)
    if min(lows) >= _KEPT:
        return Verdict("good", words)
    return Verdict("mixed" if min(highs) < 1 else "unclear", words)


def _blame(less: Sequence[_Behaviour]) -> str:
    """Whether what is lost is the other vectors' doing, or any push's of their size."""
    parts = []
    for one in less:
        alike = one.beyond.interval.high >= 0
        company = "" if one.company is None else f" ({points(one.company[0])} in random company)"
        whose = "a random direction of the same size costs as much" if alike else "the other vector is the cause"
        parts.append(f"{one.name}: {whose}{company}")
    return f"What is lost: {'; '.join(parts)}. " if parts else ""


def _sums(trials: Sequence[Trial], found: Sequence[_Behaviour]) -> str:
    names, parts = [one.name for one in found], []
    for name in names:
        sums = _additivity(trials, name, names, odds=True)
        if sums is not None:
            gap = sums[2].interval
            word = "less than the sum" if gap.high < 0 else "more than the sum" if gap.low > 0 else "as much as the sum"
            parts.append(f"{name} {word} ({shown_figure(sums[2])} nats)")
    words = f"In log-odds, together is {', '.join(parts)}." if parts else ""
    cost = _cost(trials, KL, names)
    if cost is not None:
        words += f" KL together is {percent(cost[1].value / cost[0].value, 0)} of the sum." if cost[0].value > 0 else ""
    return words


def _cost(trials: Sequence[Trial], case: str, names: Sequence[str]) -> tuple[Figure, Figure, Figure] | None:
    """As ``_additivity``, of costs on neutral text; None where steering broke the model."""
    if not all(has(trials, case, one) for one in (*map(acting_alone, names), TOGETHER)):
        return None
    total = np.sum([values(pick(trials, case, acting_alone(name))) for name in names], axis=0)
    together = values(pick(trials, case, TOGETHER))
    return mean_of(total), mean_of(together), mean_of(together - total)


def _own(trials: Sequence[Trial], found: Sequence[_Behaviour]) -> Table:
    head = (
        "behaviour",
        "n",
        "unsteered, % (95 %)",
        "alone, pp (95 %)",
        "together, pp (95 %)",
        "kept (95 %)",
        "random company, pp (95 %)",
        "together less it, pp (95 %)",
        "prompt of all, pp (95 %)",
    )
    rows = [
        (
            one.name,
            str(one.alone.n),
            shown_rate(rate_of(pick(trials, one.name, "unsteered"))),
            shown(one.alone),
            shown(one.together),
            "" if one.kept is None else said_share(one.kept),
            "" if one.company is None else in_points(*one.company),
            in_points(one.beyond.value, one.beyond.interval),
            shown(paired(trials, one.name, PROMPT)) if has(trials, one.name, PROMPT) else "",
        )
        for one in found
    ]
    strong = tuple(i for i, one in enumerate(found) if one.works)
    return Table("Each vector on its own behaviour, alone and in company", head, tuple(rows), strong)


def _additivity_table(trials: Sequence[Trial], names: Sequence[str]) -> Table:
    rows = []
    for name in names:
        inside = _additivity(trials, name, names, odds=False)
        odds = _additivity(trials, name, names, odds=True)
        assert inside is not None  # right and wrong are always there
        cells = [in_points(one.value, one.interval) for one in inside]
        rows.append((name, *cells, *(map(shown_figure, odds) if odds else ("not a number",) * 3)))
    head = (
        "behaviour",
        "sum alone, pp",
        "together, pp",
        "less the sum, pp (95 %)",
        "sum alone, log-odds",
        "together, log-odds",
        "less the sum, log-odds (95 %)",
    )
    return Table("Do effects add up?", head, tuple(rows))


def _cross(trials: Sequence[Trial], names: Sequence[str]) -> Table:
    """Rows: vectors. Columns: the behaviours they were tested on."""
    rows = [
        (acting_alone(name), *(shown(paired(trials, case, acting_alone(name))) for case in names)) for name in names
    ]
    rows.append((TOGETHER, *(shown(paired(trials, case, TOGETHER)) for case in names)))
    if len(names) > 2:
        rows += [(left_out(name), *(shown(paired(trials, case, left_out(name))) for case in names)) for name in names]
    title = "Each vector on every behaviour: effect in pp (95 %)"
    return Table(title, ("steered by", *names), tuple(rows), (len(names),))


def _costs(trials: Sequence[Trial], names: Sequence[str]) -> Table:
    rows = []
    for condition in dict.fromkeys(t.condition for t in trials if t.case in (KL, PERPLEXITY)):
        cells = [
            shown_figure(mean_of(values(pick(trials, case, condition))), 3, signed=False)
            if has(trials, case, condition)
            else "not a number"
            for case in (KL, PERPLEXITY)
        ]
        rows.append((condition, *cells))
    both = [_cost(trials, case, names) for case in (KL, PERPLEXITY)]
    rows.append(("together less the sum", *("not a number" if b is None else shown_figure(b[2], 3) for b in both)))
    head = ("steered by", "KL, nats/token (95 %)", "log of the perplexity ratio, nats/token (95 %)")
    return Table("What it costs on neutral text", head, tuple(rows))


def _effects_chart(found: Sequence[_Behaviour]) -> Chart:
    lines = [
        Line("alone", tuple(mark(one.name, one.alone) for one in found)),
        Line("together", tuple(mark(one.name, one.together) for one in found), "cost"),
    ]
    pushed = tuple(Mark(one.name, *one.company, one.alone.n) for one in found if one.company is not None)
    return Chart(
        "Each vector on its own behaviour",
        "bars",
        "pp",
        (*lines, Line(COMPANY, pushed, "null")),
        axis="effect against unsteered",
    )


def _additivity_chart(trials: Sequence[Trial], names: Sequence[str]) -> Chart:
    sums = {name: found for name in names if (found := _additivity(trials, name, names, odds=True)) is not None}

    def line(title: str, place: int, role: str) -> Line:
        marks = [
            Mark(n, f[place].value, f[place].interval, len(values(pick(trials, n, TOGETHER)))) for n, f in sums.items()
        ]
        return Line(title, tuple(marks), role)

    lines = (line("sum of the effects alone", 0, "prompt"), line("together", 1, "steered"))
    return Chart("Do effects add up? Log-odds of the right answer", "bars", "", lines, axis="change of the log-odds")


def _cost_chart(trials: Sequence[Trial], names: Sequence[str]) -> list[Chart]:
    marks = []
    for condition in (*map(acting_alone, names), TOGETHER):
        if has(trials, KL, condition):
            per_window = values(pick(trials, KL, condition))
            found = mean_of(per_window)
            marks.append(Mark(condition, found.value, found.interval, len(per_window)))
    return [Chart("KL on neutral text", "bars", "nats", (Line("KL", tuple(marks), "cost"),))] if marks else []
