"""``tillerman eval``: test an artefact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tillerman.cli import options as o
from tillerman.cli.output import ERR, NO_EFFECT, load, show_log, show_thoughts
from tillerman.core.errors import UnknownNameError, UsageError

METRICS = ("answers", "thought-length")


def evaluate(
    artefact: Annotated[Path, typer.Argument(help="a file that 'fit' wrote", metavar="ARTEFACT")],
    data: o.Data,
    model: o.Model = "pilot",
    metric: Annotated[
        str, typer.Option(help="answers (which are right), or thought-length (of a reasoning model)")
    ] = "answers",
    strength: Annotated[float | None, typer.Option(help="instead of the chosen one")] = None,
    all_items: Annotated[
        bool, typer.Option("--all-items", help="test on every item (data the vector was not fitted on)")
    ] = False,
    allow_mismatch: o.AllowMismatch = False,
    template: Annotated[str | None, typer.Option(help="prompt format, if not the fit's: chat or none")] = None,
    as_choice: Annotated[
        bool | None,
        typer.Option("--as-choice/--no-as-choice", help="yes/no questions as lettered choices, if not as in the fit"),
    ] = None,
    keep_order: Annotated[
        bool | None,
        typer.Option("--keep-order/--draw-order", help="options in the order of the data, if not as in the fit"),
    ] = None,
    system: o.System = None,
    answer_tokens: o.AnswerTokens = 256,
    prompt: o.Prompt = None,
    shots: o.Shots = 10,
    on_shots: Annotated[
        int | None, typer.Option(min=0, help="exemplars before every question, if not as many as in the fit")
    ] = None,
    neutral: o.Neutral = "sample:wikitext",
    unrelated: o.Unrelated = "sample:mmlu",
    limit: o.Limit = None,
    layout: o.Layout = None,
    columns: o.Columns = None,
    positive: o.Positive = None,
    skip_bad_rows: o.SkipBadRows = False,
    device: o.Device = "cpu",
    guess_layout: o.GuessLayout = False,
    report: o.Report = None,
    as_json: o.Json = False,
) -> None:
    """Test an artefact on data, its own or other. Exit code 3 if no effect was found.

    --metric thought-length reports how long the model thinks, whether it ends, and whether its answers are right.

    Split and prompt format are the fit's, so that on its own data only the test share is used."""
    from tillerman.cli.fitting import EvalRequest, run_eval, run_thoughts
    from tillerman.reports.verdict import judge_log

    if metric not in METRICS:
        raise UnknownNameError("metric", metric, METRICS)
    if metric != "answers" and report is not None:
        raise UsageError("--report is a page about right answers; use --json with --metric thought-length")
    o.writable(report)
    loaded = load(data, layout, columns, positive, limit, skip_bad_rows)
    request = EvalRequest(
        artefact,
        strength,
        allow_mismatch,
        all_items,
        given={
            "template": template,
            "as_choice": as_choice,
            "keep_order": keep_order,
            "system": system,
            "answer_tokens": answer_tokens,
            "prompt": prompt,
            "shots": shots,
            "base_shots": on_shots,
            "neutral": neutral,
            "unrelated": unrelated,
        },
    )
    choice = o.ModelChoice(model, device, guess_layout)
    if metric == "thought-length":
        thoughts = run_thoughts(request, loaded, choice, ERR)
        show_thoughts(thoughts, as_json)
        moved = thoughts.condition("steered").change
        found = moved is not None and (moved.interval.low > 0 or moved.interval.high < 0)
    else:
        log = run_eval(request, loaded, choice, ERR)
        show_log(log, report, as_json)
        found = judge_log(log).outcome != "bad"
    if not found:
        raise typer.Exit(NO_EFFECT)
