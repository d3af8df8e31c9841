"""``tillerman compare``: methods side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import tillerman
from tillerman.cli import options as o
from tillerman.cli.output import ERR, NO_EFFECT, OUT, load, print_json, print_skipped


def compare(
    data: o.SeveralData,
    methods: Annotated[
        str, typer.Option(help="any that 'fit' knows, a row each; a group such as pas is one row")
    ] = "caa,pas-full,ipas-all,ipas-wrong",
    model: o.Model = "pilot",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="folder for log, tables, page and charts")] = None,
    equal_kl: Annotated[
        float | None, typer.Option(help="test each chosen cell also at this KL on neutral text, nats per token")
    ] = None,
    layers: o.Layers = None,
    doses: o.Doses = None,
    scope: o.ScopeName = "auto",
    site: o.Site = "resid_post",
    read: o.Read = "auto",
    sae: o.Sae = None,
    sae_at: o.SaeAt = None,
    sae_feature: o.SaeFeature = None,
    max_kl: o.MaxKl = None,
    max_perplexity_ratio: o.MaxPerplexityRatio = None,
    seed: Annotated[int, typer.Option(min=0, help="of split, option order, nulls")] = 0,
    template: o.Template = "auto",
    as_choice: o.AsChoice = False,
    shares: o.Shares = "0.6,0.2,0.2",
    prompt: o.Prompt = None,
    shots: o.Shots = 10,
    lora: o.Lora = False,
    neutral: o.Neutral = "sample:wikitext",
    unrelated: o.Unrelated = "sample:mmlu",
    limit: o.Limit = None,
    layout: o.Layout = None,
    columns: o.Columns = None,
    positive: o.Positive = None,
    skip_bad_rows: o.SkipBadRows = False,
    device: o.Device = "cpu",
    guess_layout: o.GuessLayout = False,
    as_json: o.Json = False,
) -> None:
    """Methods side by side on the same items: effects, nulls, side effects and costs.

    Every method has its own search on the same validation items and is tested on the same test items. Exit code
    3 if no method has an effect (Holm p below 0.05). With --out an interrupted comparison goes on where it
    stopped."""
    from tillerman.cli.comparing import print_comparison, run_compare
    from tillerman.pipeline.compare import Lineup
    from tillerman.pipeline.experiment import Experiment

    experiment = Experiment(
        method=methods,
        layers=o.layers_of(layers),
        doses=o.numbers(doses, "--doses"),
        scope=scope,
        site=site,
        read=read,
        sae=o.sae_of(sae, {"at": sae_at, "feature": sae_feature}),
        max_kl=max_kl,
        max_perplexity_ratio=max_perplexity_ratio,
        seed=seed,
        template=template,
        as_choice=as_choice,
        shares=o.shares_of(shares),
        prompt=prompt,
        shots=shots,
        lora=lora,
        neutral=neutral,
        unrelated=unrelated,
    )
    lineup = Lineup(tuple(methods.split(",")), experiment, equal_kl)
    if out is not None and out.exists() and not out.is_dir():
        raise tillerman.UsageError(f"{out}: is a file; --out wants a folder")
    loaded = [load(one, layout, columns, positive, limit, skip_bad_rows) for one in data]
    log = run_compare(lineup, loaded, o.ModelChoice(model, device, guess_layout), out, ERR)
    if as_json:
        print_json(log.to_json())
    else:
        for one, comparison in zip(loaded, log.comparisons, strict=True):
            print_comparison(OUT, comparison)
            print_skipped(one.skipped)
        if out is not None:
            OUT.print(f"page: {out / 'compare.html'}", highlight=False)
    if not any(comparison.standing for comparison in log.comparisons):
        raise typer.Exit(NO_EFFECT)
