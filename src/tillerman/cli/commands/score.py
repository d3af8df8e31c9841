"""``tillerman score``: free replies under an artefact, scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from tillerman.cli import options as o, values
from tillerman.cli.output import ERR, OUT, ensure_tracker, print_json, send, show_account, watch
from tillerman.cli.resumable import beside, resumable
from tillerman.core.errors import UsageError
from tillerman.core.files import in_turn, is_stream
from tillerman.core.opening import AS_USUAL, Opening

if TYPE_CHECKING:
    from tillerman.core.artefact import Artefact
    from tillerman.evaluation.scorers.base import TextScorer
    from tillerman.evaluation.scorers.chat import ChatSource
    from tillerman.logs.scores import ScoreLog

USUAL = ("sentiment,fluency,length",)


def score(
    artefact: Annotated[
        Path | None, typer.Argument(help="a file that 'fit' wrote; not with --rescore", metavar="[ARTEFACT]")
    ] = None,
    prompts: Annotated[
        str,
        typer.Option(help="a text file of prompts, a JSON list, rows (prompt, start, reference), or sample"),
    ] = "sample",
    scorer: o.Scorers = None,
    rescore: Annotated[
        Path | None, typer.Option(help="score the texts of this log again; runs no model", metavar="LOG")
    ] = None,
    model: o.OwnModel = None,
    doses: Annotated[
        str | None,
        typer.Option(help="doses, e.g. -0.3,0.3,0.6; multiples of the chosen one if not given"),
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", help="another fitted hook point, e.g. 3 or layers.3.resid_post")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="system prompt of the prompt baseline; from --behaviour, or that of the fit"),
    ] = None,
    behaviour: Annotated[str, typer.Option(help="description of the behaviour that the judge rates")] = "",
    samples: Annotated[int, typer.Option(min=1, help="replies per prompt")] = 1,
    tokens: Annotated[int, typer.Option(min=1, help="maximum new tokens of a reply")] = 60,
    temperature: Annotated[float, typer.Option(min=0, help="sampling temperature; 0 is greedy")] = 0.7,
    seed: Annotated[int, typer.Option(help="random seed of sampling, the same for every condition")] = 0,
    null_draws: Annotated[int, typer.Option(min=2, help="number of random directions of equal norm")] = 3,
    judge: o.Judge = None,
    judge_model: o.JudgeModel = None,
    judge_scores: o.JudgeScores = "behaviour,coherence,behaviour-x-coherence",
    judge_repeats: o.JudgeRepeats = 1,
    judge_temperature: o.JudgeTemperature = 0.0,
    judge_key: o.JudgeKey = "OPENAI_API_KEY",
    judge_cache: o.JudgeCache = None,
    judge_replay: o.JudgeReplay = None,
    template: o.Template = "auto",
    template_args: o.TemplateArgs = None,
    allow_mismatch: o.AllowMismatch = False,
    opening: Opening = AS_USUAL,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="file for the log with all texts")] = None,
    track: o.Track = None,
    as_json: o.Json = False,
) -> None:
    """Score free replies under an artefact, with controls and intervals.

    Unsteered, steered at several doses, prompted, both, and under random directions. Every figure has n and a
    95 % interval over prompts; changes are paired with unsteered."""
    from tillerman.reports.scores import account

    if (artefact is None) == (rescore is None):
        raise UsageError("give an ARTEFACT to make replies with, or --rescore LOG to score those of a log again")
    if rescore is not None and (prompts != "sample" or doses is not None or at is not None or prompt is not None):
        raise UsageError("--rescore takes a log's texts as they are; --prompts, --doses, --at and --prompt make others")
    values.writable(out)
    ensure_tracker(track)
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

    def show(log: ScoreLog) -> None:
        if as_json:
            print_json(log.to_json())
        else:
            show_account(account(log))

    if rescore is not None:
        log = run_rescore(rescore, scorer, choice, out, ERR, show)
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
                "template_args": values.arguments_of(template_args),
                "doses": values.numbers(doses, "--doses"),
                "points": values.points_of(at),
                "null_draws": null_draws,
            },
        )
        log = run_replies(request, o.ModelChoice(model, opening), scorer, choice, out, ERR, show)
    if out is not None and not as_json:
        OUT.print(f"log: {out}")
    send(log, track)


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
        from tillerman.evaluation.scorers.chat import Cache, Client, Endpoint, Replay

        assert self.model is not None
        if self.url is None:
            assert self.replay is not None
            return Replay(self.replay, self.model, self.temperature)
        answers = None if out is None or is_stream(out) else out.with_name(out.name + ".judge.jsonl")
        endpoint = Endpoint(self.url, self.model, self.key_variable, self.temperature)
        return Client(endpoint, Cache(self.cache or answers))


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
    model: o.ModelChoice,
    asked: Sequence[str] | None,
    judge: JudgeChoice,
    out: Path | None,
    console: Console,
    show: Callable[[ScoreLog], None] = lambda log: None,
) -> ScoreLog:
    """Finished batches of replies lie in ``OUT.partial`` until the log is written."""
    from tillerman.data.prompts_file import load_asks
    from tillerman.pipeline.replies import Inquiry, reply, reply_key

    asks = load_asks(request.prompts)
    scorers = _scorers(asked, judge, {ask.shown: ask.reference for ask in asks}, out)
    opened = model.of(request.artefact).open()
    artefact, warnings = opened.load_artefact(request.artefact, allow_mismatch=request.allow_mismatch)
    inquiry = Inquiry(asks, request.system or _system(artefact, judge.behaviour), **request.given)
    digest = blake2b(request.artefact.read_bytes(), digest_size=16).hexdigest()
    with resumable(beside(out), reply_key(inquiry, digest, opened), console) as store:
        log = reply(artefact, inquiry, opened, store=store, watch=watch(console))
        log = replace(log, notes=tuple(f"allowed mismatch: {text}" for text in warnings))
        log = _judged(log, scorers, console)
        in_turn(lambda: show(log), lambda: _write(out, log))
    return log


def _system(artefact: Artefact, behaviour: str) -> str | None:
    """The prompt baseline: what the user says of the behaviour, else what the artefact's fit was given or found."""
    from tillerman.pipeline.prompt_search import found_by_fit

    found = found_by_fit(artefact)
    if behaviour:
        return f"You show this behaviour: {behaviour}."
    return (found.taken or None) if found is not None else None


