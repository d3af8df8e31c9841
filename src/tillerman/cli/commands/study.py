"""``tillerman study``: where a vector works, what it needs, what it costs, how it breaks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from tillerman.cli import names, options as o, values
from tillerman.cli.output import ERR, OUT, ensure_tracker, load, print_json, send, show_account, watch
from tillerman.cli.resumable import resumable
from tillerman.core.errors import UsageError
from tillerman.core.opening import AS_USUAL, Opening
from tillerman.core.precisions import PRECISIONS

if TYPE_CHECKING:
    from tillerman.core.artefact import Artefact
    from tillerman.data.loading import LoadedData
    from tillerman.logs.study import StudyLog
    from tillerman.models.opened import OpenModel
    from tillerman.studies.base import Subject
    from tillerman.studies.options import StudyOptions


def study(
    name: Annotated[str, typer.Argument(metavar="NAME", help=", ".join(names.STUDIES))],
    data: Annotated[
        list[str] | None, typer.Argument(help="labelled items, as for 'fit'; one per artefact", metavar="DATA")
    ] = None,
    artefact: Annotated[
        list[Path] | None, typer.Option("--artefact", "-a", help="what 'fit' wrote; several for interaction")
    ] = None,
    method: Annotated[str, typer.Option(help="without --artefact: fit a vector first, by this method")] = "caa",
    model: o.Model = "pilot",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="folder for log, tables, page and charts; an interrupted study resumes"),
    ] = None,
    card: Annotated[bool, typer.Option(help="write the findings to the artefact's card")] = True,
    rejudge: Annotated[
        Path | None, typer.Option(help="rebuild tables and verdict from a log (NAME.json); runs no model")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="maximum test items per case")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="random seed of the draws")] = None,
    draws: Annotated[
        int | None, typer.Option(min=1, help="samples: draws per number of examples; otherwise: random directions")
    ] = None,
    sources: Annotated[list[str] | None, typer.Option(help="id-ood: other data on the same behaviour")] = None,
    others: Annotated[list[str] | None, typer.Option(help="id-ood: data on other behaviours")] = None,
    matrix: Annotated[bool | None, typer.Option(help="id-ood: also fit vectors of the other behaviours")] = None,
    context_tokens: Annotated[int | None, typer.Option(min=0, help="id-ood: tokens of the long context")] = None,
    counts: Annotated[str | None, typer.Option(help="samples: numbers of examples, e.g. 4,16,64")] = None,
    steps: Annotated[int | None, typer.Option(help="samples: points of the curve")] = None,
    factors: Annotated[str | None, typer.Option(help="side-effects: multiples of the strength, e.g. 0.5,1,2")] = None,
    to: Annotated[list[str] | None, typer.Option(help="transfer: name or folder of another checkpoint")] = None,
    precisions: Annotated[
        list[str] | None, typer.Option(help=f"transfer: precisions of the model: {', '.join(PRECISIONS)}")
    ] = None,
    tuned: Annotated[bool | None, typer.Option(help="transfer: add a copy fine-tuned on the training items")] = None,
    models: Annotated[list[str] | None, typer.Option(help="scale: name or folder of another model")] = None,
    doses: Annotated[str | None, typer.Option(help="scale: doses at which costs are measured, e.g. 0.1,0.5,1")] = None,
    characters: Annotated[int | None, typer.Option(min=1000, help="scale: characters of neutral text")] = None,
    max_kl: Annotated[float | None, typer.Option(help="side-effects: budget of KL, nats per token")] = None,
    max_perplexity_ratio: Annotated[float | None, typer.Option(help="side-effects: budget of perplexity ratio")] = None,
    max_loss: Annotated[
        float | None, typer.Option(help="maximum loss of accuracy on the unrelated task, e.g. 0.05")
    ] = None,
    text_tokens: Annotated[
        int | None, typer.Option(min=1, help="side-effects: maximum new tokens of a free text")
    ] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="attack: tokens of a text")] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="attack: iterations of the search")] = None,
    children: Annotated[int | None, typer.Option(min=1, help="attack: children per member and iteration")] = None,
    template_args: o.TemplateArgs = None,
    layout: o.Layout = None,
    columns: o.Columns = None,
    positive: o.Positive = None,
    skip_bad_rows: o.SkipBadRows = False,
    allow_mismatch: o.AllowMismatch = False,
    opening: Opening = AS_USUAL,
    track: o.Track = None,
    as_json: o.Json = False,
) -> None:
    """Answer one question about an artefact, with intervals and controls.

    id-ood: where it works besides where it was fitted. samples: how many examples it needs. side-effects: what
    it costs at every strength. attack: whether a text in the question reverses it. interaction: what several do
    together. transfer: whether it steers the model in other precisions, or other checkpoints. scale: one behaviour in
    several models, at equal doses."""
    ensure_tracker(track)
    if rejudge is not None:
        log = read_study(rejudge)
        if log.study != name:
            raise UsageError(f"{rejudge}: a log of the study {log.study}, not of {name}")
    else:
        if not data:
            raise UsageError("DATA is missing: the items the vector was fitted on, e.g. sample:agreeableness")
        options = options_of(
            name,
            {
                "limit": limit,
                "seed": seed,
                "draws": draws,
                "sources": values.several(sources),
                "others": values.several(others),
                "matrix": matrix,
                "context_tokens": context_tokens,
                "counts": values.whole_numbers(counts, "--counts"),
                "to": values.several(to),
                "precisions": values.several(precisions),
                "tuned": tuned,
                "models": values.several(models),
                "doses": values.numbers(doses, "--doses"),
                "characters": characters,
                "steps": steps,
                "factors": values.numbers(factors, "--factors"),
                "max_kl": max_kl,
                "max_perplexity_ratio": max_perplexity_ratio,
                "max_loss": max_loss,
                "text_tokens": text_tokens,
                "tokens": tokens,
                "iterations": iterations,
                "children": children,
            },
        )
        if out is not None and out.exists() and not out.is_dir():
            raise UsageError(f"{out}: is a file; --out wants a folder")
        loaded = tuple(load(one, layout, columns, positive, None, skip_bad_rows) for one in data)
        if artefact and template_args is not None:
            raise UsageError("--template-args is for a vector that is fitted here; an artefact brings those of its fit")
        asked = values.arguments_of(template_args)
        studied = Studied(tuple(artefact or ()), loaded, method, allow_mismatch, card, asked)
        choice = o.ModelChoice(model, opening)
        log = run_study(name, options, studied, choice, out, ERR, lambda log: _show(log, as_json))
    if rejudge is not None:
        _show(log, as_json)
    if out is not None and not as_json:
        OUT.print(f"page: {out / f'{name}.html'}")
    send(log, track)


def _show(log: StudyLog, as_json: bool) -> None:
    from tillerman.reports.study import account

    if as_json:
        print_json(log.to_json())
    else:
        show_account(account(log))


@dataclass(frozen=True)
class Studied:
    """Whose study: artefact files, each with its data; without a file one is fitted by ``method``."""

    artefacts: tuple[Path, ...]
    data: tuple[LoadedData, ...]
    method: str
    allow_mismatch: bool
    writes_card: bool
    template_args: Mapping[str, Any]


def options_of(name: str, asked: Mapping[str, Any]) -> StudyOptions:
    """The options of a study from those given on the command line (None: not given).

    ``UsageError`` for one that this study does not read; it names the studies that do."""
    from tillerman.studies.registry import STUDIES

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
