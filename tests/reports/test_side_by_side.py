"""Several artefacts side by side: a column each, every figure of their logs, one page."""

from __future__ import annotations

from dataclasses import replace

from tillerman.reports.pages import render_beside, render_report
from tillerman.reports.side_by_side import Column, beside_charts, beside_tables

from .example_log import example_log
from .examples import study_log

ENTRIES = (
    Column("first", example_log(), (study_log("samples", "good"), study_log("id-ood", "mixed"))),
    Column("second", replace(example_log(), method="pca"), (study_log("samples", "bad"),)),
)


def test_every_artefact_is_a_column_and_every_control_a_row() -> None:
    table, studies = beside_tables(ENTRIES)
    assert table.head == ("", "first", "second")
    assert all(len(row) == 3 for row in table.rows)
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["Method"] == (ENTRIES[0].log.method, "pca")
    assert {"Random direction, pp (95 %)", "Prompt baseline, pp (95 %)"} <= rows.keys()
    assert [table.rows[i][0] for i in table.strong] == ["Verdict", "Effect, pp (95 %)"]
    assert studies.rows == (("samples", "good", "bad"), ("id-ood", "mixed", "not run"))


def test_charts_have_a_mark_per_artefact_and_a_line_of_prices() -> None:
    effects, prices = beside_charts(ENTRIES)
    assert [mark.label for mark in effects.lines[0].marks] == ["first", "second"]
    assert [line.name for line in prices.lines] == ["first", "second"]
    assert all(mark.at is not None and mark.at >= 0 for line in prices.lines for mark in line.marks)


def test_the_page_says_every_verdict_and_escapes_names() -> None:
    page = render_beside((*ENTRIES, Column("<b>third</b>", example_log("nasty"))))
    for name in ("samples", "id-ood"):
        assert f"The words of {name}." in page
    assert "<b>third</b>" not in page and "<script" not in page


def test_a_report_collects_the_studies_of_its_artefact() -> None:
    page = render_report(example_log(), ENTRIES[0].studies)
    assert page.index("What about samples?") < page.index("What about id-ood?")
    assert "A note." in page and "A table" in page and "A chart" in page
    assert "What about" not in render_report(example_log())
