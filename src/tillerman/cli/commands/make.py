"""``tillerman make``: from a sentence, two prompts, a folder of texts or a classifier to a data file."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tillerman.cli import options as o, values
from tillerman.cli.output import ERR, NO_EFFECT, OUT, print_json, show_account, watch
from tillerman.cli.resumable import beside, resumable
from tillerman.core.errors import UsageError
from tillerman.core.files import is_stream
from tillerman.core.opening import AS_USUAL, Opening

if TYPE_CHECKING:
    from tillerman.core.store import Store
    from tillerman.evaluation.scorers.base import TextScorer
    from tillerman.evaluation.scorers.chat import ChatSource
    from tillerman.models.opened import OpenModel
    from tillerman.pipeline.making.authors import Author
    from tillerman.pipeline.making.make import Made
    from tillerman.pipeline.making.settings import Making

OBJECTIVE = "written"  # of the fit that follows
FEWEST_TO_FIT = 40  # pairs: a fifth of them has to tell whether the scorer of replies is any good
ANSWERED_BY = ("auto", "writer", "model")


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


@dataclass(frozen=True)
class WriterChoice:
    """Another writer as asked for; ``url`` and ``replay`` None: the model itself writes."""

    url: str | None
    model: str | None
    key_variable: str
    record: Path | None
    replay: Path | None
    answers_by: str

    def __post_init__(self) -> None:
        if self.url is not None and self.replay is not None:
            raise UsageError("--writer asks an endpoint and --replay asks none; give one of them")
        if self.wanted and not self.model:
            raise UsageError("name the writer: --writer-model NAME")
        if not self.wanted and (self.model or self.record):
            raise UsageError("--writer-model and --record are about another writer; give --writer URL or --replay FILE")
        if self.answers_by not in ANSWERED_BY:
            raise UsageError(f"--answers-by {self.answers_by}: expected one of {', '.join(ANSWERED_BY)}")
        if self.answers_by == "writer" and not self.wanted:
            raise UsageError("--answers-by writer: there is no other writer; give --writer URL or --replay FILE")

    @property
    def wanted(self) -> bool:
        return self.url is not None or self.replay is not None

    @property
    def model_answers(self) -> bool:
        return not self.wanted or self.answers_by == "model"

    def author(self, out: Path) -> Author:
        from tillerman.evaluation.scorers.chat import Cache, Client, Endpoint, Replay
        from tillerman.pipeline.making.authors import ChatAuthor

        name, url, kept = self.model or "", self.url, self.replay
        if url is None:
            assert kept is not None
            return ChatAuthor(name, lambda heat, most: Replay(kept, name, heat, most, role="writer", flag="--record"))
        Endpoint(url, name, self.key_variable, role="writer")  # a wrong address is an error before any work
        cache = Cache(self.record or (None if is_stream(out) else out.with_name(out.name + ".writer.jsonl")))

        def source(temperature: float, tokens: int) -> ChatSource:
            return Client(Endpoint(url, name, self.key_variable, temperature, tokens, role="writer"), cache)

        return ChatAuthor(name, source)


def slug(description: str) -> str:
    """A file's name: ``speaks-like-a-pirate``."""
    return "-".join(re.findall(r"[a-z0-9]+", description.casefold())[:8]) or "made"


def pair_of(positive: str | None, negative: str | None) -> tuple[tuple[str, str], ...]:
    if (positive is None) != (negative is None):
        raise UsageError("--positive-prompt and --negative-prompt go together: a contrast needs both")
    return () if positive is None or negative is None else ((positive, negative),)


def making_of(
    description: str,
    pairs: tuple[tuple[str, str], ...],
    questions: str | None,
    word_limits: tuple[int, int],
    given: dict[str, int | float | str],
    scorers: dict[str, str | None],
) -> Making:
    """Names and files are read before any model is opened."""
    from tillerman.data.making.filters import Limits
    from tillerman.data.making.prompts import PromptPair
    from tillerman.data.prompts_file import load_asks
    from tillerman.pipeline.making.settings import Making

    asked = () if questions is None else tuple(ask.prompt for ask in load_asks(questions))
    made = {name: _scorer(spec) for name, spec in scorers.items()}
    pairs_of = tuple(PromptPair(*pair) for pair in pairs)
    return Making(description, pairs_of, asked, limits=Limits(*word_limits), **given, **made)  # type: ignore[arg-type]


def _scorer(spec: str | None) -> TextScorer | None:
    from tillerman.evaluation.scorers.registry import text_scorer

    return None if spec is None else text_scorer(spec)


def of_texts(folder: Path, word_limits: tuple[int, int], scorer: str | None, description: str) -> Made:
    from tillerman.data.making.filters import Limits
    from tillerman.pipeline.making.from_folder import make_of_texts

    return make_of_texts(folder, Limits(*word_limits), _scorer(scorer), description)


def run_make(
    making: Making,
    model: o.ModelChoice,
    writer: WriterChoice,
    out: Path,
    template_args: dict[str, object],
    template: str,
) -> Made:
    """What the model writes lies in ``OUT.partial`` until all is done, what another writer writes in its record."""
    from tillerman.core.facts import digest_of
    from tillerman.pipeline.making.make import make as made_by

    other = writer.author(out) if writer.wanted else None
    if other is not None and not writer.model_answers:
        return made_by(making, other, other, watch=watch(ERR))
    opened = model.open()
    key = f"make {digest_of(opened.identity, repr(making), template, repr(template_args))}"
    with resumable(beside(out), key, ERR) as store:
        own = _own(opened, store, making.seed, template, template_args)
        made = made_by(making, other or own, own, watch=watch(ERR))
    return replace(made, log=replace(made.log, provenance=opened.provenance("make", name="", site="").to_json()))


def _own(opened: OpenModel, store: Store, seed: int, template: str, arguments: dict[str, object]) -> Author:
    from tillerman.data.writing import make_writer
    from tillerman.pipeline.making.authors import ModelAuthor

    return ModelAuthor(opened, make_writer(opened.tokenizer, template, arguments), store, seed)


def finish(made: Made, path: Path, *, as_json: bool, model: str) -> None:
    """The file, what is known of it beside it, and the next command."""
    from tillerman.core.files import sha256_of
    from tillerman.core.row_files import write_rows
    from tillerman.reports.making import account

    log = made.log
    if not log.refused:
        write_rows(path, made.rows)
        log = log if is_stream(path) else replace(log, data_digest=sha256_of(path))
    about = path.with_name(path.name + ".making.json")
    if not is_stream(path):
        log.write(about)
    if as_json:
        print_json(log.to_json())
        return
    show_account(account(log))
    if not is_stream(path):
        OUT.print(f"how it came about: {about}", highlight=False, markup=False, soft_wrap=True)
    if log.refused:
        return
    OUT.print(f"data: {path}", highlight=False, markup=False, soft_wrap=True)
    OUT.print(f"next: {next_command(path, model)}", highlight=False, markup=False, soft_wrap=True)


def next_command(path: Path, model: str) -> str:
    chosen = () if model == "pilot" else ("--model", model)
    return shlex.join(("tillerman", "fit", str(path), *chosen, "--objective", OBJECTIVE))


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
