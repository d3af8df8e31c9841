"""``tillerman make``: from a sentence, two prompts, a folder of texts or a classifier to a data file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tillerman.cli import options as o, values
from tillerman.cli.making import OBJECTIVE, WriterChoice, finish, making_of, of_texts, pair_of, run_make, slug
from tillerman.cli.output import NO_EFFECT
from tillerman.core.errors import UsageError
from tillerman.core.files import is_stream
from tillerman.core.opening import AS_USUAL, Opening

FEWEST_TO_FIT = 40  # pairs: a fifth of them has to tell whether the scorer of replies is any good


def make(
    description: Annotated[
        str, typer.Argument(help='the behaviour, as in "speaks like a pirate"', metavar="[DESCRIPTION]")
    ] = "",
    model: o.Model = "pilot",
    items: Annotated[int, typer.Option(min=1, help="pairs of answers to keep")] = 200,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="data file: jsonl, csv or parquet; named by the description if not given"),
    ] = None,
    positive_prompt: Annotated[
        str | None, typer.Option(help="prompt under which the behaviour is shown; takes the place of written ones")
    ] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="prompt under which it is not shown")] = None,
    texts: Annotated[
        Path | None,
        typer.Option(help="make it of texts: a folder with good and bad (or positive, negative), folders or files"),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help="a scorer whose high values are wanted: of several answers to a question the best and the worst are "
            "the pair; classifier:FOLDER, function:MODULE:NAME, or any of 'score'",
            metavar="SCORER",
        ),
    ] = None,
    fit: Annotated[bool, typer.Option("--fit", help="fit the data at once, by what is written")] = False,
    write_prompts: Annotated[
        int, typer.Option(min=0, help="pairs of prompts that the writer is asked for, beside those of the description")
    ] = 3,
    prompt_in: Annotated[
        str, typer.Option(help="where prompts stand: system, user (before the question; small models heed it), both")
    ] = "system",
    questions: Annotated[
        str | None, typer.Option(help="file with a question on each line; only these are asked", metavar="FILE")
    ] = None,
    write_questions: Annotated[
        int, typer.Option(min=0, help="questions that the writer is asked for; ready ones make up the rest")
    ] = 40,
    answers_by: Annotated[
        str, typer.Option(help="who answers: writer, or model (persona vectors' way); auto: the writer if there is one")
    ] = "auto",
    best_of: Annotated[int, typer.Option(min=2, help="answers of which --objective takes the best and the worst")] = 4,
    tokens: Annotated[int, typer.Option(min=1, help="maximum new tokens of an answer")] = 60,
    temperature: Annotated[float, typer.Option(min=0, help="sampling temperature; 0 is greedy")] = 0.7,
    seed: Annotated[int, typer.Option(min=0, help="random seed of sampling and of the order of questions")] = 0,
    scorer: Annotated[
        str | None,
        typer.Option(help="scorer that must tell the two answers apart; learned from the pairs if not given"),
    ] = None,
    margin: Annotated[float, typer.Option(min=0, help="by how much, with --scorer or --objective")] = 0.0,
    min_words: Annotated[int, typer.Option(min=1, help="words of an answer, at least")] = 3,
    max_words: Annotated[int, typer.Option(min=1, help="words of an answer, at most")] = 200,
    writer: Annotated[
        str | None, typer.Option(help="base URL of an OpenAI-compatible endpoint that writes", metavar="URL")
    ] = None,
    writer_model: Annotated[str | None, typer.Option(help="the writer's name at its endpoint")] = None,
    writer_key: Annotated[
        str, typer.Option(help="environment variable that holds the writer's API key")
    ] = "OPENAI_API_KEY",
    record: Annotated[
        Path | None, typer.Option(help="file of the writer's answers; beside OUT if not given", metavar="FILE")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(help="take the writer's answers from this file; no network", metavar="FILE")
    ] = None,
    template: o.Template = "auto",
    template_args: o.TemplateArgs = None,
    opening: Opening = AS_USUAL,
    as_json: o.Json = False,
) -> None:
    """Make labelled data from a description, prompts, texts or a classifier.

    The model itself, or another writer, writes prompts, questions and answers on both sides; what repeats itself,
    gives the behaviour's name away or is not told apart is dropped and counted. OUT is an ordinary data file, and
    OUT.making.json says how it came about. Exit code 3 where the two sides cannot be told apart: no file is written
    then. An interrupted run resumes where it stopped when the same command is given again."""
    from tillerman.core.row_files import ensure_row_file

    path = out or Path(f"{slug(description)}.jsonl")
    values.writable(path)
    ensure_row_file(path)
    choice = WriterChoice(writer, writer_model, writer_key, record, replay, answers_by)
    if fit and (is_stream(path) or as_json):
        raise UsageError("--fit fits the file that is written, and prints its own result; give -o FILE, and no --json")
    if fit and texts is None and items < FEWEST_TO_FIT:
        raise UsageError(f"--fit needs at least {FEWEST_TO_FIT} pairs to learn from and to be tested on: --items 60")
    if texts is not None:
        if positive_prompt or negative_prompt or objective or choice.wanted:
            raise UsageError("--texts takes texts as they are; prompts, --objective and --writer make others")
        made = of_texts(texts, (min_words, max_words), scorer, description)
    else:
        pairs = pair_of(positive_prompt, negative_prompt)
        making = making_of(
            description,
            pairs,
            questions,
            (min_words, max_words),
            {
                "items": items,
                "write_prompts": write_prompts,
                "write_questions": write_questions,
                "prompt_in": prompt_in,
                "tokens": tokens,
                "temperature": temperature,
                "seed": seed,
                "best_of": best_of,
                "margin": margin,
            },
            {"objective": objective, "scorer": scorer},
        )
        asked = o.ModelChoice(model, opening)
        made = run_make(making, asked, choice, path, values.arguments_of(template_args), template)
    finish(made, path, as_json=as_json, model=model)
    if made.log.refused:
        raise typer.Exit(NO_EFFECT)
    if fit:
        run_fit(path, model, opening)


def run_fit(path: Path, model: str, opening: Opening) -> None:
    """As the printed command does it."""
    from tillerman.cli.commands.fit import fit

    fit(
        str(path),
        model=model,
        out=path.with_suffix(".safetensors"),
        objective=OBJECTIVE,
        opening=opening,
    )
