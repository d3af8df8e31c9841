"""``tillerman study``: where a vector works, what it needs, what it costs, how it breaks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import tillerman
from tillerman.cli import options as o
from tillerman.cli.output import ERR, OUT, load, print_json


def study(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="attack, id-ood, interaction, samples, scale, side-effects, transfer")
    ],
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
        typer.Option("--out", "-o", help="folder for log, tables, page, charts; a stopped study goes on"),
    ] = None,
    card: Annotated[bool, typer.Option(help="write the findings on the artefact's card")] = True,
    rejudge: Annotated[
        Path | None, typer.Option(help="make tables and verdict anew from a log (NAME.json); no model is needed")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="most test items per case")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="of draws")] = None,
    draws: Annotated[
        int | None, typer.Option(min=1, help="samples: per number of examples; others: random nulls")
    ] = None,
    sources: Annotated[list[str] | None, typer.Option(help="id-ood: other data on the same behaviour")] = None,
    others: Annotated[list[str] | None, typer.Option(help="id-ood: data on other behaviours")] = None,
    matrix: Annotated[bool | None, typer.Option(help="id-ood: vectors of the other behaviours too")] = None,
    context_tokens: Annotated[int | None, typer.Option(min=0, help="id-ood: length of the long context")] = None,
    counts: Annotated[str | None, typer.Option(help="samples: numbers of examples, e.g. 4,16,64")] = None,
    steps: Annotated[int | None, typer.Option(help="samples: how many numbers of examples")] = None,
    factors: Annotated[str | None, typer.Option(help="side-effects: multiples of the strength, e.g. 0.5,1,2")] = None,
    to: Annotated[list[str] | None, typer.Option(help="transfer: another checkpoint; a name or folder")] = None,
    precisions: Annotated[list[str] | None, typer.Option(help="transfer: of the model; bf16, int8, int4")] = None,
    tuned: Annotated[bool | None, typer.Option(help="transfer: a copy fine-tuned on the training items")] = None,
    models: Annotated[list[str] | None, typer.Option(help="scale: another model; a name or folder")] = None,
    doses: Annotated[str | None, typer.Option(help="scale: where costs are measured, e.g. 0.1,0.5,1")] = None,
    characters: Annotated[int | None, typer.Option(min=1000, help="scale: length of the neutral text")] = None,
    max_kl: o.MaxKl = None,
    max_perplexity_ratio: o.MaxPerplexityRatio = None,
    max_loss: Annotated[float | None, typer.Option(help="most accuracy lost on the unrelated task, a share")] = None,
    text_tokens: Annotated[int | None, typer.Option(min=1, help="side-effects: most tokens of a free text")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="attack: length of the texts")] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="attack: of the search")] = None,
    children: Annotated[int | None, typer.Option(min=1, help="attack: texts per member and iteration")] = None,
    layout: o.Layout = None,
    columns: o.Columns = None,
    positive: o.Positive = None,
    skip_bad_rows: o.SkipBadRows = False,
    allow_mismatch: o.AllowMismatch = False,
    device: o.Device = "cpu",
    guess_layout: o.GuessLayout = False,
    as_json: o.Json = False,
) -> None:
    """Answer one question about an artefact, with intervals and controls.

    id-ood: where it works besides where it was fitted. samples: how many examples it needs. side-effects: what
    it costs at every strength. attack: whether a text in the question reverses it. interaction: what several do
    together. transfer: whether it steers the model in other precisions, or other checkpoints. scale: one behaviour in
    several models, at equal doses."""
    from tillerman.cli.studying import Studied, options_of, print_study, read_study, run_study

    if rejudge is not None:
        log = read_study(rejudge)
        if log.study != name:
            raise tillerman.UsageError(f"{rejudge}: a log of the study {log.study}, not of {name}")
    else:
        if not data:
            raise tillerman.UsageError("DATA is missing: the items the vector was fitted on, e.g. sample:agreeableness")
        options = options_of(
            name,
            {
                "limit": limit,
                "seed": seed,
                "draws": draws,
                "sources": o.several(sources),
                "others": o.several(others),
                "matrix": matrix,
                "context_tokens": context_tokens,
                "counts": o.whole_numbers(counts, "--counts"),
                "to": o.several(to),
                "precisions": o.several(precisions),
                "tuned": tuned,
                "models": o.several(models),
                "doses": o.numbers(doses, "--doses"),
                "characters": characters,
                "steps": steps,
                "factors": o.numbers(factors, "--factors"),
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
            raise tillerman.UsageError(f"{out}: is a file; --out wants a folder")
        loaded = tuple(load(one, layout, columns, positive, None, skip_bad_rows) for one in data)
        studied = Studied(tuple(artefact or ()), loaded, method, allow_mismatch, card)
        log = run_study(name, options, studied, o.ModelChoice(model, device, guess_layout), out, ERR)
    if as_json:
        print_json(log.to_json())
    else:
        print_study(OUT, log)
        if out is not None:
            OUT.print(f"page: {out / f'{name}.html'}", highlight=False)
