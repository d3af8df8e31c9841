"""The prompt baseline: the best of several prompts on validation items, by what the search of the vector goes by:
answers scored, or replies read. Test items play no part.

A vector is searched for; a prompt that it is held against must be too. Candidates are what the user and the data say
of the behaviour, training items quoted, and instructions that the model writes when it is shown training items.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace

import numpy as np

from tillerman.core.artefact import Artefact
from tillerman.core.rows import Progress
from tillerman.core.store import Store
from tillerman.data.presenting import Item
from tillerman.data.prompt_candidates import InstructionRequest, distinct, quoting, requests
from tillerman.data.thoughts import has_think_tags, read_reply, think_tags
from tillerman.data.writing import Writer
from tillerman.evaluation.exam import Exam
from tillerman.evaluation.scoring import best
from tillerman.logs.base import build
from tillerman.logs.cards import evaluation_on
from tillerman.logs.evidence import PromptTrial
from tillerman.selection.prompts import Tried, ranked
from tillerman.steering.generation import Sampling, continuation_tokens, stop_tokens

GIVEN, DESCRIBED, OF_DATA = "given", "described by the user", "made of the data"
OF_MODEL, NONE = "written by the model", "no prompt"

CANDIDATES = 8  # at most, beside no prompt
DRAFTS = 4  # that the model writes
ITEMS, OPEN_ITEMS = 64, 16  # of the validation share; answers to open questions have to be written out
DRAFTING = Sampling(max_new_tokens=60, temperature=0.7)


# What the unsteered model's replies to the first so many validation prompts are worth, prompt by prompt, from 0 to 1,
# where a writer asks them (None: as they are); None where there is no room for them.
Judge = Callable[[Writer | None, int], list[float] | None]


@dataclass(frozen=True)
class PromptChoice:
    """What was tried for the prompt baseline, the one taken first (see ``PromptTrial``); ``seconds`` of the search,
    None where there was none."""

    tried: tuple[PromptTrial, ...] = ()
    seconds: float | None = None

    @property
    def taken(self) -> str:
        """Its text; empty where nothing could be tried or nothing does better than no prompt."""
        return self.tried[0].text if self.tried else ""


def found_by_fit(artefact: Artefact) -> PromptChoice | None:
    """What the artefact's own fit tried, from its card; None where no card tells."""
    log = None if artefact.card is None else evaluation_on(artefact.card)
    return PromptChoice(log.prompts, log.seconds_for_prompt) if log is not None and log.prompts else None


