"""Experiment trackers as sinks of a log: trackio, Weights & Biases, MLflow. Each is an extra, imported when it is asked
for, and runs under settings of its own (``WANDB_MODE``, ``MLFLOW_TRACKING_URI``, ``TRACKIO_DIR``, ...)."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from importlib import import_module
from typing import Any

from tillerman.core.errors import EndpointError, UnknownNameError, UsageError
from tillerman.core.shown import clipped
from tillerman.logs.base import Log
from tillerman.logs.tidy import Row
from tillerman.reports.tracked import Tracked, tracked

_NOT_IN_A_NAME = re.compile(r"[^\w\-. /]")  # of a figure, for MLflow


def track(log: Log, to: str, *, project: str = "tillerman", texts: bool = False) -> None:
    """Send a log to a tracker, one of ``TRACKERS``: a run with parameters, figures with their intervals, the dose curve
    and the log's tidy tables; of a comparison a run per method and data set.

    ``texts``: also items, replies, the log as JSON and the report's page, which hold texts of the data.
    ``UnknownNameError`` for another tracker, ``UsageError`` where it is not installed, ``EndpointError`` where it
    refuses the run."""
    module = opened(to)
    failures: tuple[type[Exception], ...] = (OSError, RuntimeError, ValueError, TypeError, *_ERRORS[to](module))
    for run in tracked(log, texts):
        try:
            with redirect_stdout(sys.stderr):  # trackers greet on the output, which is for results
                TRACKERS[to](module, project, run)
        except failures as error:
            said = clipped(" ".join(str(error).split()), 300)
            raise EndpointError(
                f"{to} did not take the run {run.name!r}: {said}. The log is unharmed: settle its settings "
                f"(docs/tracking.md) and send it again with track(log, {to!r})"
            ) from error


def opened(to: str) -> Any:
    """The tracker's module: asked for before any work is done, so that a missing one shows at once."""
    if to not in TRACKERS:
        raise UnknownNameError("tracker", to, TRACKERS)
    try:
        return import_module(to)
    except ImportError:
        raise UsageError(f"tracking with {to} needs it installed: pip install 'tillerman[{to}]'") from None


def _to_trackio(trackio: Any, project: str, run: Tracked) -> None:
    made = trackio.init(
        project=project,
        name=run.name,
        group=run.kind,
        config=dict(run.parameters),
        embed=False,
        auto_log_gpu=False,
        auto_log_cpu=False,
    )
    try:
        made.log(dict(run.figures))
        for step in run.steps:
            made.log(dict(step))
        for name, rows in run.tables.items():
            made.log({f"tables/{name}": trackio.Table(columns=list(rows[0]), data=_cells(rows))})
        for name, text in run.files.items():
            made.log({name: trackio.Html(text) if name.endswith(".html") else trackio.Markdown(text)})
    finally:
        trackio.finish()  # the run's own finish() would be called again when Python ends, and speak


def _to_wandb(wandb: Any, project: str, run: Tracked) -> None:
    settings = wandb.Settings(silent=True, disable_git=True, save_code=False, x_disable_stats=True)
    made = wandb.init(
        project=project,
        name=run.name,
        job_type=run.kind,
        config=dict(run.parameters),
        reinit="create_new",
        settings=settings,
    )
    try:
        for step in run.steps:
            made.log(dict(step))
        for name, rows in run.tables.items():
            table = wandb.Table(columns=list(rows[0]), data=_cells(rows), allow_mixed_types=True)
            made.log({f"tables/{name}": table})
        for name, text in run.files.items():
            made.log({name: wandb.Html(text if name.endswith(".html") else f"<pre>{text}</pre>", inject=False)})
        made.summary.update(dict(run.figures))
    finally:
        made.finish()


def _to_mlflow(mlflow: Any, project: str, run: Tracked) -> None:
    mlflow.set_experiment(project)
    with mlflow.start_run(run_name=run.name, nested=mlflow.active_run() is not None):
        mlflow.set_tag("kind", run.kind)
        mlflow.log_params(dict(run.parameters))
        mlflow.log_metrics(_named(run.figures))
        for number, step in enumerate(run.steps):
            mlflow.log_metrics(_named(step), step=number)
        for name, rows in run.tables.items():
            mlflow.log_text(_csv(rows), f"tables/{name}.csv")
        for name, text in run.files.items():
            mlflow.log_text(text, name)


def _named(figures: Mapping[str, float]) -> dict[str, float]:
    return {_NOT_IN_A_NAME.sub("-", name): value for name, value in figures.items()}


def _cells(rows: tuple[Row, ...]) -> list[list[Any]]:
    return [[str(cell) if isinstance(cell, list) else cell for cell in row.values()] for row in rows]


def _csv(rows: tuple[Row, ...]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(rows[0])
    table.writerows(_cells(rows))
    return text.getvalue()


TRACKERS: Mapping[str, Callable[[Any, str, Tracked], None]] = {
    "mlflow": _to_mlflow,
    "trackio": _to_trackio,
    "wandb": _to_wandb,
}
_ERRORS: Mapping[str, Callable[[Any], tuple[type[Exception], ...]]] = {
    "mlflow": lambda mlflow: (mlflow.exceptions.MlflowException,),
    "trackio": lambda trackio: (),
    "wandb": lambda wandb: (wandb.errors.Error,),
}
