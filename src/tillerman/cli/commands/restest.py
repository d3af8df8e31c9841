"""``tillerman restest``: a second look at outcomes that others published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tillerman.cli import options as o
from tillerman.cli.output import OUT, ensure_tracker, print_json, send, show_account
from tillerman.core.errors import UsageError

if TYPE_CHECKING:
    from tillerman.logs.second_look import SecondLookLog


def restest(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            help="jsonl, json, csv, tsv or parquet files with a row per item and a column per condition; or a file per "
            "condition, as NAME=FILE",
            metavar="FILES",
        ),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="the condition that all others are held against; unsteered if not given")
    ] = None,
    conditions: Annotated[
        str | None, typer.Option(help="comma-separated; all columns of numbers if not given", metavar="NAMES")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", help="column of the items' ids; id if there is one, else rows in their order")
    ] = None,
    value: Annotated[
        str | None, typer.Option(help="NAME=FILE: the column of outcomes; the only one of numbers if not given")
    ] = None,
    graded: Annotated[
        bool, typer.Option("--graded", help="values are scores, also where all of them are 0 or 1")
    ] = False,
    margin: Annotated[
        float | None,
        typer.Option(help="largest difference that does not matter, in the unit of the values: 0.02 is 2 pp"),
    ] = None,
    rejudge: Annotated[
        Path | None, typer.Option(help="judge a log (restest.json) again, with --margin or --conditions", metavar="LOG")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="folder for log, tables and page")] = None,
    track: o.Track = None,
    as_json: o.Json = False,
) -> None:
    """Test published outcomes again: paired, with intervals, corrected.

    Every condition against the baseline on the same items, in every file and over all: exact McNemar test and Tango's
    interval for 0 and 1, sign-flip test and bootstrap for scores, Holm's correction over all tests of the run."""
    from tillerman.core.files import in_turn
    from tillerman.data.outcomes import BASELINE, OutcomeColumns, read_outcomes
    from tillerman.evaluation.second_look import look_again, second_look
    from tillerman.logs.second_look import SecondLookLog
    from tillerman.reports.second_look import account

    if (rejudge is None) == (not files):
        raise UsageError("give FILES to test, or --rejudge LOG to judge a log again")
    if rejudge is not None and (baseline or id_column or value or graded):
        raise UsageError(
            "--rejudge takes a log's counts as they are; --baseline, --id, --value and --graded read FILES"
        )
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; --out wants a folder")
    ensure_tracker(track)
    chosen = None if conditions is None else tuple(name.strip() for name in conditions.split(",") if name.strip())
    if rejudge is not None:
        log = look_again(SecondLookLog.read(rejudge), margin, chosen)
    else:
        columns = OutcomeColumns(baseline or BASELINE, chosen, id_column, value, graded)
        log = second_look(read_outcomes(tuple(files or ()), columns), columns.baseline, margin)
    in_turn(
        lambda: print_json(log.to_json()) if as_json else show_account(account(log)),
        lambda: None if out is None else write_second_look(log, out),
    )
    if out is not None and not as_json:
        OUT.print(f"page: {out / 'restest.html'}", highlight=False, markup=False, soft_wrap=True)
    send(log, track)


def write_second_look(log: SecondLookLog, out: Path) -> None:
    """``restest.json``, ``.md`` and ``.html``."""
    from tillerman.core.files import make_folder, write_text
    from tillerman.reports.pages import render_account
    from tillerman.reports.second_look import account, to_markdown

    make_folder(out)
    log.write(out / "restest.json")
    write_text(out / "restest.md", to_markdown(log))
    write_text(out / "restest.html", render_account(account(log)))
