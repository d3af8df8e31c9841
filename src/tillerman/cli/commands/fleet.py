"""``tillerman fleet``: much work over many processes, machines or servers."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tillerman.cli import options as o, serve_options as so, serving as c, values
from tillerman.cli.fleet_fits import run_plan
from tillerman.cli.output import ERR, OUT, watch
from tillerman.cli.resumable import beside, resumable
from tillerman.core.errors import UsageError
from tillerman.core.opening import AS_USUAL, Opening

if TYPE_CHECKING:
    from tillerman.core.rows import Progress
    from tillerman.core.store import Store
    from tillerman.fleet.servers import Row
    from tillerman.fleet.session import Place, Watched

KEY = "TILLERMAN_KEY"
_SHOWN = 3  # failed jobs that are named


class FleetAction(Enum):
    """What is done with a file of jobs."""

    RUN = "run"
    CHECK = "check"


def fleet(
    action: Annotated[FleetAction, typer.Argument(help="run: do them; check: say what is wrong, do none")],
    jobs: Annotated[
        Path,
        typer.Argument(
            help='requests, one a line: {"id": "a", "messages": [...], "steering": "calm@0.2"}, or OpenAI\'s batch '
            "lines; or a plan of fits, PLAN.toml",
            metavar="JOBS",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="file of the answers, in the order of the jobs; of fits a folder"),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="'pilot' (embedded), a folder, a GGUF file, or a hub name")
    ] = None,
    artefacts: Annotated[Path | None, typer.Option("--artefacts", help="folder of the artefacts to steer by")] = None,
    workers: Annotated[int, typer.Option(min=1, help="processes of this machine, each with the model")] = 1,
    rows: Annotated[
        int, typer.Option(min=1, help="answers that a worker makes at once; 1: each alone, the same to the last bit")
    ] = 16,
    url: Annotated[
        list[str] | None,
        typer.Option(
            help=f"a running server, in place of workers; may be repeated. Its key is read from {KEY}",
            show_default=False,
        ),
    ] = None,
    at_once: Annotated[int, typer.Option(min=1, help="requests at a time to each --url")] = 32,
    seed: Annotated[int, typer.Option(help="random seed of jobs that have none of their own")] = 0,
    max_dose: Annotated[float, typer.Option(help="highest |dose| of an artefact; servers have their own")] = 1.0,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="jobs that would be refused get an error, the others are answered")
    ] = False,
    allow_unproven: so.AllowUnproven = False,
    allow_mismatch: o.AllowMismatch = False,
    opening: Opening = AS_USUAL,
) -> None:
    """Answer many requests, each under its own plan, or fit many vectors.

    All are checked before the first token. Finished ones are kept: the same command goes on where it was stopped.
    Exit code 1 if a job failed; its line says why, and the same command asks it again."""
    if jobs.suffix == ".toml":
        given = (model, artefacts, url, seed, skip_bad, allow_unproven, allow_mismatch, opening)
        if (
            rows != 16
            or at_once != 32
            or max_dose != 1.0
            or given != (None, None, None, 0, False, False, False, AS_USUAL)
        ):
            raise UsageError(f"{jobs}: the options of fits stand in the plan; only --out and --workers go with it")
        run_plan(jobs, out, workers, only_check=action is FleetAction.CHECK)
        return
    c.ensure_installed()
    from tillerman.fleet.jobs import read_jobs
    from tillerman.fleet.replica import BatchOptions, ReplicaSpec
    from tillerman.fleet.session import ManyServers, OwnWorkers, check_batch, run_batch

    if action is FleetAction.RUN and out is None:
        raise UsageError("name the file of the answers: --out OUT.jsonl")
    values.writable(out)
    read = read_jobs(jobs, seed)
    place: Place
    if url:
        if model or artefacts or workers != 1 or rows != 16:
            raise UsageError("--url asks servers, which have a model, artefacts and workers of their own; omit these")
        place = ManyServers(tuple(url), os.environ.get(KEY), at_once)
    elif model is None or artefacts is None:
        raise UsageError("give --model and --artefacts for workers of this machine, or the --url of a server")
    else:
        batch = BatchOptions(rows, max_dose, allow_unproven).settings(allow_mismatch=allow_mismatch)
        place = OwnWorkers(
            ReplicaSpec(model, str(artefacts.resolve()), asdict(opening), batch, allow_mismatch), workers
        )
    if out is None or action is FleetAction.CHECK:
        check_batch(read, place).ensure_good()
        OUT.print(f"{len(read)} jobs can be answered")
        return
    run_batch(read, place, _watched(out), skip_bad=skip_bad)


def _watched(out: Path) -> Watched:
    from tillerman.fleet.answers import KEY as of_answers
    from tillerman.fleet.session import Watched

    def store() -> AbstractContextManager[Store]:
        return resumable(beside(out), of_answers, ERR)

    def stage(total: int) -> AbstractContextManager[Progress]:
        return watch(ERR).stage("answers", total)

    def finish(rows: list[Row]) -> None:
        from tillerman.core.files import write_text

        write_text(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        _tell(rows, out)

    return Watched(store, stage, finish)


def _tell(rows: Sequence[Row], out: Path) -> None:
    """``typer.Exit`` 1 where a job failed."""
    from tillerman.fleet.answers import failed

    bad = failed(rows)
    OUT.print(f"{len(rows) - len(bad)} of {len(rows)} jobs answered: {out}", highlight=False, markup=False)
    if not bad:
        return
    shown = "; ".join(f"{row['id'][:40]} ({row['error']['code']})" for row in bad[:_SHOWN])
    more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    ERR.print(f"failed: {shown}{more}; the same command asks them again", style="red", highlight=False, markup=False)
    raise typer.Exit(1)
