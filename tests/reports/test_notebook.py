"""Logs in a session: a short repr, and a page in a frame that leaks nothing into a notebook."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape

import pytest

import tillerman
from tillerman.logs.base import Log
from tillerman.reports.pages import render_report

from .example_log import NASTY, example_log
from .examples import LOGS, study_log

assert tillerman.EvaluationLog  # the first public name: logs know from now on how they are shown


def test_the_repr_of_an_evaluation_says_effect_and_verdict() -> None:
    assert repr(example_log()) == "<EvaluationLog sycophancy: +44.1 pp (34 % to 78 %), n = 195, good>"


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


def test_comparisons_and_studies_show_their_pages_and_others_their_repr() -> None:
    shown = {log.kind: log._repr_html_() is not None for log in LOGS}
    assert {kind for kind, page in shown.items() if page} == {"evaluation", "comparison", "study"}
    assert repr(study_log()) == "<StudyLog samples of data: good>"
