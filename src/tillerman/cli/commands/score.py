"""``tillerman score``: free replies under an artefact, scored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tillerman.cli import options as o
from tillerman.cli.output import ERR, OUT, print_json
from tillerman.core.errors import UsageError


def score(
    artefact: Annotated[
        Path | None, typer.Argument(help="a file that 'fit' wrote; none with --rescore", metavar="[ARTEFACT]")
    ] = None,
    prompts: Annotated[
        str, typer.Option(help="a text file with a prompt per line, a jsonl file (prompt, start, reference), or sample")
    ] = "sample",
    scorer: o.Scorers = None,
    rescore: Annotated[
        Path | None, typer.Option(help="score the texts of this log again, without a model", metavar="LOG")
    ] = None,
    model: o.Model = "pilot",
    doses: Annotated[
        str | None,
        typer.Option(help="in units of the stream, e.g. -0.3,0.3,0.6; multiples of the chosen one if not given"),
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", help="another fitted hook point, e.g. 3 or layers.3.resid_post")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="system prompt of the prompt baseline; from --behaviour or the data's name")
    ] = None,
    behaviour: Annotated[str, typer.Option(help="what the judge looks for, in words")] = "",
    samples: Annotated[int, typer.Option(min=1, help="replies to each prompt")] = 1,
    tokens: Annotated[int, typer.Option(min=1, help="most new tokens of a reply")] = 60,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the most likely token each time")] = 0.7,
    seed: Annotated[int, typer.Option(help="of the sampling, the same for every condition")] = 0,
    null_draws: Annotated[int, typer.Option(min=2, help="random directions of equal norm")] = 3,
    judge: o.Judge = None,
    judge_model: o.JudgeModel = None,
    judge_scores: o.JudgeScores = "behaviour,coherence,behaviour-x-coherence",
    judge_repeats: o.JudgeRepeats = 1,
    judge_temperature: o.JudgeTemperature = 0.0,
    judge_key: o.JudgeKey = "OPENAI_API_KEY",
    judge_cache: o.JudgeCache = None,
    judge_replay: o.JudgeReplay = None,
    template: o.Template = "auto",
    allow_mismatch: o.AllowMismatch = False,
    device: o.Device = "cpu",
    guess_layout: o.GuessLayout = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="write the log, with all texts, here")] = None,
    as_json: o.Json = False,
) -> None:
    """Score free replies: unsteered, steered at several doses, prompted, both, and under random directions.

    Every figure has n and a 95 % interval over prompts; changes are paired with unsteered."""
    from tillerman.cli.scoring import JudgeChoice, ReplyRequest, run_replies, run_rescore, score_facts, score_tables

    if (artefact is None) == (rescore is None):
        raise UsageError("give an ARTEFACT to make replies with, or --rescore LOG to score those of a log again")
    if rescore is not None and (prompts != "sample" or doses is not None or at is not None or prompt is not None):
        raise UsageError("--rescore takes a log's texts as they are; --prompts, --doses, --at and --prompt make others")
    o.writable(out)
    choice = JudgeChoice(
        judge,
        judge_model,
        judge_scores,
        behaviour,
        judge_repeats,
        judge_temperature,
        judge_key,
        judge_cache,
        judge_replay,
    )
    if rescore is not None:
        log = run_rescore(rescore, scorer, choice, out, ERR)
    else:
        assert artefact is not None  # one of the two is given
        request = ReplyRequest(
            artefact,
            allow_mismatch,
            prompts,
            prompt,
            given={
                "samples": samples,
                "tokens": tokens,
                "temperature": temperature,
                "seed": seed,
                "template": template,
                "doses": o.numbers(doses, "--doses"),
                "points": o.points_of(at),
                "null_draws": null_draws,
            },
        )
        log = run_replies(request, o.ModelChoice(model, device, guess_layout), scorer, choice, out, ERR)
    if as_json:
        print_json(log.to_json())
        return
    for table in score_tables(log):
        OUT.print(table)
    for line in score_facts(log):
        OUT.print(line, highlight=False, markup=False)
    if out is not None:
        OUT.print(f"log: {out}", highlight=False)
