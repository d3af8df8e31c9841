"""Replies to free prompts under an artefact: unsteered, steered, prompted and random, from the same random numbers."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from tillerman.core.artefact import Artefact
from tillerman.core.cell import Cell
from tillerman.core.errors import UsageError
from tillerman.core.hookpoint import HookPoint, named
from tillerman.core.plan import Plan
from tillerman.core.rows import Progress
from tillerman.core.store import Store
from tillerman.data.prompts_file import Ask
from tillerman.data.thoughts import Reply, Tags, has_think_tags, read_reply, think_tags
from tillerman.data.writing import Writer, make_writer
from tillerman.logs.scores import ScoreLog, Spoken
from tillerman.models.opened import OpenModel
from tillerman.pipeline.run import Unwatched, Watch
from tillerman.steering.generation import Sampling, continuation_tokens, stop_tokens

FACTORS = (-1.0, 0.5, 1.0, 2.0)  # multiples of the chosen strength
ROWS = 64  # of one batch; fixed, since above temperature 0 a text depends on its batch


@dataclass(frozen=True)
class Inquiry:
    """What is asked, and how. ``doses`` take the place of multiples of the chosen strength; the null and the
    prompt with steering are at the chosen strength, or at the largest dose. ``system`` is the prompt baseline's;
    without one there is no such baseline."""

    asks: tuple[Ask, ...]
    system: str | None
    samples: int = 1
    tokens: int = 60
    temperature: float = 0.7
    seed: int = 0
    template: str = "auto"
    template_args: Mapping[str, Any] = field(default_factory=dict)
    doses: tuple[float, ...] | None = None
    points: tuple[HookPoint, ...] | None = None
    null_draws: int = 3

    def __post_init__(self) -> None:
        if self.samples < 1 or (self.samples > 1 and self.temperature == 0):
            raise UsageError(
                f"`samples` {self.samples} at temperature {self.temperature:g}: give at least 1, and 1 at "
                "temperature 0, where all samples are the same"
            )
        if self.null_draws < 2:
            raise UsageError(f"`null_draws` {self.null_draws}: an interval over draws needs at least two")
        if self.doses is not None and not any(self.doses):
            raise UsageError("`doses`: give at least one that is not 0; the unsteered model is always there")


def reply_key(inquiry: Inquiry, artefact_digest: str, opened: OpenModel) -> str:
    """Names a run for its store: same key, same replies."""
    asked = {**asdict(inquiry), "points": [str(point) for point in inquiry.points or ()]}
    facts = [asked, artefact_digest, opened.fingerprint, opened.tokenizer_hash, opened.template_hash]
    return f"score {hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()}"


def reply(
    artefact: Artefact, inquiry: Inquiry, opened: OpenModel, *, store: Store | None = None, watch: Watch | None = None
) -> ScoreLog:
    """The replies of every condition, not yet scored."""
    started = time.monotonic()
    cells = _cells(artefact, inquiry)
    writer = make_writer(opened.tokenizer, inquiry.template, inquiry.template_args)
    room = _Room(inquiry, opened, writer, store or Store(None, ""), watch or Unwatched())
    conditions = room.conditions(artefact, cells)
    return ScoreLog(
        model_id=opened.id,
        method=artefact.steering.provenance.method,
        hook_point=named(cells[0].points),
        scope=str(cells[0].scope),
        prompts=tuple(ask.shown for ask in inquiry.asks),
        references=tuple(ask.reference for ask in inquiry.asks),
        samples=inquiry.samples,
        tokens=inquiry.tokens,
        temperature=inquiry.temperature,
        seed=inquiry.seed,
        conditions=conditions,
        scored=(),
        provenance=artefact.steering.provenance.to_json(),
        seconds=time.monotonic() - started,
    )


def _cells(artefact: Artefact, inquiry: Inquiry) -> tuple[Cell, ...]:
    """The artefact's cell, or that of the largest dose, first."""
    cell = artefact.cell if inquiry.points is None else replace(artefact.cell, points=inquiry.points)
    if inquiry.doses is not None:
        doses = sorted({dose for dose in inquiry.doses if dose}, reverse=True)
        return tuple(cell.at_dose(dose, artefact.steering) for dose in doses)
    if cell.strength == 0:
        raise UsageError("the artefact's strength is 0: its search found nothing that helps; give `doses`")
    return (cell, *(cell.scaled(factor) for factor in FACTORS if factor != 1))


