"""What an experiment tracker is told of a log: parameters to filter runs by, figures, curves and tables. Pure; no
tracker is known here (see ``reports.trackers``).

Texts of the data and of the model (items, replies, prompts, the page with its examples) are left out unless asked for:
a tracker is often somebody else's machine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tillerman.logs.base import Log
from tillerman.logs.comparison import ComparisonLog
from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.tidy import Row
from tillerman.reports.pages import render_report
from tillerman.reports.verdict import judge_log

Parameter = str | int | float | bool

WITH_TEXTS = ("items", "replies", "prompts", "trials", "values", "dropped")  # tables that hold texts, or a row per text
# Kind -> the table whose numbers are the run's figures, and the columns that name each of them.
_FIGURES = {
    "evaluation": ("conditions", ("condition",)),
    "comparison": ("methods", ()),
    "second-look": ("tests", ("data", "condition")),
    "validation": ("agreement", ("first", "second")),
    "study": ("marks", ("chart", "line", "label")),
    "reproduction": ("verdicts", ("claim",)),
    "scores": ("figures", ("scorer", "condition")),
    "monitor": ("readings", ("reading",)),
    "thoughts": ("conditions", ("condition",)),
    "making": ("pairs", ()),
}
_NAME = 120  # characters of a run's name
_ABOUT = ("recipe", "study", "data", "model", "method", "fitted", "hook_point", "scope", "strength", "dose")


@dataclass(frozen=True)
class Tracked:
    """One run of a tracker. ``steps`` are points of a curve in order; ``files`` texts by name."""

    name: str
    kind: str
    parameters: Mapping[str, Parameter]
    figures: Mapping[str, float]
    steps: tuple[Mapping[str, float], ...] = ()
    tables: Mapping[str, tuple[Row, ...]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


def tracked(log: Log, texts: bool = False) -> tuple[Tracked, ...]:
    """The runs of a log: one, or of a comparison one per data set and method, so that a tracker can set them side by
    side. ``texts``: with the tables that hold texts, the log itself and the report's page."""
    tables = {name: log.rows(name) for name in log.tidy() if texts or name not in WITH_TEXTS}
    files = {"log.json": json.dumps(log.to_json(), ensure_ascii=False)} if texts else {}
    main, names = _FIGURES[log.kind]
    if isinstance(log, ComparisonLog):
        runs = tuple(_of_method(row, log) for row in log.rows(main))
        return tuple(replace(run, files=files) for run in runs)
    rows = log.rows(main)
    run = Tracked(
        name=_name(log),
        kind=log.kind,
        parameters=_about(rows, log),
        figures=_figures(rows, names),
        tables={name: rows for name, rows in tables.items() if rows},
        files=files,
    )
    return (_of_evaluation(run, log, texts) if isinstance(log, EvaluationLog) else run,)


def _of_evaluation(run: Tracked, log: EvaluationLog, texts: bool) -> Tracked:
    sizes: dict[str, Parameter] = {"items_train": log.n_train, "items_validation": log.n_validation}
    curve = tuple(
        {f"curve/{name}": value for name, value in _numbers(row).items() if name in ("strength", "rate", "kl")}
        for row in log.rows("curve")
    )
    return replace(
        run,
        parameters={**run.parameters, **sizes, "items_test": log.n_test, "verdict": judge_log(log).outcome},
        figures={**run.figures, **_figures(log.rows("side_effects"), ()), "seconds": log.seconds},
        steps=curve,
        files={**run.files, "report.html": render_report(log)} if texts else run.files,
    )


def _of_method(row: Row, log: ComparisonLog) -> Tracked:
    """A method's row of a comparison, with its nulls and the baselines of its data set."""
    beside = [one for one in log.rows("conditions") if one["data"] == row["data"]]
    return Tracked(
        name=f"{row['data']} {row['method']}"[:_NAME],
        kind=log.kind,
        parameters=_about((row,), log),
        figures=_figures((row,), ()),
        tables={"conditions": tuple(one for one in beside if one["method"] in ("", row["method"]))},
    )


def _name(log: Any) -> str:
    """As a list of runs shows it."""
    row: Row = next(iter(log.rows()), {})
    parts = [log.kind, *(str(row[name]) for name in ("recipe", "study", "data", "method") if row.get(name))]
    return " ".join(parts)[:_NAME]


def _about(rows: tuple[Row, ...], log: Log) -> dict[str, Parameter]:
    first = rows[0] if rows else {}
    return {name: first[name] for name in _ABOUT if first.get(name) is not None} | {"kind": log.kind}


def _figures(rows: Iterable[Row], names: tuple[str, ...]) -> dict[str, float]:
    """Every number of the rows under the names of its row and its column: ``steered/effect_low``."""
    figures = {}
    for row in rows:
        begin = "/".join(str(row[name]) for name in names)
        for column, value in _numbers({k: v for k, v in row.items() if k not in (*_ABOUT, *names)}).items():
            figures[f"{begin}/{column}" if begin else column] = value
    return figures


def _numbers(row: Row) -> dict[str, float]:
    """Numbers that are known; a tracker has no place for the rest."""
    return {
        name: float(value) for name, value in row.items() if isinstance(value, int | float) and math.isfinite(value)
    }
