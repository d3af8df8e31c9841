"""Logs in a session: a short repr, and a page in a frame that leaks nothing into a notebook."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape

import pytest

import tillerman
from tillerman.logs.base import Log
from tillerman.logs.thoughts import ThoughtLog
from tillerman.reports.evaluation import account, cells_table, curve_table, details_table, seeds_table
from tillerman.reports.pages import render_account, render_report
from tillerman.reports.scores import account as scores_account
from tillerman.reports.thoughts import account as thoughts_account
from tillerman.statistics.values import NO_INTERVAL, Interval

from .example_log import NASTY, example_log
from .examples import LOGS, score_log, study_log, thought_log

assert tillerman.EvaluationLog  # the first public name: logs know from now on how they are shown


def test_the_repr_of_an_evaluation_says_effect_and_verdict() -> None:
    assert repr(example_log()) == "<EvaluationLog sycophancy: +44.1 pp (34 % to 78 %), n = 195, good>"


def test_an_effect_in_a_notebook_has_its_interval_n_and_p() -> None:
    told = replace(example_log().effect, value=0.25, interval=Interval(0.1, 0.4), n=40, p_value=0.004)
    assert told._repr_html_() == "<b>+25.0 pp</b> (95 % interval +10.0 to +40.0), n = 40, p = 0.004"
    assert "(no interval)" in replace(told, interval=NO_INTERVAL)._repr_html_()


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.kind)
def test_no_repr_is_long(log: Log) -> None:
    assert repr(log).startswith(f"<{type(log).__name__}")
    assert len(repr(log)) < 1000
    assert len(repr(replace(example_log(), data_name="x" * 5000))) < 1000


def test_a_page_in_a_notebook_is_one_sandboxed_frame_and_has_no_style_outside_of_it() -> None:
    html = example_log("nasty")._repr_html_()
    assert html is not None
    framed = re.fullmatch(r'<iframe sandbox srcdoc="([^"]*)"[^<>]*></iframe>', html)
    assert framed is not None and "<" not in framed[1]
    assert unescape(framed[1]) == render_report(example_log("nasty"))
    assert NASTY not in html


def test_every_log_but_a_reproduction_shows_its_page_in_a_frame() -> None:
    """A reproduction is told with its recipe, which its log does not hold."""
    shown = {log.kind: log._repr_html_() for log in LOGS}
    assert {kind for kind, page in shown.items() if page is None} == {"reproduction"}
    assert all(page.startswith("<iframe sandbox ") for page in shown.values() if page)
    assert repr(study_log()) == "<StudyLog samples of data: good>"


@pytest.mark.parametrize("log", [thought_log(), score_log()], ids=["thoughts", "scores"])
def test_a_page_of_an_account_has_every_figure_of_its_tables(log: Log) -> None:
    told = thoughts_account(log) if isinstance(log, ThoughtLog) else scores_account(log)
    page = unescape(re.sub(r"<[^>]+>", " ", render_account(told)))
    for table in told.tables:
        assert all(cell in page for row in table.rows for cell in row)


def test_the_report_page_has_every_figure_of_the_terminals_tables() -> None:
    log = example_log("seeds")
    page = unescape(re.sub(r"<[^>]+>", " ", render_report(log)))
    told = (*account(log).tables, cells_table(log), curve_table(log), seeds_table(log), details_table(log))
    for table in told:
        assert table.rows
        assert all(cell in page for row in table.rows for cell in row)
