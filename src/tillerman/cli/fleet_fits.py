"""``tillerman fleet run PLAN.toml``: many fits, checked before the first, and what came of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tillerman.cli.output import ERR, OUT, load, watch
from tillerman.cli.parsing import MISTAKE
from tillerman.core.errors import DataError, TillermanError, UsageError

if TYPE_CHECKING:
    from tillerman.fleet.fits import FitJob


def run_plan(plan: Path, out: Path | None, workers: int, *, only_check: bool) -> None:
    """``typer.Exit`` 1 where a fit failed. ``DataError`` for a job whose options or data cannot be read."""
    from tillerman.cli.render import print_table
    from tillerman.core.files import make_folder
    from tillerman.fleet.fits import Processes, read_plan, run_fits
    from tillerman.reports.fleet import fits_table

    jobs = read_plan(plan)
    for job in jobs:
        _ensure_good(job, plan)
    if only_check:
        OUT.print(f"{len(jobs)} fits can be begun")
        return
    if out is None:
        raise UsageError("name the folder of the artefacts: --out DIR")
    make_folder(out)
    with watch(ERR).stage("fits", len(jobs)) as progress:

        async def run() -> list[tuple[str, dict[str, object] | None, str]]:
            made = await run_fits(jobs, out, Processes(workers), lambda outcome: progress(1))
            return [(one.job.name, None if one.card is None else dict(one.card), one.why) for one in made]

        rows = asyncio.run(run())
    print_table(OUT, fits_table(rows))
    failed = [name for name, card, _ in rows if card is None]
    if failed:
        ERR.print(f"failed: {', '.join(failed[:3])}; the same command begins them again", style="red", highlight=False)
        raise typer.Exit(1)


def _ensure_good(job: FitJob, plan: Path) -> None:
    """Its options are those of ``fit``, and its data can be read."""
    from tillerman.cli.app import app  # this command is a part of it

    fit = typer.main.get_command(app).commands["fit"]  # type: ignore[attr-defined]
    try:
        context = fit.make_context("fit", job.arguments())
        given = context.params
        load(*(given[name] for name in ("data", "layout", "columns", "positive", "limit", "skip_bad_rows")))
        _ensure_methods(str(given["method"]))
    except TillermanError as error:
        raise DataError(f"job {job.name}: {error}", file=plan) from None
    except MISTAKE as error:
        raise DataError(f"job {job.name}: {error.format_message()}", file=plan) from None


def _ensure_methods(text: str) -> Sequence[object]:
    from tillerman.methods.registry import methods

    return methods(text)
