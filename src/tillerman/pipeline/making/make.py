"""The flow of ``tillerman make``: description, prompts, questions, answers, filters, rows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tillerman.data.making.filters import Sifted, WrittenPair, sift
from tillerman.data.making.lists import distinct
from tillerman.data.making.prompts import (
    PromptPair,
    described_pairs,
    joined,
    negative_request,
    positive_request,
    read_pairs,
)
from tillerman.data.making.questions import in_drawn_order, question_request, read_questions, ready_questions
from tillerman.logs.making import NOTHING_KEPT, Dropped, MakingLog, Separation, UsedPrompts
from tillerman.pipeline.making.answers import Answering
from tillerman.pipeline.making.authors import Author, WritingRequest
from tillerman.pipeline.making.settings import Making
from tillerman.pipeline.making.telling import Telling, tell_by, tell_by_labels
from tillerman.pipeline.run import Unwatched, Watch

ROUNDS, SPARE, MOST = 4, 1.25, 3  # times that answers are written; beyond the items asked for; in all, times the items
LIST_TOKENS = 400  # of a list of prompts or questions
QUESTIONS_AT_ONCE = 10


@dataclass(frozen=True)
class Made:
    """``rows`` of the layout ``preference``, ready to be written, and how they came about."""

    rows: tuple[dict[str, Any], ...]
    log: MakingLog


def make(making: Making, writer: Author, answerer: Author, *, watch: Watch | None = None) -> Made:
    """Data from a description, by ``writer`` (prompts and questions) and ``answerer`` (both may be the same).

    Nothing is written to disk but what the authors keep of their own texts. A log with ``refused`` has no rows."""
    started, eyes = time.monotonic(), watch or Unwatched()
    prompts = _prompts(making, writer, eyes)
    questions, counted = _questions(making, writer, eyes)
    sifted, told, pairs = _answered(making, Answering(making, prompts, questions), answerer, eyes)
    kept = sifted.kept[: making.items]
    refused = told.blind or ("" if kept else f"{NOTHING_KEPT} of {sifted.written}")
    notes = [] if refused or len(kept) >= making.items else [f"{len(kept)} of {making.items} items asked for"]
    asked = bool(not making.pairs and making.description) or counted.get("written", 0) > 0
    log = MakingLog(
        description=making.description,
        source="objective" if making.objective else "prompts" if making.pairs else "description",
        writer=writer.name if asked else "",
        answered_by=answerer.name,
        written=sifted.written,
        kept=0 if refused else len(kept),
        asked_for=making.items,
        prompts=_used(prompts, pairs, kept),
        questions=counted,
        dropped=_dropped(sifted),
        separation=Separation(told.scorer, told.area, told.interval, told.n, making.margin),
        prompt_in=making.prompt_in if prompts else "",
        tokens=making.tokens,
        temperature=making.temperature,
        seed=making.seed,
        notes=tuple(notes),
        refused=refused,
        seconds=time.monotonic() - started,
    )
    return Made(() if refused else tuple(row_of(making, pair) for pair in kept), log)


def row_of(making: Making, pair: WrittenPair) -> dict[str, Any]:
    """As the layout ``preference`` has it. A column that all rows share tells a fit how a prompt may ask for the
    behaviour: the description, or the prompt of the wanted side where there is only one."""
    row: dict[str, Any] = {"prompt": pair.question, "chosen": pair.wanted, "rejected": pair.unwanted}
    if making.description:
        return row | {"behaviour": making.description}
    return row | ({"system_prompt": making.pairs[0].positive} if len(making.pairs) == 1 else {})


def _prompts(making: Making, writer: Author, watch: Watch) -> tuple[PromptPair, ...]:
    if making.pairs or not making.description:
        return making.pairs
    own = described_pairs(making.description)
    if not making.write_prompts:
        return own
    asked = [ask(making.description, making.write_prompts) for ask in (positive_request, negative_request)]
    with watch.stage("prompts", len(asked)) as progress:
        wanted, others = writer.write([WritingRequest(text, tokens=LIST_TOKENS) for text in asked], progress)
    return joined(own, read_pairs(wanted.text, others.text)[: making.write_prompts])


def _questions(making: Making, writer: Author, watch: Watch) -> tuple[tuple[str, ...], dict[str, int]]:
    """In the order in which they are asked, and how many there are of each kind."""
    if making.questions:
        return making.questions, {"given": len(making.questions)}
    ready = ready_questions()
    rounds = -(-making.write_questions // QUESTIONS_AT_ONCE)
    written: tuple[str, ...] = ()
    if rounds:
        asked = [
            WritingRequest(question_request(QUESTIONS_AT_ONCE, k), tokens=LIST_TOKENS, repeat=k) for k in range(rounds)
        ]
        with watch.stage("questions", len(asked)) as progress:
            lists = [read_questions(said.text) for said in writer.write(asked, progress)]
        written = new_questions([text for one in lists for text in one], ready)[: making.write_questions]
    filled = in_drawn_order(ready, making.seed)[: max(0, making.items - len(written))]
    return in_drawn_order((*written, *filled), making.seed), {"written": len(written), "ready": len(filled)}


def new_questions(written: Sequence[str], ready: Sequence[str]) -> tuple[str, ...]:
    """Those that are not nearly a ready one, or one before them."""
    known = set(ready)
    return tuple(text for text in distinct((*ready, *written)) if text not in known)


def _answered(
    making: Making, answering: Answering, answerer: Author, watch: Watch
) -> tuple[Sifted, Telling, list[WrittenPair]]:
    """Answers are written until enough pairs are left, the sides cannot be told apart, or the most were written."""
    pairs: list[WrittenPair] = []
    told, sifted = Telling("none", ()), Sifted(())
    for number in range(ROUNDS):
        missing = making.items - len(sifted.kept)
        room = MOST * making.items - len(pairs)
        if missing <= 0 or room <= 0 or told.blind:
            break
        share = len(sifted.kept) / len(pairs) if pairs else 1.0
        count = min(room, max(1, round(SPARE * missing / max(share, 1 / MOST))))
        requests = answering.requests(len(pairs), count)
        with watch.stage(f"answers, round {number + 1}", len(requests)) as progress:
            pairs += answering.pairs(len(pairs), count, answerer.write(requests, progress))
        sifted, told = sifted_by(making, pairs)
    return sifted, told, pairs


def sifted_by(making: Making, pairs: Sequence[WrittenPair]) -> tuple[Sifted, Telling]:
    """All pairs through all filters."""
    found: list[Telling] = []

    def told_apart(left: Sequence[WrittenPair]) -> tuple[bool, ...]:
        scorer = making.scorer or making.objective
        found.append(tell_by_labels(left) if scorer is None else tell_by(scorer, left, making.margin))
        return found[0].told

    sifted = sift(pairs, making.description, making.limits, told_apart)
    return sifted, found[0]


def _used(
    prompts: Sequence[PromptPair], pairs: Sequence[WrittenPair], kept: Sequence[WrittenPair]
) -> tuple[UsedPrompts, ...]:
    written, left = (Counter(pair.prompts for pair in many) for many in (pairs, kept))
    return tuple(UsedPrompts(one.positive, one.negative, written[one], left[one]) for one in prompts)


def _dropped(sifted: Sifted) -> tuple[Dropped, ...]:
    return tuple(
        Dropped(fault, count, first.question, first.wanted, first.unwanted)
        for fault, count in sifted.dropped.items()
        for first in [sifted.examples[fault]]
    )
