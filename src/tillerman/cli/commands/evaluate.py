"""``tillerman eval``: test an artefact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from tillerman.cli import options as o, values
from tillerman.cli.output import ERR, NO_EFFECT, Destination, load, print_power, send, show_thoughts, watch
from tillerman.core.errors import UnknownNameError, UsageError
from tillerman.core.opening import AS_USUAL, Opening

if TYPE_CHECKING:
    from tillerman.core.artefact import Artefact
    from tillerman.data.loading import LoadedData
    from tillerman.logs.evaluation import EvaluationLog
    from tillerman.logs.thoughts import ThoughtLog
    from tillerman.models.opened import OpenModel
    from tillerman.pipeline.experiment import Experiment

METRICS = ("answers", "thought-length")


def evaluate(
    artefact: Annotated[Path, typer.Argument(help="a file that 'fit' wrote", metavar="ARTEFACT")],
    data: o.Data,
    model: o.OwnModel = None,
    metric: Annotated[
        str, typer.Option(help="answers (accuracy) or thought-length (of a reasoning model)")
    ] = "answers",
    strength: Annotated[float | None, typer.Option(help="strength to test, instead of the chosen one")] = None,
    all_items: Annotated[
        bool, typer.Option("--all-items", help="test on every item, for data that the vector was not fitted on")
    ] = False,
    card: Annotated[
        bool, typer.Option(help="write the evaluation to the card of an artefact that has none, as an imported one")
    ] = True,
    allow_mismatch: o.AllowMismatch = False,
    template: Annotated[
        str | None, typer.Option(help="prompt format: chat or none; that of the fit if not given")
    ] = None,
    template_args: o.TemplateArgs = None,
    as_choice: Annotated[
        bool | None,
        typer.Option(
            "--as-choice/--no-as-choice", help="yes/no questions as lettered choices; as in the fit if not given"
        ),
    ] = None,
    keep_order: Annotated[
        bool | None,
        typer.Option("--keep-order/--draw-order", help="options in the order of the data; as in the fit if not given"),
    ] = None,
    calibrate: Annotated[
        bool | None,
        typer.Option(
            "--calibrate/--no-calibrate",
            help="subtract the bias of answers, as the fit measured it or on validation items; as in the fit if not "
            "given",
        ),
    ] = None,
    system: o.System = None,
    answer_tokens: o.AnswerTokens = 256,
    prompt: o.Prompt = None,
    behaviour: o.Behaviour = None,
    shots: o.Shots = 10,
    on_shots: Annotated[
        int | None, typer.Option(min=0, help="exemplars before every question; as many as in the fit if not given")
    ] = None,
    written_prompts: o.WrittenPrompts = 32,
    written_tokens: o.WrittenTokens = 40,
    neutral: o.Neutral = "sample:wikitext",
    unrelated: o.Unrelated = "sample:mmlu",
    limit: o.Limit = None,
    layout: o.Layout = None,
    columns: o.Columns = None,
    positive: o.Positive = None,
    skip_bad_rows: o.SkipBadRows = False,
    skip_long: o.SkipLong = False,
    opening: Opening = AS_USUAL,
    report: o.Report = None,
    samples: o.Samples = None,
    track: o.Track = None,
    as_json: o.Json = False,
) -> None:
    """Test an artefact on data: its own test items, or others.

    Exit code 3 if no effect was found.

    --metric thought-length reports how long the model thinks, whether it ends, and whether its answers are right.

    Split and prompt format are the fit's, so that on its own data only the test share is used."""
    from tillerman.core.files import in_turn
    from tillerman.logs.verdict import WORKS
    from tillerman.reports.verdict import judge_log

    if metric not in METRICS:
        raise UnknownNameError("metric", metric, METRICS)
    if metric != "answers" and (report is not None or samples is not None):
        raise UsageError("--report and --samples are about right answers; use --json with --metric thought-length")
    shown = Destination(report, samples, as_json, track)
    shown.ensure()
    loaded = load(data, layout, columns, positive, limit, skip_bad_rows)
    request = EvalRequest(
        artefact,
        strength,
        allow_mismatch,
        all_items,
        given={
            "template": template,
            "template_args": None if template_args is None else values.arguments_of(template_args),
            "as_choice": as_choice,
            "keep_order": keep_order,
            "calibrate": calibrate,
            "system": system,
            "answer_tokens": answer_tokens,
            "skip_long": skip_long,
            "prompt": prompt,
            "behaviour": behaviour,
            "shots": shots,
            "base_shots": on_shots,
            "written_prompts": written_prompts,
            "written_tokens": written_tokens,
            "neutral": neutral,
            "unrelated": unrelated,
        },
    )
    choice = o.ModelChoice(model, opening)
    if metric == "thought-length":
        thoughts = run_thoughts(request, loaded, choice, ERR)
        in_turn(lambda: show_thoughts(thoughts, as_json), lambda: send(thoughts, track))
        moved = thoughts.condition("steered").change
        found = moved is not None and (moved.interval.low > 0 or moved.interval.high < 0)
    else:
        log = run_eval(request, loaded, choice, ERR)
        shown.show(log)
        if card and strength is None:
            keep_card(artefact, log)  # last: what was measured is told also where the file cannot be written
        found = judge_log(log).outcome in WORKS
    if not found:
        raise typer.Exit(NO_EFFECT)


