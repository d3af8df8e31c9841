"""What ``tillerman study`` does once its options are read: find or fit the artefact, run, write the files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from tillerman.cli import options as o
from tillerman.cli.output import watch
from tillerman.cli.resumable import resumable
from tillerman.core.errors import UsageError

if TYPE_CHECKING:
    from tillerman.core.artefact import Artefact
    from tillerman.data.loading import LoadedData
    from tillerman.logs.study import StudyLog
    from tillerman.models.opened import OpenModel
    from tillerman.studies.base import Subject
    from tillerman.studies.options import StudyOptions


@dataclass(frozen=True)
class Studied:
    """Whose study: artefact files, each with its data; without a file one is fitted by ``method``."""

    artefacts: tuple[Path, ...]
    data: tuple[LoadedData, ...]
    method: str
    allow_mismatch: bool
    writes_card: bool
    template_args: Mapping[str, Any]


def run_study(
    name: str,
    options: StudyOptions,
    studied: Studied,
    model: o.ModelChoice,
    out: Path | None,
    console: Console,
    show: Callable[[StudyLog], None] = lambda log: None,
) -> StudyLog:
    """Run a study and show it; write its files into ``out`` and its findings on the artefact's card."""
    from tillerman.core.artefact import save
    from tillerman.core.files import in_turn, make_folder, write_text
    from tillerman.evaluation.cards import studies_of, with_study
    from tillerman.logs.evaluation import EvaluationLog
    from tillerman.reports.pages import render_report
    from tillerman.studies.base import study_key
    from tillerman.studies.registry import run

    opened = model.open()
    if out is not None:
        make_folder(out)
    subject = _subject(options, studied, model, opened, out, console)
    folder = None if out is None else out / f"{name}.partial"
    with resumable(folder, study_key(name, options, subject), console) as store:
        log = run(name, subject, options, store=store, watch=watch(console))
        in_turn(lambda: show(log), lambda: None if out is None else write_study(log, out))
    path = studied.artefacts[0] if studied.artefacts else _fitted_at(out)
    artefact = with_study(subject.artefact, log)
    if path is not None and studied.writes_card:
        save(path, artefact)
        console.print(f"written on the card of {path}", highlight=False)
    if out is not None and artefact.card is not None and artefact.card.report:
        whole = EvaluationLog.from_json(dict(artefact.card.report))
        write_text(out / "report.html", render_report(whole, studies_of(artefact)))
    return log


def _subject(
    options: StudyOptions,
    studied: Studied,
    model: o.ModelChoice,
    opened: OpenModel,
    out: Path | None,
    console: Console,
) -> Subject:
    from tillerman.studies.base import Subject

    if len(studied.artefacts) > 1 and len(studied.data) not in (1, len(studied.artefacts)):
        raise UsageError(f"{len(studied.artefacts)} artefacts and {len(studied.data)} DATA; give one each, in order")
    loaded = [_load(opened, path, studied.allow_mismatch, console) for path in studied.artefacts]
    if not loaded:
        loaded = [_fit(options, studied, opened, out, console)]
    data = studied.data if len(studied.data) == len(loaded) else studied.data[:1] * len(loaded)
    others = tuple(zip(loaded[1:], data[1:], strict=True))
    return Subject(loaded[0], opened, data[0], others, lambda name: replace(model, name=name).open())


def _load(opened: OpenModel, path: Path, allow_mismatch: bool, console: Console) -> Artefact:
    artefact, warnings = opened.load_artefact(path, allow_mismatch=allow_mismatch)
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow", highlight=False)
    return artefact


def _fitted_at(out: Path | None) -> Path | None:
    return None if out is None else out / "vector.safetensors"


def _fit(options: StudyOptions, studied: Studied, opened: OpenModel, out: Path | None, console: Console) -> Artefact:
    """An artefact for the study: found in ``out`` where an earlier run with the same options left it."""
    from tillerman.core.artefact import save
    from tillerman.pipeline.experiment import Experiment
    from tillerman.pipeline.flow import fit, run_key

    experiment = Experiment(
        method=studied.method, template_args=studied.template_args, seed=options.seed, generations=()
    )
    data, path = studied.data[0], _fitted_at(out)
    key = run_key(experiment, (experiment.seed,), opened, data)
    if path is not None and path.exists():
        artefact, _ = opened.load_artefact(path)
        made = artefact.steering.provenance
        found = (made.data_digest, made.options.get("method"), made.seed, made.options.get("template_args", {}))
        if found == (data.digest, experiment.spec, options.seed, dict(studied.template_args)):
            return artefact
        raise UsageError(f"{path}: fitted with other options or data; give --artefact {path}, or another --out")
    with resumable(None if out is None else out / "vector.partial", key, console) as store:
        artefact = fit(experiment, opened, data, store=store, watch=watch(console)).artefact
        if path is not None:
            save(path, artefact)
    return artefact


def write_study(log: StudyLog, out: Path) -> None:
    """``NAME.json`` (with every item's outcome), ``.md``, ``.html``, and a file per chart."""
    from tillerman.core.files import write_text
    from tillerman.reports.charts.study import study_chart
    from tillerman.reports.charts.svg import standalone
    from tillerman.reports.pages import render_study
    from tillerman.reports.study import to_markdown

    log.write(out / f"{log.study}.json")
    write_text(out / f"{log.study}.md", to_markdown(log))
    write_text(out / f"{log.study}.html", render_study(log))
    for number, chart in enumerate(log.charts, start=1):
        write_text(out / f"{log.study}-{number}.svg", standalone(study_chart(chart)))


def read_study(path: Path) -> StudyLog:
    """A log that ``write_study`` wrote, judged anew."""
    from tillerman.logs.study import StudyLog
    from tillerman.studies.registry import judge_again

    return judge_again(StudyLog.read(path))
