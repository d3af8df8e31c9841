"""``tillerman score``: make the replies, score them, keep what is finished, show the figures."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tillerman.cli.options import ModelChoice
from tillerman.cli.views import NAMES
from tillerman.cli.watch import BarWatch
from tillerman.core.errors import DataError, UsageError
from tillerman.core.files import write_text
from tillerman.core.store import Store
from tillerman.data.prompts_file import load_asks
from tillerman.evaluation.scorers.base import TextScorer
from tillerman.evaluation.scorers.chat import Cache, ChatSource, Client, Endpoint, Replay
from tillerman.evaluation.scorers.judge import RUBRICS, JudgeScorer, rubrics_of
from tillerman.evaluation.scorers.registry import text_scorers
from tillerman.evaluation.scores import scored
from tillerman.logs.scores import JudgeAgreement, ScoreLog, ScorerResult
from tillerman.pipeline.replies import Inquiry, reply, reply_key
from tillerman.statistics.agreement import repeated
from tillerman.statistics.values import ScoreMean

USUAL = ("sentiment,fluency,length",)


@dataclass(frozen=True)
class JudgeChoice:
    """The judge as asked for; ``url`` and ``replay`` None: no judge."""

    url: str | None
    model: str | None
    scores: str
    behaviour: str
    repeats: int
    temperature: float
    key_variable: str
    cache: Path | None
    replay: Path | None

    def __post_init__(self) -> None:
        if self.url is not None and self.replay is not None:
            raise UsageError("--judge asks an endpoint and --judge-replay asks none; give one of them")
        if self.wanted and not self.model:
            raise UsageError("name the judge: --judge-model NAME")
        if not self.wanted and (self.model or self.cache):
            raise UsageError("--judge-model and --judge-cache are about a judge; give --judge URL or --judge-replay")

    @property
    def wanted(self) -> bool:
        return self.url is not None or self.replay is not None

    @property
    def kinds(self) -> list[str]:
        return [kind.strip() for kind in self.scores.split(",")]

    def open(self, out: Path | None) -> ChatSource:
        assert self.model is not None
        if self.url is None:
            assert self.replay is not None
            return Replay(self.replay, self.model, self.temperature)
        beside = None if out is None else out.with_name(out.name + ".judge.jsonl")
        endpoint = Endpoint(self.url, self.model, self.key_variable, self.temperature)
        return Client(endpoint, Cache(self.cache or beside))


@dataclass(frozen=True)
class ReplyRequest:
    """What is to be replied to. ``given`` holds fields of ``Inquiry``."""

    artefact: Path
    allow_mismatch: bool
    prompts: str
    system: str | None
    given: Mapping[str, Any]


def run_replies(
    request: ReplyRequest,
    model: ModelChoice,
    asked: Sequence[str] | None,
    judge: JudgeChoice,
    out: Path | None,
    console: Console,
) -> ScoreLog:
    """Finished batches of replies lie in ``OUT.partial`` until the log is written."""
    asks = load_asks(request.prompts)
    scorers = _scorers(asked, judge, {ask.shown: ask.reference for ask in asks}, out)
    opened = model.open()
    artefact, warnings = opened.load_artefact(request.artefact, allow_mismatch=request.allow_mismatch)
    shown = judge.behaviour or artefact.steering.provenance.data_name
    inquiry = Inquiry(asks, request.system or f"You show this behaviour: {shown}.", **request.given)
    digest = blake2b(request.artefact.read_bytes(), digest_size=16).hexdigest()
    folder = None if out is None else out.with_name(out.name + ".partial")
    store = Store(folder, reply_key(inquiry, digest, opened))
    if store.resumed:
        console.print(f"going on from {store.resumed} finished pieces of an interrupted run", highlight=False)
    finished = False
    try:
        log = reply(artefact, inquiry, opened, store=store, watch=BarWatch(console))
        log = replace(log, notes=tuple(f"allowed mismatch: {text}" for text in warnings))
        log = _judged(log, scorers, console)
        _write(out, log)
        finished = True
    finally:
        store.close(finished=finished)
    return log


def run_rescore(
    path: Path, asked: Sequence[str] | None, judge: JudgeChoice, out: Path | None, console: Console
) -> ScoreLog:
    """The texts of a log under other scorers; no model is opened."""
    try:
        log = ScoreLog.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read a log of 'tillerman score': {error}", file=path) from None
    known = dict(zip(log.prompts, log.references, strict=True))
    log = _judged(log, _scorers(asked, judge, known, out), console)
    _write(out, log)
    return log


def _scorers(
    asked: Sequence[str] | None, judge: JudgeChoice, references: Mapping[str, str | None], out: Path | None
) -> tuple[TextScorer, ...]:
    """Made before any work is done: a misspelt name or a missing address shows at once."""
    right = {prompt: text for prompt, text in references.items() if text is not None}
    names = tuple(asked) if asked else () if judge.wanted else USUAL
    plain = text_scorers(names, right) if names else ()
    if not judge.wanted:
        return plain
    opened = judge.open(out)
    return (*plain, *(JudgeScorer(kind, opened, judge.behaviour, judge.repeats) for kind in judge.kinds))


def _judged(log: ScoreLog, scorers: Sequence[TextScorer], console: Console) -> ScoreLog:
    """The log with the scorers' values and, where a judge rated twice, its agreement with itself."""
    if not any(isinstance(scorer, JudgeScorer) for scorer in scorers):
        return scored(log, scorers)
    with BarWatch(console).stage("judge", 0) as progress:
        watched = [replace(one, progress=progress) if isinstance(one, JudgeScorer) else one for one in scorers]
        log = scored(log, watched)
    mine = [scorer for scorer in scorers if isinstance(scorer, JudgeScorer) and scorer.repeats > 1]
    names = dict.fromkeys(rubric for scorer in mine for rubric in rubrics_of(scorer.kind))
    # The ratings are all in the judge's cache by now.
    found = {name: mine[0].ratings(name, *log.texts()) for name in names}
    made = (JudgeAgreement(name, repeated(ratings, RUBRICS[name].levels)) for name, ratings in found.items())
    return replace(log, agreements=tuple(made))


