"""``tillerman validate-scorer``: a scorer or judge held against replies that people have labelled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tillerman.cli import options as o
from tillerman.cli.commands.score import JudgeChoice
from tillerman.cli.names import SCORERS
from tillerman.cli.output import ERR, OUT, ensure_tracker, print_json, send, show_account, watch
from tillerman.core.errors import UsageError

if TYPE_CHECKING:
    from tillerman.data.reply_labels import LabelColumns, ReplyLabels
    from tillerman.evaluation.scorers.base import TextScorer
    from tillerman.logs.validation import ValidationLog

_JUDGE = "judge:"


def validate_scorer(
    scorer: Annotated[
        str | None,
        typer.Argument(
            help=f"one of {', '.join(SCORERS)}, as for 'score' (pattern:REGEX, any:a+b, ...), or judge:behaviour, "
            "judge:coherence, ... with --judge or --judge-replay",
            metavar="SCORER",
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Argument(help="file of labelled replies: jsonl, json, csv, tsv or parquet", metavar="FILE")
    ] = None,
    wanted: Annotated[
        str | None,
        typer.Option(help="comma-separated: the labels that mean yes; all others mean no", metavar="LABELS"),
    ] = None,
    label: Annotated[str | None, typer.Option(help="column of the labels; label, final_label or gold")] = None,
    text: Annotated[
        str | None, typer.Option(help="column of the replies; reply, response, completion, output or text")
    ] = None,
    prompt_column: Annotated[
        str | None, typer.Option("--prompt", help="column of the prompts; prompt, question or instruction")
    ] = None,
    id_column: Annotated[str | None, typer.Option("--id", help="column of the replies' ids; id, else the row")] = None,
    annotators: Annotated[
        str | None,
        typer.Option(help="comma-separated: columns of what each of several people said", metavar="COLUMNS"),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            help="a score above it is called yes: a number, or best (chosen on these replies, each fifth by the other "
            "four); the middle of the scorer's range if not given"
        ),
    ] = None,
    below: Annotated[bool, typer.Option("--below", help="a score below the threshold is called yes")] = False,
    texts: Annotated[
        bool, typer.Option("--texts", help="whole replies in log and tables, not their first words alone")
    ] = False,
    top: Annotated[int, typer.Option(min=0, help="disagreements shown")] = 20,
    rejudge: Annotated[
        Path | None, typer.Option(help="another --threshold for the scores of a log; runs no scorer", metavar="LOG")
    ] = None,
    behaviour: Annotated[str, typer.Option(help="description of the behaviour that the judge rates")] = "",
    judge: o.Judge = None,
    judge_model: o.JudgeModel = None,
    judge_repeats: o.JudgeRepeats = 1,
    judge_temperature: o.JudgeTemperature = 0.0,
    judge_key: o.JudgeKey = "OPENAI_API_KEY",
    judge_cache: o.JudgeCache = None,
    judge_replay: o.JudgeReplay = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="folder for log, tables and page")] = None,
    track: o.Track = None,
    as_json: o.Json = False,
) -> None:
    """Hold a scorer or judge against labelled replies: kappa, AUC, errors.

    Accuracy, Cohen's kappa, AUC and calibration with intervals, counts of right and wrong calls, and the
    disagreements, most confident first. --annotators shows beside it how far people agree."""
    from tillerman.core.files import in_turn, make_folder
    from tillerman.data.reply_labels import LabelColumns
    from tillerman.reports.validation import account

    if rejudge is None and (scorer is None or data is None):
        raise UsageError("give a SCORER and a FILE of labelled replies, or --rejudge LOG for those of a log")
    if rejudge is not None and scorer is not None:
        raise UsageError("--rejudge takes a log's scores as they are; give no SCORER and no FILE")
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; --out wants a folder")
    ensure_tracker(track)
    at = _threshold(threshold)
    if rejudge is not None:
        log = _again(rejudge, at, below)
    else:
        assert scorer is not None and data is not None
        kind = scorer.removeprefix(_JUDGE) if scorer.startswith(_JUDGE) else ""
        choice = JudgeChoice(
            judge,
            judge_model,
            kind,
            behaviour,
            judge_repeats,
            judge_temperature,
            judge_key,
            judge_cache,
            judge_replay,
        )
        columns = LabelColumns(text, prompt_column, label, _listed(wanted), _listed(annotators), id_column)
        if out is not None:
            make_folder(out)
        log = _validated(scorer, choice, data, columns, at, below, texts, out)
    in_turn(
        lambda: print_json(log.to_json()) if as_json else show_account(account(log, top)),
        lambda: None if out is None else write_validation(log, out, top),
    )
    if out is not None and not as_json:
        OUT.print(f"page: {out / 'validation.html'}", highlight=False, markup=False, soft_wrap=True)
    send(log, track)


def _validated(
    scorer: str,
    choice: JudgeChoice,
    data: str,
    columns: LabelColumns,
    threshold: float | str | None,
    below: bool,
    texts: bool,
    out: Path | None,
) -> ValidationLog:
    from tillerman.data.reply_labels import read_reply_labels
    from tillerman.evaluation.scorers.judge import JudgeScorer
    from tillerman.evaluation.validation import validate

    made = _scorer(scorer, choice, data, out)
    replies = read_reply_labels(data, columns)
    if not isinstance(made, JudgeScorer):
        return validate(made, replies, threshold, below=below, texts=texts)
    _ensure_prompts(replies)
    with watch(ERR).stage("judge", 0) as progress:
        return validate(replace(made, progress=progress), replies, threshold, below=below, texts=texts)


def _scorer(name: str, choice: JudgeChoice, data: str, out: Path | None) -> TextScorer:
    from tillerman.data.reading.options import file_and_reading
    from tillerman.evaluation.scorers.judge import JudgeScorer
    from tillerman.evaluation.scorers.registry import text_scorer

    if name.startswith(_JUDGE):
        if not choice.wanted:
            raise UsageError(f"{name} asks a judge: give --judge URL, or --judge-replay FILE")
        source = choice.open(None if out is None else out / "validation.json")
        return JudgeScorer(choice.scores, source, choice.behaviour, choice.repeats)
    if choice.wanted or choice.behaviour:
        raise UsageError(f"scorer {name!r} asks no judge: leave out --judge, --judge-replay and --behaviour")
    learned = name.removeprefix("labels:")
    if learned != name and file_and_reading(learned)[0].resolve() == file_and_reading(data)[0].resolve():
        raise UsageError(f"scorer {name!r} has learned from {data}: hold it against other replies")
    return text_scorer(name)


def _ensure_prompts(replies: ReplyLabels) -> None:
    if not any(replies.prompts):
        raise UsageError("a judge reads prompts too, and the file has no column of the usual names; name it: --prompt")


def _again(path: Path, threshold: float | str | None, below: bool) -> ValidationLog:
    from tillerman.evaluation.validation import validate_again
    from tillerman.logs.validation import ValidationLog

    return validate_again(ValidationLog.read(path), threshold, below=below or None)


def _threshold(text: str | None) -> float | str | None:
    from tillerman.evaluation.validation import BEST

    if text is None or text == BEST:
        return text
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--threshold {text!r}: write a number, or {BEST}") from None


def _listed(text: str | None) -> tuple[str, ...]:
    return () if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def write_validation(log: ValidationLog, out: Path, top: int) -> None:
    """``validation.json``, ``.md`` and ``.html``."""
    from tillerman.core.files import make_folder, write_text
    from tillerman.reports.pages import render_account
    from tillerman.reports.validation import account, to_markdown

    make_folder(out)
    log.write(out / "validation.json")
    write_text(out / "validation.md", to_markdown(log, top))
    write_text(out / "validation.html", render_account(account(log, top)))
