"""``tillerman compare``: methods side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

import tillerman
from tillerman.cli import options as o, values
from tillerman.cli.output import (
    ERR,
    NO_EFFECT,
    OUT,
    ensure_tracker,
    load,
    print_json,
    print_power,
    print_skipped,
    send,
    show_account,
    watch,
)
from tillerman.cli.resumable import resumable
from tillerman.core.opening import AS_USUAL, Opening

if TYPE_CHECKING:
    from tillerman.data.loading import LoadedData
    from tillerman.logs.comparison import ComparisonLog
    from tillerman.pipeline.compare import Lineup


def compare(
    data: o.SeveralData,
    methods: Annotated[
        str, typer.Option(help="methods as in 'fit', one row each; a group such as pas is one row")
    ] = "caa,pas-full,ipas-all,ipas-wrong",
    model: o.Model = "pilot",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="folder for log, tables, page and charts")] = None,
    equal_kl: Annotated[
        float | None, typer.Option(help="also test each method at this KL on neutral text, nats per token")
    ] = None,
    layers: o.Layers = None,
    together: o.Together = "auto",
    doses: o.Doses = None,
    scope: o.ScopeName = "auto",
    site: o.Site = "resid_post",
    read: o.Read = "auto",
    grid: o.Grid = "coarse",
    max_kl: o.MaxKl = "auto",
    max_perplexity_ratio: o.MaxPerplexityRatio = "auto",
    seed: Annotated[int, typer.Option(min=0, help="random seed for the split, the order of options and the nulls")] = 0,
    template: o.Template = "auto",
    template_args: o.TemplateArgs = None,
    as_choice: o.AsChoice = False,
    calibrate: o.Calibrate = False,
    shares: o.Shares = "0.6,0.2,0.2",
    prompt: o.Prompt = None,
    behaviour: o.Behaviour = None,
    shots: o.Shots = 10,
    lora_baseline: o.Lora = False,
    neutral: o.Neutral = "sample:wikitext",
    unrelated: o.Unrelated = "sample:mmlu",
    limit: o.Limit = None,
    layout: o.Layout = None,
    columns: o.Columns = None,
    positive: o.Positive = None,
    skip_bad_rows: o.SkipBadRows = False,
    skip_long: o.SkipLong = False,
    opening: Opening = AS_USUAL,
    track: o.Track = None,
    as_json: o.Json = False,
) -> None:
    """Compare methods on the same items: effects, nulls, side effects, costs.

    Every method has its own search on the same validation items and is tested on the same test items. Exit code
    3 if no method has an effect (Holm p below 0.05). With --out an interrupted comparison resumes where it
    stopped."""
    from tillerman.pipeline.compare import Lineup
    from tillerman.pipeline.experiment import Experiment
    from tillerman.reports.comparison import account
    from tillerman.reports.comparison_overview import across

    experiment = Experiment(
        method=methods,
        layers=values.layers_of(layers),
        together=together,
        doses=values.numbers(doses, "--doses"),
        scope=scope,
        site=site,
        read=read,
        grid=grid,
        max_kl=values.limit_of(max_kl, "--max-kl"),
        max_perplexity_ratio=values.limit_of(max_perplexity_ratio, "--max-perplexity-ratio"),
        seed=seed,
        template=template,
        template_args=values.arguments_of(template_args),
        as_choice=as_choice,
        calibrate=calibrate,
        shares=values.shares_of(shares),
        skip_long=skip_long,
        prompt=prompt,
        behaviour=behaviour,
        shots=shots,
        lora=lora_baseline,
        neutral=neutral,
        unrelated=unrelated,
    )
    ensure_tracker(track)
    lineup = Lineup((methods,), experiment, equal_kl)
    if out is not None and out.exists() and not out.is_dir():
        raise tillerman.UsageError(f"{out}: is a file; --out wants a folder")
    loaded = [load(one, layout, columns, positive, limit, skip_bad_rows) for one in data]

    def show(log: ComparisonLog) -> None:
        if as_json:
            print_json(log.to_json())
            return
        for one, comparison in zip(loaded, log.comparisons, strict=True):
            show_account(account(comparison))
            print_skipped(one.skipped)
        whole = across(log)
        if whole is not None:
            show_account(whole)

    log = run_compare(lineup, loaded, o.ModelChoice(model, opening), out, ERR, show)
    if out is not None and not as_json:
        OUT.print(f"page: {out / 'compare.html'}", highlight=False, markup=False, soft_wrap=True)
    send(log, track)
    if not any(comparison.standing for comparison in log.comparisons):
        raise typer.Exit(NO_EFFECT)


def run_compare(
    lineup: Lineup,
    data: Sequence[LoadedData],
    model: o.ModelChoice,
    out: Path | None,
    console: Console,
    show: Callable[[ComparisonLog], None] = lambda log: None,
) -> ComparisonLog:
    """Compare on each data set and show what came out; write log, tables, page and charts into ``out``. Finished
    methods lie in folders there until all is done."""
    from tillerman.core.files import in_turn, make_folder
    from tillerman.logs.comparison import ComparisonLog
    from tillerman.pipeline.compare import compare, compare_key
    from tillerman.pipeline.shares import foresee

    if len({one.digest for one in data}) < len(data):
        raise tillerman.UsageError("the same DATA is given twice; give each once")
    for one in data:
        console.print(one.name, end=": ", highlight=False, markup=False)
        print_power(console, foresee(lineup.experiment, one, len(lineup.methods)))
    opened = model.open()
    if out is not None:
        make_folder(out)
    with ExitStack() as stack:  # the pieces of each data set stay until the last is written
        made = []
        for one in data:
            folder = None if out is None else out / f"{one.digest[:12]}.partial"
            store = stack.enter_context(resumable(folder, compare_key(lineup, opened, one), console))
            made.append(compare(lineup, opened, one, store=store, watch=watch(console)))
        log = ComparisonLog(tuple(made))
        in_turn(lambda: show(log), lambda: None if out is None else write_comparison(log, out))
    return log


def write_comparison(log: ComparisonLog, out: Path) -> None:
    """``compare.json``, ``.md`` and ``.html``, and a chart per data set."""
    from tillerman.core.files import write_text
    from tillerman.reports.charts.methods import compare_chart
    from tillerman.reports.charts.svg import standalone
    from tillerman.reports.comparison import to_markdown
    from tillerman.reports.pages import render_comparison

    log.write(out / "compare.json")
    write_text(out / "compare.md", to_markdown(log))
    write_text(out / "compare.html", render_comparison(log))
    for number, comparison in enumerate(log.comparisons, start=1):
        write_text(out / f"{number}-{comparison.data_name}.svg", standalone(compare_chart(comparison)))