@dataclass(frozen=True, eq=False)
class _Room:
    """Where the prompts are asked."""

    inquiry: Inquiry
    opened: OpenModel
    writer: Writer
    store: Store
    watch: Watch

    def conditions(self, artefact: Artefact, cells: Sequence[Cell]) -> tuple[Spoken, ...]:
        """Unsteered first. Every condition draws from the same random numbers."""
        system, main, gate = self.inquiry.system, cells[0], artefact.gate
        steering = artefact.steering.at(main.points)
        steered = sorted(cells, key=lambda cell: cell.strength)
        drawn = [steering.random_like(seed) for seed in range(1, self.inquiry.null_draws + 1)]
        nulls = [main.for_draw(one).plan(one, gate) for one in drawn]

        def spoken(name: str, replies: Sequence[tuple[str, ...]], detail: str = "", cell: Cell | None = None) -> Spoken:
            strength, dose = (0.0, 0.0) if cell is None else (cell.strength, cell.dose(steering))
            return Spoken(name, detail, strength, dose, tuple(replies))

        passes = 1 + 2 * bool(system) + len(steered) + len(nulls)
        with self.watch.stage("replies", passes * len(self.inquiry.asks) * self.inquiry.samples) as progress:
            ask = partial(self._said, progress)
            plain = spoken("unsteered", [ask(())])
            curve = [spoken("steered", [ask(c.plan(steering, gate))], cell=c) for c in steered]
            told, both = [], []
            if system:
                told = [spoken("prompt", [ask((), system)], system)]
                both = [spoken("both", [ask(main.plan(steering, gate), system)], system, main)]
            random = [ask(plan) for plan in nulls]
            null = spoken("null:random", random, f"{len(random)} draws", main)
        return plain, *curve, *told, *both, null

    def _said(self, progress: Progress, plan: Plan, system: str | None = None) -> tuple[str, ...]:
        """Each prompt's samples in turn."""
        i = self.inquiry
        prompts = [self._tokens(ask, system) for ask in i.asks]
        tags = think_tags(self.opened.tokenizer) if has_think_tags(self.opened.tokenizer) else None
        samples: list[list[str]] = [[] for _ in prompts]
        for k in range(i.samples):
            for start in range(0, len(prompts), ROWS):
                batch = prompts[start : start + ROWS]
                sampling = Sampling(i.tokens, i.temperature, seed=i.seed * 1_000_003 + k * 1_009 + start)
                make = partial(continuation_tokens, self.opened, batch, [plan] * len(batch), sampling)
                here = self.store.scoped(self.opened.identity, batch, plan, sampling)
                made = here.value("replies", make)
                for place, (prompt, tokens) in enumerate(zip(batch, made, strict=True), start):
                    samples[place].append(self._text(tags, prompt, tokens))
                progress(len(batch))
        return tuple(text for one in samples for text in one)

    def _tokens(self, ask: Ask, system: str | None) -> tuple[int, ...]:
        if self.writer.template == "chat":
            return self.writer.encode(self.writer.with_system(system).reply_text(ask.prompt) + ask.start)
        return self.writer.encode(" ".join(part for part in (system, ask.prompt, ask.start) if part))

    def _text(self, tags: Tags | None, prompt: Sequence[int], tokens: Sequence[int]) -> str:
        read: Reply = read_reply(self.opened.tokenizer, tags, prompt, tokens, stop_tokens(self.opened))
        if not read.thought:
            return read.answer or ""
        thought = self.opened.tokenizer.decode(list(read.thought), skip_special_tokens=True)
        return f"<think>{thought}" + ("" if read.answer is None else f"</think>{read.answer}")
