"""The measured parts of docs/forecast.md."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from foretelling import BINS, FIGURES, LEAST, MODELS, OUTCOMES, beyond, correlation, left_out, pairs
from measured import Measured

from tillerman.logs.table import Table
from tillerman.reports.numbers import decimal, percent, shown_number
from tillerman.reports.tables import markdown_table


def parts(many: Sequence[Measured]) -> dict[str, str]:
    of = {name: [one for one in many if one.model == name] for name in MODELS}
    of = {name: mine for name, mine in of.items() if mine}
    return {
        "what was measured": _measured(of),
        "figures": "\n".join(_figures(name, mine) for name, mine in of.items()),
        "left out": "\n".join(_left_out(name, mine) for name, mine in of.items()),
        "behaviours": "\n".join(_behaviours(name, mine) for name, mine in of.items()),
    }


def _measured(of: dict[str, list[Measured]]) -> str:
    head = (
        "model",
        "behaviours",
        "refused",
        "effect beyond nulls",
        "log-odds fell",
        "median change, nats",
        "CPU s each",
    )
    rows = []
    for name, mine in of.items():
        found = [one.outcome for one in mine if one.outcome is not None]
        fell = sum(one.change.interval.high < 0 for one in found)
        rows.append(
            (
                MODELS[name],
                str(len(found)),
                str(len(mine) - len(found)),
                str(sum(one.beyond_nulls for one in found)),
                str(fell),
                decimal(float(np.median([one.change.value for one in found])), 2, signed=True),
                decimal(float(np.mean([one.cpu_seconds for one in mine])), 0),
            )
        )
    return markdown_table(Table("", head, tuple(rows))) + "\n"


def _figures(name: str, mine: list[Measured]) -> str:
    head = ("figure", "n", *OUTCOMES, "AUC for an effect beyond nulls")
    rows = []
    for figure in FIGURES:
        found = pairs(mine, figure)
        if len(found) < LEAST:
            continue
        cells = [correlation(found, outcome) for outcome in OUTCOMES]
        ranked = beyond(found)
        last = "one outcome only" if ranked is None else shown_number(ranked.value, ranked.interval)
        shown = (shown_number(one.value, one.interval, signed=True) for one in cells)
        rows.append((figure, str(len(found)), *shown, last))
    if not rows:
        return f"{MODELS[name]}: fewer than {LEAST} behaviours, too few to say anything.\n"
    return (
        f"{MODELS[name]}, rank correlation over behaviours (95 %):\n\n{markdown_table(Table('', head, tuple(rows)))}\n"
    )


def _left_out(name: str, mine: list[Measured]) -> str:
    found = pairs(mine, next(iter(FIGURES)))
    seen = sum(one.outcome.beyond_nulls for one in found)
    if len(found) < LEAST or min(seen, len(found) - seen) < BINS:
        return f"{MODELS[name]}: {len(found)} behaviours, {seen} with an effect beyond nulls: too few for a curve.\n"
    out = left_out(found)
    rows = tuple(
        (which, str(count), percent(foretold, 0), percent(share, 0))
        for which, (foretold, share, count) in zip(("lowest third", "middle", "highest third"), out.bins(), strict=True)
    )
    table = markdown_table(Table("", ("foretold chance", "behaviours", "foretold, mean", "seen"), rows))
    better = "better" if out.brier < out.brier_of_rate else "no better"
    return (
        f"{MODELS[name]}: Brier score {decimal(out.brier, 3)}, that of the share of the other behaviours "
        f"{decimal(out.brier_of_rate, 3)}: {better} than knowing only how many have an effect.\n\n{table}\n"
    )


def _behaviours(name: str, mine: list[Measured]) -> str:
    head = (
        "behaviour",
        "AUC within",
        "shuffled",
        "agreement within",
        "unsteered, %",
        "change of log-odds",
        "wrong way, %",
    )
    rows = []
    for one in sorted(mine, key=lambda one: one.behaviour):
        if one.forecast is None or one.outcome is None:
            continue
        best, null, out = one.forecast.best.figures, one.forecast.null, one.outcome
        mark = " *" if out.beyond_nulls else ""
        rows.append(
            (
                one.behaviour,
                decimal(best.auc_within),
                decimal(null.auc_within),
                decimal(best.agreement_within, 2, signed=True),
                decimal(100 * one.unsteered, 0),
                shown_number(out.change.value, out.change.interval, signed=True) + mark,
                decimal(100 * out.moved_wrong, 0),
            )
        )
    return f"{MODELS[name]} (*: beyond nulls)\n\n{markdown_table(Table('', head, tuple(rows)))}\n"
