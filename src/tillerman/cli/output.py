"""What the commands print, and what they read first."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from tillerman.cli import values
from tillerman.cli.terminal import Terminal
from tillerman.core.errors import UsageError
from tillerman.core.escaping import visible_json

if TYPE_CHECKING:
    from tillerman.data.loading import LoadedData
    from tillerman.logs.base import Log
    from tillerman.logs.evaluation import EvaluationLog
    from tillerman.models.opened import OpenModel
    from tillerman.pipeline.experiment import Experiment
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
        data,
        layout=layout,
        columns=values.columns_of(columns),
        limit=limit,
        positive_label=positive,
        skip_bad_rows=skip,
    )


def print_skipped(skipped: tuple[str, ...]) -> None:
    if skipped:
        ERR.print(f"not used: {values.first_words(skipped)}", style="yellow", highlight=False)


@dataclass(frozen=True)
class Destination:
    """Where an evaluation goes: the terminal, or JSON; a page; a file of all items (``-``: into the JSON)."""

    report: Path | None = None
    samples: str | None = None
    as_json: bool = False
    track: str | None = None

    def ensure(self) -> None:
        """Complain about what cannot be written before any work is done."""
        from tillerman.core.row_files import ensure_row_file

        ensure_tracker(self.track)
        values.writable(self.report)
        if self.samples == "-" and not self.as_json:
            raise UsageError("--samples -: puts the items into --json; give --json too, or the name of a file")
        if self._file is not None:
            values.writable(self._file)
            ensure_row_file(self._file)

    @property
    def _file(self) -> Path | None:
        return None if self.samples in (None, "-") else Path(str(self.samples))

    def show(self, log: EvaluationLog) -> None:
        """Printed first: what was computed is not lost where a file cannot be written."""
        from tillerman.core.files import in_turn
        from tillerman.core.row_files import write_rows
        from tillerman.reports.evaluation import account
        from tillerman.reports.items import flat_rows
        from tillerman.reports.summary import summary

        def say() -> None:
            if self.as_json:
                print_json(summary(log, items=self.samples == "-"))
            else:
                show_account(account(log))

        in_turn(
            say,
            lambda: self._write("report", self.report, lambda path: write_report(path, log)),
            lambda: self._write("samples", self._file, lambda path: write_rows(path, flat_rows(log.items))),
            lambda: send(log, self.track),
        )

    def _write(self, what: str, path: Path | None, write: Callable[[Path], None]) -> None:
        if path is not None:
            write(path)
            if not self.as_json:
                OUT.print(f"{what}: {path}")


def ensure_tracker(to: str | None) -> None:
    """Complain about one that is not there before any work is done."""
    if to is not None:
        from tillerman.reports.trackers import opened

        opened(to)


def send(log: Log, to: str | None) -> None:
    """To the tracker that ``--track`` names."""
    if to is not None:
        from tillerman.reports.trackers import track

        track(log, to)


def show_account(account: Any) -> None:
    from tillerman.cli.render import print_account

    print_account(OUT, account)


def print_power(console: Console, power: Any) -> None:
    """Before the work begins: what its test items can show."""
    from tillerman.reports.sentences import foreseen_words, power_warning

    console.print(foreseen_words(power), highlight=False, markup=False)
    if warning := power_warning(power):
        console.print(f"warning: {warning}", style="yellow", highlight=False, markup=False)


def print_forecast(console: Console, experiment: Experiment, opened: OpenModel, data: LoadedData, times: int) -> None:
    """Before the work begins: how long it will take, and what would make it shorter. ``times``: fits of this kind."""
    from tillerman.pipeline.forecast import forecast
    from tillerman.reports.forecast import forecast_words

    if console.quiet:
        return
    parts = {name: times * seconds for name, seconds in forecast(experiment, opened, data).items()}
    console.print(forecast_words(parts, fast=experiment.fast), highlight=False, markup=False)


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
