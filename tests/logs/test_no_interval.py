"""An interval without ends goes through JSON, and through every report, as what it is."""

from __future__ import annotations

import json
from dataclasses import replace

from tillerman.logs.evaluation import EvaluationLog
from tillerman.reports.evaluation import account
from tillerman.reports.pages import render_report
from tillerman.reports.summary import summary
from tillerman.statistics.values import NO_INTERVAL

from ..reports.example_log import example_log


def _few() -> EvaluationLog:
    log = example_log()
    rows = [
        replace(
            c,
            rate=replace(c.rate, interval=NO_INTERVAL),
            effect=None if c.effect is None else replace(c.effect, interval=NO_INTERVAL, n=3),
        )
        for c in log.conditions
    ]
    return replace(log, conditions=tuple(rows))


def test_a_log_without_intervals_is_standard_json_and_reads_back() -> None:
    text = json.dumps(_few().to_json(), allow_nan=False)
    assert EvaluationLog.from_json(json.loads(text)) == _few()
    assert summary(_few())["interval"] == [None, None]
    json.dumps(summary(_few()), allow_nan=False)


def test_reports_say_that_items_are_too_few_and_the_verdict_is_unclear() -> None:
    shown = account(_few())
    cells = [cell for row in shown.tables[0].rows for cell in row]
    assert any("too few for an interval" in cell for cell in cells)
    assert not any("inf" in cell for cell in cells)
    assert shown.verdicts[0].verdict.outcome == "unclear"
    page = render_report(_few())
    assert "too few for an interval" in page and "infinity" not in page.lower()
