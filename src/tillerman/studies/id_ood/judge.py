"""Where the effect stands, Holm-adjusted over all cases. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tillerman.logs.study import Chart, Judged, Line, Mark, Trial
from tillerman.logs.table import Table
from tillerman.logs.verdict import Verdict
from tillerman.reports import numbers
from tillerman.reports.numbers import percent, points
from tillerman.statistics.estimates import holm
from tillerman.statistics.values import Effect
from tillerman.studies.id_ood.options import FREE, HOME, MATRIX, OTHER, REPLY_TOKENS, IdOodOptions
from tillerman.studies.trials import (
    cases_of,
    has,
    in_points,
    mark,
    null_effect,
    paired,
    pick,
    rate_of,
    said,
    shown,
    shown_rate,
)

HOLDS = 0.05  # Holm-adjusted p
MOST = 0.7  # share of the ways of asking in which an effect must stand
_NOTES = (
    "p-values are Holm-adjusted over all cases; intervals are not adjusted.",
    f"'{FREE}': the first answer word of a reply of at most {REPLY_TOKENS} tokens; a reply without one is wrong.",
)


def judge(trials: Sequence[Trial], options: IdOodOptions) -> Judged:
    cases = [case for case in cases_of(trials) if not case.startswith(MATRIX)]
    effects = {case: paired(trials, case) for case in cases}
    adjusted = dict(zip(cases, holm([found.p_value for found in effects.values()]), strict=True))
    same = [case for case in cases if not case.startswith(OTHER)]
    tables = [_shifts_table(trials, same, effects, adjusted)]
    charts = [_bars("Effect of the vector, asked in other ways", trials, same, effects)]
    away = [case for case in cases if case.startswith(OTHER)]
    if away:
        tables.append(
            _shifts_table(trials, away, effects, adjusted, title="Other behaviours: what the vector does there")
        )
        charts.append(_bars("Effect of the same vector on other behaviours", trials, away, effects))
    matrix = [case for case in cases_of(trials) if case.startswith(MATRIX)]
    if matrix:
        tables.append(_matrix_table(trials, matrix, effects))
    return Judged(_verdict(trials, same, away, effects, adjusted), tuple(tables), tuple(charts), _NOTES)


def holds(found: Effect, adjusted: float) -> bool:
    """Whether an effect stands, all cases counted."""
    return found.value > 0 and adjusted < HOLDS


def _verdict(
    trials: Sequence[Trial],
    same: Sequence[str],
    away: Sequence[str],
    effects: Mapping[str, Effect],
    adjusted: Mapping[str, float],
) -> Verdict:
    home, shifts = effects[HOME], [case for case in same if case != HOME]
    random = null_effect(trials, HOME)
    if not holds(home, adjusted[HOME]):
        return Verdict("bad", f"There is no effect to generalise: as fitted it is {said(home)}.")
    if random is not None and random[1].high >= home.interval.low and random[0] > home.value / 2:
        words = (
            f"Random directions of the same norm have a comparable effect: {in_points(*random)} pp, "
            f"against {said(home)}."
        )
        return Verdict("bad", words)
    kept = [case for case in shifts if holds(effects[case], adjusted[case])]
    words = f"As fitted the effect is {said(home)}."
    if not shifts:
        return Verdict("unclear", f"{words} These items cannot be asked in another way; give other sources.")
    words += f" It holds in {len(kept)} of {len(shifts)} other ways of asking (Holm p < {HOLDS})"
    lost = [case for case in shifts if case not in kept]
    mean = float(np.mean([effects[case].value for case in shifts])) / home.value
    words += f"; on average {percent(mean, 0)} of it remains."
    if lost:
        words += " Not found: " + ", ".join(f"{case} ({points(effects[case].value)})" for case in lost) + "."
    moved = [case for case in away if adjusted[case] < HOLDS]
    specific = not any(abs(effects[case].value) >= home.value / 2 for case in moved)
    if moved:
        named = ", ".join(f"{case.removeprefix(OTHER)} ({points(effects[case].value)})" for case in moved)
        words += f" It also moves other behaviours: {named}" + (
            "." if specific else "; it is not specific to this one."
        )
    good = specific and len(kept) / len(shifts) >= MOST
    return Verdict("good" if good else "mixed" if kept else "bad", words)


def _shifts_table(
    trials: Sequence[Trial],
    cases: Sequence[str],
    effects: Mapping[str, Effect],
    adjusted: Mapping[str, float],
    title: str = "The same behaviour, asked in other ways",
) -> Table:
    rows = []
    for case in cases:
        random = null_effect(trials, case)
        rows.append(
            (
                case.removeprefix(OTHER),
                str(effects[case].n),
                shown_rate(rate_of(pick(trials, case, "unsteered"))),
                shown_rate(rate_of(pick(trials, case, "steered"))),
                shown(effects[case]),
                numbers.p_value(adjusted[case]).removeprefix("p ").removeprefix("= "),
                shown(paired(trials, case, "prompt")) if has(trials, case, "prompt") else "",
                "" if random is None else in_points(*random),
            )
        )
    head = (
        "",
        "n",
        "unsteered, % (95 %)",
        "steered, % (95 %)",
        "effect, pp (95 %)",
        "p (Holm)",
        "prompt, pp (95 %)",
        "random null, pp (95 %)",
    )
    strong = tuple(i for i, case in enumerate(cases) if holds(effects[case], adjusted[case]))
    return Table(title, head, tuple(rows), strong)


def _matrix_table(trials: Sequence[Trial], cases: Sequence[str], effects: Mapping[str, Effect]) -> Table:
    """Rows: vectors. Columns: the behaviours they were tested on."""
    names = list(dict.fromkeys(case.removeprefix(MATRIX).rpartition(" on ")[0] for case in cases))
    rows = [("this vector", shown(effects[HOME]), *(shown(effects[OTHER + name]) for name in names))]
    for name in names:
        cells = ["" for _ in names]
        cells[names.index(name)] = shown(paired(trials, f"{MATRIX}{name} on {name}"))
        rows.append((name, shown(paired(trials, f"{MATRIX}{name} on {HOME}")), *cells))
    title = "Vectors of other behaviours, same method, hook points and dose: effect in pp (95 %)"
    return Table(title, ("vector", "this behaviour", *names), tuple(rows))


def _bars(title: str, trials: Sequence[Trial], cases: Sequence[str], effects: Mapping[str, Effect]) -> Chart:
    lines = [Line("steered", tuple(mark(case.removeprefix(OTHER), effects[case]) for case in cases))]
    told = [mark(case, paired(trials, case, "prompt")) for case in cases if has(trials, case, "prompt")]
    if told:
        lines.append(Line("prompt", tuple(told), "prompt"))
    nulls = [
        Mark(case.removeprefix(OTHER), found[0], found[1], effects[case].n)
        for case in cases
        if (found := null_effect(trials, case)) is not None
    ]
    if nulls:
        lines.append(Line("random direction", tuple(nulls), "null"))
    return Chart(title, "bars", "pp", tuple(lines), axis="effect against unsteered")