def run_rescore(
    path: Path,
    asked: Sequence[str] | None,
    judge: JudgeChoice,
    out: Path | None,
    console: Console,
    show: Callable[[ScoreLog], None] = lambda log: None,
) -> ScoreLog:
    """The texts of a log under other scorers; no model is opened."""
    from tillerman.logs.scores import ScoreLog

    log = ScoreLog.read(path)
    known = dict(zip(log.prompts, log.references, strict=True))
    log = _judged(log, _scorers(asked, judge, known, out), console)
    in_turn(lambda: show(log), lambda: _write(out, log))
    return log


def _scorers(
    asked: Sequence[str] | None, judge: JudgeChoice, references: Mapping[str, str | None], out: Path | None
) -> tuple[TextScorer, ...]:
    """Made before any work is done: a misspelt name or a missing address shows at once."""
    from tillerman.evaluation.scorers.judge import JudgeScorer
    from tillerman.evaluation.scorers.registry import text_scorers

    right = {prompt: text for prompt, text in references.items() if text is not None}
    names = tuple(asked) if asked else () if judge.wanted else USUAL
    plain = text_scorers(names, right) if names else ()
    if not judge.wanted:
        return plain
    opened = judge.open(out)
    return (*plain, *(JudgeScorer(kind, opened, judge.behaviour, judge.repeats) for kind in judge.kinds))


def _judged(log: ScoreLog, scorers: Sequence[TextScorer], console: Console) -> ScoreLog:
    """The log with the scorers' values and, where a judge rated twice, its agreement with itself."""
    from tillerman.evaluation.scorers.judge import RUBRICS, JudgeScorer, rubrics_of
    from tillerman.evaluation.scores import scored
    from tillerman.logs.scores import JudgeAgreement
    from tillerman.statistics.agreement import repeated

    if not any(isinstance(scorer, JudgeScorer) for scorer in scorers):
        return scored(log, scorers)
    with watch(console).stage("judge", 0) as progress:
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
        log.write(out)
