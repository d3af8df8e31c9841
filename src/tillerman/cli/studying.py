"""``tillerman study``: one study of one artefact, its files, and what goes on the artefact's card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from tillerman.cli.options import ModelChoice
from tillerman.cli.views import print_verdict, table_view
from tillerman.cli.watch import BarWatch
from tillerman.core.artefact import Artefact, save
from tillerman.core.errors import ArtefactError, UsageError
from tillerman.core.files import write_text
from tillerman.core.store import Store
from tillerman.data.loading import LoadedData
from tillerman.evaluation.cards import studies_of, with_study
from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.study import StudyLog
from tillerman.models.opened import OpenModel
from tillerman.pipeline.experiment import Experiment
from tillerman.pipeline.flow import fit, run_key
from tillerman.reports.charts.study import study_chart
from tillerman.reports.charts.svg import standalone
from tillerman.reports.pages import render_report, render_study
from tillerman.reports.study import heading, to_markdown
from tillerman.studies.base import Subject, study_key
from tillerman.studies.options import StudyOptions
from tillerman.studies.registry import STUDIES, judge_again, run


@dataclass(frozen=True)
class Studied:
    """Whose study: artefact files, each with its data; without a file one is fitted by ``method``."""

    artefacts: tuple[Path, ...]
    data: tuple[LoadedData, ...]
    method: str
    allow_mismatch: bool
    writes_card: bool


def options_of(name: str, asked: Mapping[str, Any]) -> StudyOptions:
    """The options of a study from those given on the command line (None: not given).

    ``UsageError`` for one that this study does not read; it names the studies that do."""
    study, given = STUDIES[name], {key: value for key, value in asked.items() if value is not None}
    for key in given:
        readers = [one.name for one in STUDIES.values() if key in _names(one.options)]
        if name not in readers:
            option = "--" + key.replace("_", "-")
            raise UsageError(f"{option}: the study {name} does not read it; it belongs to {', '.join(readers)}")
    return study.options(**given)


def _names(options: type[StudyOptions]) -> set[str]:
    return {field.name for field in fields(options)}


def run_study(
    name: str, options: StudyOptions, studied: Studied, model: ModelChoice, out: Path | None, console: Console
) -> StudyLog:
    """Run a study; write its files into ``out`` and its findings on the artefact's card."""
    opened = model.open()
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    subject = _subject(options, studied, model, opened, out, console)
    store = Store(None if out is None else out / f"{name}.partial", study_key(name, options, subject))
    if store.resumed:
        console.print(f"going on from {store.resumed} finished pieces of an interrupted run", highlight=False)
    finished = False
    try:
        log = run(name, subject, options, store=store, watch=BarWatch(console))
        if out is not None:
            write_study(log, out)
        finished = True
    finally:
        store.close(finished=finished)
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
    model: ModelChoice,
    opened: OpenModel,
    out: Path | None,
    console: Console,
) -> Subject:
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
    experiment = Experiment(method=studied.method, seed=options.seed, generations=())
    data, path = studied.data[0], _fitted_at(out)
    key = run_key(experiment, (experiment.seed,), opened, data)
    if path is not None and path.exists():
        artefact, _ = opened.load_artefact(path)
        made = artefact.steering.provenance
        if (made.data_digest, made.options.get("method"), made.seed) == (data.digest, studied.method, options.seed):
            return artefact
        raise UsageError(f"{path}: fitted with other options or data; give --artefact {path}, or another --out")
    store = Store(None if out is None else out / "vector.partial", key)
    finished = False
    try:
        artefact = fit(experiment, opened, data, store=store, watch=BarWatch(console)).artefact
        if path is not None:
            save(path, artefact)
        finished = True
    finally:
        store.close(finished=finished)
    return artefact


def write_study(log: StudyLog, out: Path) -> None:
    """``NAME.json`` (with every item's outcome), ``.md``, ``.html``, and a file per chart."""
    write_text(out / f"{log.study}.json", json.dumps(log.to_json()))
    write_text(out / f"{log.study}.md", to_markdown(log))
    write_text(out / f"{log.study}.html", render_study(log))
    for number, chart in enumerate(log.charts, start=1):
        write_text(out / f"{log.study}-{number}.svg", standalone(study_chart(chart)))


def read_study(path: Path) -> StudyLog:
    """A log that ``write_study`` wrote, judged anew."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{path}: not a study's log ({error}); give the NAME.json of a study's --out") from None
    if not isinstance(values, dict):
        raise ArtefactError(f"{path}: not a study's log; give the NAME.json of a study's --out")
    return judge_again(StudyLog.from_json(values))


def print_study(console: Console, log: StudyLog) -> None:
    console.print(log.question, style="bold", highlight=False, markup=False)
    console.print(heading(log), highlight=False, markup=False)
    for table in log.tables:
        console.print(table_view(table))
    for note in log.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    print_verdict(console, log.study, log.verdict)
