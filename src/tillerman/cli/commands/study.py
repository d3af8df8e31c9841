"""``tillerman study``: where a vector works, what it needs, what it costs, how it breaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tillerman.cli import names, options as o, values
from tillerman.cli.output import ERR, OUT, ensure_tracker, load, print_json, send, show_account
from tillerman.cli.studying import Studied, read_study, run_study
from tillerman.core.errors import UsageError
from tillerman.core.opening import AS_USUAL, Opening
from tillerman.core.precisions import PRECISIONS

if TYPE_CHECKING:
    from tillerman.logs.study import StudyLog
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
    context_tokens: Annotated[
        int | None, typer.Option(min=0, help="id-ood, certify: tokens of the long context")
    ] = None,
    counts: Annotated[str | None, typer.Option(help="samples, certify: numbers of examples, e.g. 4,16,64")] = None,
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
    max_kl: Annotated[float | None, typer.Option(help="side-effects, certify: budget of KL, nats per token")] = None,
    max_perplexity_ratio: Annotated[
        float | None, typer.Option(help="side-effects, certify: budget of perplexity ratio")
    ] = None,
    max_loss: Annotated[
        float | None, typer.Option(help="maximum loss of accuracy on the unrelated task, e.g. 0.05")
    ] = None,
    text_tokens: Annotated[
        int | None, typer.Option(min=1, help="side-effects, safety, turns, certify: maximum new tokens of a reply")
    ] = None,
    prompts: Annotated[
        list[str] | None, typer.Option(help="safety, certify: a file of unsafe prompts (AdvBench, JailbreakBench, ...)")
    ] = None,
    safe_prompts: Annotated[
        list[str] | None, typer.Option(help="safety, certify: a file of safe prompts in such a layout")
    ] = None,
    max_change: Annotated[
        float | None, typer.Option(help="safety, certify: a change of refusals that is none to speak of, e.g. 0.1")
    ] = None,
    turns: Annotated[int | None, typer.Option(min=3, help="turns: questions of a conversation")] = None,
    off_after: Annotated[int | None, typer.Option(min=1, help="turns: the turn after which it is switched off")] = None,
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
    several models, at equal doses. safety: whether refusals fall, or safe prompts are refused. turns: whether it holds
    over a conversation, and what is left when it is switched off. certify: all gates in one."""
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
                "prompts": values.several(prompts),
                "safe_prompts": values.several(safe_prompts),
                "max_change": max_change,
                "turns": turns,
                "off_after": off_after,
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
        OUT.print(f"page: {out / f'{name}.html'}", highlight=False, markup=False, soft_wrap=True)
    send(log, track)


def _show(log: StudyLog, as_json: bool) -> None:
    from tillerman.reports.study import account

    if as_json:
        print_json(log.to_json())
    else:
        show_account(account(log))


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