def _write(out: Path | None, log: ScoreLog) -> None:
    if out is not None:
        write_text(out, json.dumps(log.to_json(), ensure_ascii=False, indent=1, allow_nan=False))


def score_tables(log: ScoreLog) -> Iterator[Table]:
    """One table per scorer, 80 columns; intervals stand below what they belong to."""
    for one in log.scored:
        table = Table(title=_title(one), box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("condition", no_wrap=True)
        for head in ("dose", "n", "left\nout", "mean", "change"):
            table.add_column(head, justify="right", no_wrap=True)
        places = _places(one)
        for row in one.rows:
            spoken, figure = log.conditions[row.condition], row.figure
            table.add_row(
                NAMES.get(spoken.name, spoken.name),
                f"{spoken.dose:.2f}",
                "0" if figure is None else f"{figure.n}" if figure.of == "prompts" else f"{figure.n} {figure.of}",
                "all" if figure is None else str(figure.missing or ""),
                "" if figure is None else _numbers(figure, f".{places}f"),
                "" if row.change is None else _numbers(row.change, f"+.{places}f"),
            )
        yield table


def _title(one: ScorerResult) -> str:
    bounds = f"{'-inf' if one.low is None else f'{one.low:g}'} to {'inf' if one.high is None else f'{one.high:g}'}"
    better = "" if one.better == "neither" else f", {one.better} is better"
    return f"{one.scorer} ({one.unit}, {bounds}{better})"


def _places(one: ScorerResult) -> int:
    """Decimals that leave the largest figure three digits."""
    largest = max((abs(row.figure.value) for row in one.rows if row.figure is not None), default=1.0)
    return min(4, max(0, 2 - math.floor(math.log10(largest)))) if largest > 0 else 3


def _numbers(figure: ScoreMean, form: str) -> str:
    return f"{figure.value:{form}}\n[dim]{figure.interval.low:{form}} to {figure.interval.high:{form}}"


def score_facts(log: ScoreLog) -> list[str]:
    size = f"{len(log.prompts)} prompts, {log.samples} replies each of at most {log.tokens} tokens"
    system = next((c.detail for c in log.conditions if c.name == "prompt"), "")
    return [
        f"{log.method} at {log.hook_point}, scope {log.scope}, model {log.model_id}; {size}, temperature "
        f"{log.temperature:g}, seed {log.seed}",
        f"prompt baseline: {system}",
        "intervals are over prompts; those of the null over its draws; changes are paired with unsteered",
        *(f"{one.scorer}: {one.note}" for one in log.scored if one.note),
        *(_agreed(one) for one in log.agreements),
        *(f"note: {note}" for note in log.notes),
    ]


def _agreed(one: JudgeAgreement) -> str:
    a = one.agreement
    kappa = "none (all ratings of a side are the same)"
    if a.kappa is not None:
        kappa = f"{a.kappa.value:.2f} ({a.kappa.interval.low:.2f} to {a.kappa.interval.high:.2f})"
    return (
        f"judge's {one.rubric}, rated twice: weighted kappa {kappa}, mean difference {a.difference.value:.2f} "
        f"({a.difference.interval.low:.2f} to {a.difference.interval.high:.2f}), n = {a.n}, left out {a.missing}"
    )
