"""``tillerman monitor``: calibrate an artefact's monitor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tillerman.cli import options as o, values
from tillerman.cli.output import (
    ERR,
    NO_EFFECT,
    OUT,
    ensure_tracker,
    load,
    print_json,
    print_skipped,
    send,
    show_account,
    watch,
)
from tillerman.cli.resumable import beside, resumable
from tillerman.core.errors import UsageError
from tillerman.core.opening import AS_USUAL, Opening

if TYPE_CHECKING:
    from tillerman.data.loading import LoadedData
    from tillerman.logs.monitor import MonitorLog
    from tillerman.pipeline.monitoring import MonitorOptions


def monitor(
    data: o.Data,
    artefact: Annotated[Path, typer.Option("--artefact", "-a", help="a file that 'fit' wrote; a vector")],
    model: o.OwnModel = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="file for the artefact with its monitor; the artefact's own if not given"),
    ] = None,
    read: Annotated[
        str,
        typer.Option(
            help="what crosses: prompt (its last token), mean (over the answer so far) or token (each of the answer)"
        ),
    ] = "mean",
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            help="hook points to choose from, e.g. layers.10,16.resid_post; all where it was fitted if not given",
        ),
    ] = None,
    below: Annotated[
        bool, typer.Option("--below", help="crossed where the behaviour is missing, instead of where it shows")
    ] = False,
    least: Annotated[int, typer.Option(min=1, help="tokens of an answer before its mean is read")] = 4,
    false_alarms: Annotated[
        float, typer.Option(help="share of unwanted answers that may cross; the threshold is set for it")
    ] = 0.05,
    prompt: Annotated[
        str | None,
        typer.Option(
            help="system prompt that asks for the behaviour, for the reading prompt; that of the fit if not given"
        ),
    ] = None,
    draws: Annotated[int, typer.Option(min=2, help="number of random directions")] = 8,
    allow_mismatch: o.AllowMismatch = False,
    limit: o.Limit = None,
    layout: o.Layout = None,
    columns: o.Columns = None,
    positive: o.Positive = None,
    skip_bad_rows: o.SkipBadRows = False,
    opening: Opening = AS_USUAL,
    track: o.Track = None,
    as_json: o.Json = False,
) -> None:
    """Calibrate a monitor: a threshold on the projection on an artefact's vector.

    Hook point and threshold are chosen on validation items and tested once on test items, beside random directions.
    The artefact's file keeps the monitor, for 'generate --monitor' and 'serve'. Exit code 3 if it tells wanted from
    unwanted answers no better than random directions."""
    from tillerman.core.packs import in_pack
    from tillerman.core.places import place_of
    from tillerman.pipeline.monitoring import MonitorOptions

    ensure_tracker(track)
    if out is None and (place_of(artefact) is not None or in_pack(artefact)):
        raise UsageError(f"{artefact}: is not changed where it lies; give --out FILE for the artefact with its monitor")
    options = MonitorOptions(read, values.points_of(at), not below, least, false_alarms, prompt, draws)
    loaded = load(data, layout, columns, positive, limit, skip_bad_rows)
    path = out or artefact
    values.writable(path)
    given = Calibrated(artefact, path, allow_mismatch)

    def show(log: MonitorLog) -> None:
        from tillerman.reports.monitor import account

        if as_json:
            print_json(log.to_json())
        else:
            show_account(account(log))

    log = run_monitor(given, loaded, options, o.ModelChoice(model, opening), ERR, show)
    if not as_json:
        print_skipped(loaded.skipped)
        OUT.print(f"artefact: {path}")
    send(log, track)
    if not log.chosen.tells:
        raise typer.Exit(NO_EFFECT)


@dataclass(frozen=True)
class Calibrated:
    """Whose monitor, and the file that gets it."""

    artefact: Path
    out: Path
    allow_mismatch: bool


def run_monitor(
    given: Calibrated,
    data: LoadedData,
    options: MonitorOptions,
    model: o.ModelChoice,
    console: Console,
    show: Callable[[MonitorLog], None] = lambda log: None,
) -> MonitorLog:
    """Calibrate, show, and write the artefact. Finished replies lie in ``OUT.partial`` until all is done."""
    from tillerman.core.artefact import save
    from tillerman.core.facts import digest_of
    from tillerman.core.files import in_turn
    from tillerman.pipeline.monitoring import calibrate_monitor

    opened = model.of(given.artefact).open()
    artefact, warnings = opened.load_artefact(given.artefact, allow_mismatch=given.allow_mismatch)
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow", highlight=False)
    key = digest_of(artefact.steering, opened.identity, data.digest, str(options))
    with resumable(beside(given.out), key, console) as store:
        made, log = calibrate_monitor(artefact, opened, data, options, store=store, watch=watch(console))
        in_turn(lambda: show(log), lambda: save(given.out, made))
    return log