@dataclass(frozen=True, eq=False)
class PromptSearch:
    """What candidates are made of (``train``, ``described``: pairs of text and source) and what chooses
    (``validation``). ``fits``: whether the model reads every item behind a prompt."""

    train: tuple[Item, ...]
    validation: Exam
    writer: Writer
    described: tuple[tuple[str, str], ...]
    fits: Callable[[str], bool]
    seed: int
    store: Store
    stage: Callable[[str, int], AbstractContextManager[Progress]]
    judge: Judge | None = None  # of replies; None: answers are scored

    def prompts(self) -> PromptChoice:
        """Every candidate's share right, or what replies under it are worth. No prompt (an empty text) is taken where
        none does better. Without training or validation items nothing can be chosen: what the user says of the
        behaviour is taken, if anything. Kept in the store."""
        if not self.train or not self.validation.items:
            said = [text for text, source in self.described if source == DESCRIBED]
            return PromptChoice(tuple(PromptTrial(text, DESCRIBED) for text in said[:1]))
        shown = [(item.prompt, item.texts, item.right) for item in self.train]
        facts = (
            self.validation.opened.identity,
            self.writer.template,
            self.described,
            self.seed,
            self.validation.opened.context,
            *(() if self.judge is None else ("by replies",)),
        )
        here = self.store.scoped(*facts, shown, self._asked.written, self._asked.limit)
        return build(PromptChoice, here.value("prompts", lambda: asdict(self._searched())))

    def _searched(self) -> PromptChoice:
        started, saved = time.monotonic(), self.store.saved
        found = self._ranked()
        return PromptChoice(found, time.monotonic() - started + self.store.saved - saved)

    def candidates(self) -> tuple[tuple[str, str], ...]:
        """(text, source) of all prompts that are tried: as many as fit, the model's own last."""
        quoted = [(text, OF_DATA) for text in quoting(self.train, self.seed)]
        written = [(text, OF_MODEL) for text in self._drafts()]
        fitting = (one for one in (*self.described, *quoted, *written) if self.fits(one[0]))
        return distinct(fitting, CANDIDATES)

    @property
    def _asked(self) -> Exam:
        """The items that choose: the first of the share, whose order is by hash."""
        exam = self.validation
        most = OPEN_ITEMS if exam.is_open else ITEMS
        return replace(exam, items=exam.items[:most], written=exam.written[:most])

    def _ranked(self) -> tuple[PromptTrial, ...]:
        with self.stage("instructions for the prompt baseline", 1) as progress:
            candidates = self.candidates()
            progress(1)
        exam = self._asked
        with self.stage("prompt baseline, validation", (len(candidates) + 1) * len(exam.items)) as progress:
            if self.judge is not None:
                none, *tried = self._read(("", NONE), *candidates, progress=progress)
            else:
                none = self._tried("", NONE, exam, progress)
                tried = [self._tried(text, source, self._under(text), progress) for text, source in candidates]
        return tuple(PromptTrial(one.text, one.source, one.score) for one in ranked(tried, none))

    def _read(self, *candidates: tuple[str, str], progress: Progress) -> list[Tried]:
        """What replies under each are worth; those that leave no room for replies are left out."""
        assert self.judge is not None
        found = []
        for text, source in candidates:
            worth = self.judge(self.writer.with_system(text) if text else None, OPEN_ITEMS)
            progress(len(self._asked.items))
            if worth is not None:
                found.append(Tried(text, source, np.array(worth), np.zeros(len(worth))))
        return found

    def _under(self, text: str) -> Exam:
        exam = self._asked
        return Exam.of(exam.opened, exam.items, self.writer.with_system(text), exam.limit)

    def _tried(self, text: str, source: str, exam: Exam, progress: Progress) -> Tried:
        if exam.is_open:
            (right,) = exam.correct_under([()], self.store, progress)
            return Tried(text, source, right, np.zeros(len(right)))
        (scores,) = exam.scores_under([()], self.store, progress)
        places = [w.right for w in exam.written]
        right = np.array([best(row) == place for row, place in zip(scores, places, strict=True)])
        margin = np.array([_margin(row, place) for row, place in zip(scores, places, strict=True)])
        return Tried(text, source, right, np.where(np.isnan(margin), -np.inf, margin))

    def _drafts(self) -> list[str]:
        """What the model writes when it is shown training items: one batch, the same for the same seed."""
        opened = self.validation.opened
        asked = requests(self.train, DRAFTS, self.seed)
        bare = self.writer.with_system(None).with_shots(())
        prompts = [bare.encode(_asking(bare, one)) for one in asked]
        room = opened.context
        fitting = [
            (one, prompt)
            for one, prompt in zip(asked, prompts, strict=True)
            if room is None or len(prompt) + DRAFTING.max_new_tokens <= room
        ]
        if not fitting:
            return []
        tags = think_tags(opened.tokenizer) if has_think_tags(opened.tokenizer) else None
        rows = [prompt for _, prompt in fitting]
        said = continuation_tokens(opened, rows, [()] * len(rows), replace(DRAFTING, seed=self.seed))
        replies = [
            read_reply(opened.tokenizer, tags, prompt, tokens, stop_tokens(opened))
            for prompt, tokens in zip(rows, said, strict=True)
        ]
        return [one.prompt(reply.answer or "") for (one, _), reply in zip(fitting, replies, strict=True)]


def _asking(writer: Writer, request: InstructionRequest) -> str:
    """What the model goes on from. Without a chat template a label opens the instruction."""
    if writer.template == "chat":
        return writer.prompt_text(request.ask) + request.opening
    return f"{request.ask}\n\nInstruction:" + (f" {request.opening}" if request.opening else "")


def _margin(scores: Sequence[float], right: int) -> float:
    """By how much the wanted answer is likelier than the best other one, nats."""
    return scores[right] - max(score for place, score in enumerate(scores) if place != right)
