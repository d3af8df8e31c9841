"""What the commands print, and what they read first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from tillerman.cli import options as o
from tillerman.cli.terminal import Terminal
from tillerman.core.escaping import visible_json

if TYPE_CHECKING:
    from tillerman.pipeline.run import Watch

OUT, ERR = Terminal(), Terminal(stderr=True)
NO_EFFECT = 3


def print_json(value: Any) -> None:
    OUT.print(visible_json(json.dumps(value, indent=2, ensure_ascii=False)), soft_wrap=True)


def watch(console: Console) -> Watch:
    """Progress on the console's stream, so that the output stays clean for pipes; none where it is quiet."""
    from tillerman.pipeline.progress import ProgressBar
    from tillerman.pipeline.run import Unwatched

    return Unwatched() if console.quiet else ProgressBar(console.file)


def load(
    data: str, layout: str | None, columns: str | None, positive: str | None, limit: int | None, skip: bool
) -> Any:
    from tillerman.data.loading import load_examples

    return load_examples(
        data, layout=layout, columns=o.columns_of(columns), limit=limit, positive_label=positive, skip_bad_rows=skip
    )


def print_skipped(skipped: tuple[str, ...]) -> None:
    if skipped:
        ERR.print(f"not used: {o.first_words(skipped)}", style="yellow", highlight=False)


def show_log(log: Any, report: Path | None, as_json: bool) -> None:
    """Printed first: what was computed is not lost where the report cannot be written."""
    from tillerman.core.files import in_turn
    from tillerman.reports.evaluation import account
    from tillerman.reports.summary import summary

    def write() -> None:
        if report is not None:
            write_report(report, log)
            if not as_json:
                OUT.print(f"report: {report}")

    in_turn(lambda: print_json(summary(log)) if as_json else show_account(account(log)), write)


def show_account(account: Any) -> None:
    from tillerman.cli.render import print_account

    print_account(OUT, account)


def print_power(console: Console, power: Any) -> None:
    """Before the work begins: what its test items can show."""
    from tillerman.reports.sentences import power_warning, power_words

    console.print(power_words(power), highlight=False, markup=False)
    if warning := power_warning(power):
        console.print(f"warning: {warning}", style="yellow", highlight=False, markup=False)


def show_thoughts(log: Any, as_json: bool) -> None:
    from tillerman.reports.thoughts import account

    if as_json:
        print_json(log.to_json())
    else:
        show_account(account(log))


def write_report(path: Path, log: Any, studies: Any = ()) -> None:
    from tillerman.core.files import write_text
    from tillerman.reports.pages import render_report

    write_text(path, render_report(log, studies))