def keep_card(path: Path, log: EvaluationLog) -> None:
    """The evaluation on the card of an artefact that has none; one that was measured keeps its own, and one that lies
    elsewhere, or in a pack, is not changed."""
    import tillerman
    from tillerman.core.packs import in_pack
    from tillerman.core.places import place_of
    from tillerman.core.provenance import Card

    if place_of(path) is not None or in_pack(path):
        return
    artefact = tillerman.load(path)
    card = artefact.card or Card()
    if not card.report:
        tillerman.save(path, replace(artefact, card=replace(card, report=log.for_card())))


@dataclass(frozen=True)
class EvalRequest:
    """What ``tillerman eval`` was asked. ``given`` holds fields of ``Experiment``; None means not given."""

    artefact: Path
    strength: float | None
    allow_mismatch: bool
    all_items: bool
    given: Mapping[str, Any]


# options of the fit that its evaluation keeps, with their defaults
_KEPT: dict[str, Any] = {
    "template_args": {},
    "as_choice": False,
    "keep_order": False,
    "calibrate": False,
    "system": None,
    "base_shots": 0,
}


def run_eval(request: EvalRequest, data: LoadedData, model: o.ModelChoice, console: Console) -> EvaluationLog:
    """Test an artefact on the split that its fit would have made of these data."""
    from tillerman.pipeline.flow import evaluate as tested
    from tillerman.pipeline.shares import foresee

    artefact, experiment, opened, notes = _prepared(request, data, model)
    print_power(console, foresee(experiment, data))
    log = tested(artefact, experiment, opened, data, watch=watch(console))
    return replace(log, notes=(*log.notes, *notes))


def run_thoughts(request: EvalRequest, data: LoadedData, model: o.ModelChoice, console: Console) -> ThoughtLog:
    """Measure the thoughts under an artefact on the same split."""
    from tillerman.pipeline.thoughts import evaluate_thoughts

    artefact, experiment, opened, notes = _prepared(request, data, model)
    log = evaluate_thoughts(artefact, experiment, opened, data, watch=watch(console))
    return replace(log, notes=(*log.notes, *notes))


def _prepared(
    request: EvalRequest, data: LoadedData, model: o.ModelChoice
) -> tuple[Artefact, Experiment, OpenModel, tuple[str, ...]]:
    from tillerman.core.artefact import ABSTAINS
    from tillerman.data.splits import DEFAULT_SHARES
    from tillerman.pipeline.experiment import Experiment

    opened = model.of(request.artefact).open()
    artefact, warnings = opened.load_artefact(request.artefact, allow_mismatch=request.allow_mismatch)
    if request.strength is not None:
        artefact = replace(artefact, cell=artefact.cell.at(request.strength))
    provenance = artefact.steering.provenance
    shares = (0.0, 0.0, 1.0) if request.all_items else tuple(provenance.options.get("shares", DEFAULT_SHARES))
    fitted = {"template": provenance.template, **{n: provenance.options.get(n, usual) for n, usual in _KEPT.items()}}
    asked = {name: value for name, value in request.given.items() if value is not None}
    experiment = Experiment(**{"seed": provenance.seed, "shares": shares, **fitted, **asked})
    overlap = request.all_items and provenance.data_digest == data.digest
    idle = (ABSTAINS,) if artefact.abstains else ()
    notes = ("tested on all items of the data it was fitted on: this figure is not held out",) if overlap else ()
    return artefact, experiment, opened, (*idle, *notes, *(f"allowed mismatch: {text}" for text in warnings))
