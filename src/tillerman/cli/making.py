"""What ``tillerman make`` does between its options and its file: who writes, what is asked of them, what is said."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tillerman.cli import options as o
from tillerman.cli.output import ERR, OUT, print_json, show_account, watch
from tillerman.cli.resumable import beside, resumable
from tillerman.core.errors import UsageError
from tillerman.core.files import is_stream

if TYPE_CHECKING:
    from tillerman.core.store import Store
    from tillerman.evaluation.scorers.base import TextScorer
    from tillerman.evaluation.scorers.chat import ChatSource
    from tillerman.models.opened import OpenModel
    from tillerman.pipeline.making.authors import Author
    from tillerman.pipeline.making.make import Made
    from tillerman.pipeline.making.settings import Making

OBJECTIVE = "written"  # of the fit that follows
ANSWERED_BY = ("auto", "writer", "model")


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
