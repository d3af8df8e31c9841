"""No figure is cut on a narrow terminal, whatever the names are."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from rich.console import Console

from tillerman.cli.render import print_account, print_table
from tillerman.logs.table import Table
from tillerman.reports import comparison, evaluation, overview, scores, side_by_side, study, thoughts
from tillerman.reports.account import Account
from tillerman.reports.diagnostics import diagnostics_table
from tillerman.reports.side_by_side import Column

from ..reports.example_log import FINDINGS, example_log
from ..reports.examples import LONG, comparison_log, score_log, study_log, thought_log

NUMBER = re.compile(r"[+−]?\d[\d,.]*\d|[+−]?\d")
SEVERAL = (example_log(), example_log("no-effect", LONG), example_log("lowered", "risk-seeking"))
ACCOUNTS = {
    "evaluation": evaluation.account(example_log("seeds", LONG), (study_log(),)),
    "demo": overview.account(SEVERAL),
    "comparison": comparison.account(comparison_log().comparisons[0]),
    "study": study.account(study_log()),
    "thoughts": thoughts.account(thought_log()),
    "scores": scores.account(score_log()),
    "side by side": side_by_side.account([Column(f"{log.data_name}-{k}", log) for k, log in enumerate(SEVERAL)]),
    "diagnostics": Account("", (diagnostics_table(FINDINGS),)),
    "pages": Account(
        "",
        (
            evaluation.cells_table(example_log()),
            evaluation.curve_table(example_log()),
            evaluation.seeds_table(example_log("seeds")),
            evaluation.details_table(example_log()),
        ),
    ),
}


def printed(account: Account, width: int) -> str:
    console = Console(file=StringIO(), width=width, color_system=None)
    print_account(console, account)
    return console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("name", ACCOUNTS)
def test_every_number_of_every_cell_is_whole_on_the_screen(name: str, width: int) -> None:
    account = ACCOUNTS[name]
    text = printed(account, width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    found = NUMBER.findall(text)
    for table in account.tables:
        for cell in (cell for row in table.rows for cell in row):
            for number in NUMBER.findall(cell):
                assert found.count(number) >= 1, (number, cell)


@pytest.mark.parametrize("width", [60, 80])
def test_a_table_that_is_too_wide_names_its_rows_in_every_group(width: int) -> None:
    head = ("case", *(f"figure {k}, pp (95 %)" for k in range(12)))
    table = Table("Wide", head, (("first", *("+1.0 (−2.0 to +3.0)",) * 12), ("second", *("+4.0 (−5.0 to +6.0)",) * 12)))
    text = printed(Account("", (table,)), width)
    assert text.count("first") == text.count("second") > 1
    assert text.count("(−2.0 to +3.0)") == text.count("(−5.0 to +6.0)") == 12


def test_a_name_that_leaves_no_room_becomes_a_list() -> None:
    console = Console(file=StringIO(), width=60, color_system=None)
    name = "behaviour-" * 5
    print_table(console, Table("", ("case", "effect, pp (95 %)"), ((name, "+31.0 (+24.5 to +37.5)"),)))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines == [name, "  effect, pp (95 %): +31.0 (+24.5 to +37.5)"]
