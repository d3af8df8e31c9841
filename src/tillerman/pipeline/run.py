"""One run: model, items of each share as written for it, finished work, progress."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

from tillerman.core.errors import UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Scope
from tillerman.core.provenance import Provenance
from tillerman.core.rows import Progress, Row, silent
from tillerman.core.store import Store
from tillerman.data.duplicates import Split
from tillerman.data.loading import LoadedData
from tillerman.data.marked_scopes import make_scope
from tillerman.data.presenting import Item
from tillerman.data.writing import Writer
from tillerman.evaluation.exam import Exam
from tillerman.evaluation.limits import fits_under
from tillerman.logs.evidence import PromptTrial
from tillerman.methods.base import Habits
from tillerman.methods.registry import habits
from tillerman.models.finetuning import LoraOptions, train_lora
from tillerman.models.opened import OpenModel
from tillerman.pipeline.experiment import Experiment, readings_of
from tillerman.pipeline.prompt_search import DESCRIBED, GIVEN, OF_DATA, Judge, PromptChoice, PromptSearch

ASKED_FOR_WRONG = 32  # training items at a time, until enough were answered wrong
READ_REPLIES = 64  # training items whose replies are read by methods that look at the model's own words


class Watch(Protocol):
    """Is told what is being done; the command line draws bars from it."""

    def stage(self, title: str, total: int) -> AbstractContextManager[Progress]: ...


class Unwatched:
    """Nobody looks."""

    def stage(self, title: str, total: int) -> AbstractContextManager[Progress]:
        del title, total
        return nullcontext(silent)


# Of a run, what prompts are judged by (see ``prompt_search.Judge``).
JudgeMaker = Callable[["Run"], Judge]


@dataclass(frozen=True, eq=False)
class Run:
    """Made by ``set_up.set_up``; everything a step of the flow needs to look at."""

    experiment: Experiment
    opened: OpenModel
    data: LoadedData
    split: Split
    writer: Writer
    train: Exam
    validation: Exam
    test: Exam
    store: Store
    watch: Watch
    by_replies: JudgeMaker | None = None  # where prompts are chosen by replies, as cells are
    found: PromptChoice | None = None  # what the fit of an artefact tried for the prompt baseline; None: not known

    @cached_property
    def kind(self) -> str:
        return self.train.items[0].example.kind if self.train.items else self.test.items[0].example.kind

    @property
    def cells_are_dear(self) -> bool:
        """Whether items are scored by whole answers, not by a token: a cell then costs as much as its budget. A search
        that goes by replies has a design of its own."""
        scored = self.experiment.objective == "scored"
        return scored and any(written.whole for written in self.validation.written)

    @property
    def read(self) -> str:
        """The usual reading: the first of ``readings``."""
        return self.readings[0]

    @cached_property
    def readings(self) -> tuple[str, ...]:
        """Where activations are read, the usual place first."""
        closes, written = bool(self.writer.closing_turns().closing), self.experiment.objective == "written"
        return readings_of(self.experiment.read, self.kind, closes=closes, written=written)

    def reading(self, read: str) -> Run:
        """The same run, read in this one way."""
        return replace(self, experiment=replace(self.experiment, read=read))

    @property
    def told(self) -> str:
        """The prompt that asks for the behaviour in words; empty where none was given and none found that helps."""
        return self.prompts.taken

    @property
    def told_writer(self) -> Writer | None:
        """Asks the items under that prompt; None without one, and for texts, which have no question before which it
        could stand."""
        return self.writer.with_system(self.told) if self.kind != "text" and self.told else None

    @cached_property
    def prompts(self) -> PromptChoice:
        """What was tried for the prompt baseline: that given, else what the artefact's own fit found, else a search
        (see ``prompt_search``). Nothing for texts, which have no question before which a prompt could stand."""
        e = self.experiment
        if e.prompt:
            return PromptChoice((PromptTrial(e.prompt, GIVEN),))
        if self.found is not None:
            return replace(self.found, tried=tuple(one for one in self.found.tried if self._fits(one.text)))
        if self.kind == "text" or e.fast:
            return PromptChoice()
        said = (f"You show this behaviour: {e.behaviour}.", e.behaviour) if e.behaviour else ()
        described = (*((text, DESCRIBED) for text in said), *((text, OF_DATA) for text in self.data.described))
        search = PromptSearch(
            train=self.train.items,
            validation=self.validation,
            writer=self.writer,
            described=described,
            fits=self._fits,
            seed=e.seed,
            store=self.store,
            stage=self.watch.stage,
            judge=None if self.by_replies is None else self.by_replies(self),
        )
        return search.prompts()

    def _fits(self, text: str) -> bool:
        return fits_under(text, self._exams, self.writer)

    @property
    def _exams(self) -> tuple[Exam, Exam, Exam]:
        return self.train, self.validation, self.test

    @cached_property
    def contrast_writer(self) -> Writer:
        """How the rows of two sides are written: they close the answer's turn where it is read at its end."""
        if self.read != "end":
            return self.writer
        closing = self.writer.closing_turns()
        if not closing.closing:
            raise UsageError("read 'end' needs a chat template that closes an answer with a token; use 'last'")
        return closing

    def scope(self, method: str) -> Scope:
        """``auto`` is the method's own, or leaves the question as it is read and steers the answer; a text has no
        question. Where the search goes by what is written, every token is steered: at the same cost on neutral text
        it changes more of the replies."""
        asked, written = self.experiment.scope, self.experiment.objective == "written"
        if asked == "auto":
            whole = written or self.writer.template != "chat" or self.kind == "text"
            usual = "all" if whole else "after_instruction"
            asked = self.habits(method).scope or usual
        return make_scope(self.opened.tokenizer, asked)

    @property
    def base(self) -> str:
        """What the run stands on, in words; empty for the model and the question as given."""
        if self.experiment.base_lora:
            return f"the model fine-tuned on the {len(self.train.items)} training items"
        count = len(self.writer.shots)
        return f"asked after {count} exemplars from training items answered wrong" if count else ""

    @property
    def calibration(self) -> dict[str, float] | None:
        """The bias that is subtracted from answers, in nats; None where they are not calibrated."""
        return dict(self.writer.calibration) if self.experiment.calibrate else None

    @property
    def bare_writer(self) -> Writer:
        """For what is not of the data: exemplars of one task before another would be a task of their own."""
        return self.writer.with_shots(())

    @cached_property
    def predictions(self) -> list[int]:
        """The unsteered model's answers to the training items: PAS learns from what it gets wrong."""
        return self._given(self.train)

    def _given(self, some: Exam) -> list[int]:
        """The unsteered model's answers to some training items."""

        def given() -> list[int]:
            with self.watch.stage("unsteered answers, train", len(some.items)) as progress:
                return list(some.given((), progress).tolist())

        stored: list[int] = self.store.scoped(self.opened.identity, some.written, some.limit).value("given", given)
        return stored

    @cached_property
    def tuned(self) -> OpenModel:
        """A copy of the model, fine-tuned on the wanted answers to the training items."""
        turns, options = self.writer.closing_turns(), LoraOptions()
        rows = [turns.answer_row(written, written.right) for written in self.train.written]
        with self.watch.stage("fine-tuning, train", options.epochs * len(rows)) as progress:
            return train_lora(self.opened, rows, options, seed=self.experiment.seed, progress=progress)

    def wrong(self, most: int) -> list[Item]:
        """The first training items that the unsteered model answers wrong: exemplars are taken from these. Where its
        answers to all are not known, it is asked until there are enough."""
        items, found = self.train.items, list[Item]()
        if "predictions" in vars(self):
            return [item for item, said in zip(items, self.predictions, strict=True) if said != item.right][:most]
        for start in range(0, len(items), ASKED_FOR_WRONG):
            if len(found) >= most:
                break
            here = slice(start, start + ASKED_FOR_WRONG)
            some = replace(self.train, items=items[here], written=self.train.written[here])
            found += [item for item, said in zip(some.items, self._given(some), strict=True) if said != item.right]
        return found[:most]

    @cached_property
    def replies(self) -> tuple[Row, ...]:
        """What the unsteered model itself writes in answer to the training items, prompts included."""
        exam = replace(self.train, items=self.train.items[:READ_REPLIES], written=self.train.written[:READ_REPLIES])
        with self.watch.stage("unsteered replies, train", len(exam.items)) as progress:
            (said,) = exam.replies_under([()], self.store, progress)
        return tuple(Row(w.prompt + reply.tokens, len(w.prompt)) for w, reply in zip(exam.written, said, strict=True))

    def habits(self, method: str) -> Habits:
        """Of a method by its spec; those of the experiment need not be registered."""
        return next((one.habits for one in self.experiment.methods if str(one) == method), None) or habits(method)

    def points(self, site: str | None = None) -> tuple[HookPoint, ...]:
        """The candidate hook points at the experiment's site, or at a method's own."""
        e = self.experiment
        if e.layers is None:
            return self.opened.points(site or e.site)
        chosen = tuple(HookPoint(layer, site or e.site) for layer in e.layers)
        for point in chosen:
            self.opened.parts.part(point)  # says what is missing
        return chosen

    def of(self, opened: OpenModel) -> Run:
        """The same shares, answered by another model."""
        train, validation, test = (replace(exam, opened=opened) for exam in self._exams)
        return replace(self, opened=opened, train=train, validation=validation, test=test)

    def provenance(self, method: str) -> Provenance:
        e = self.experiment
        site = self.habits(method).site or e.site
        return replace(
            self.opened.provenance(method, name=self.data.name, site=site),
            template=self.writer.template,
            # plain JSON, as it is read back
            options=json.loads(json.dumps(replace(e, calibration=self.calibration).to_json())),
            data_digest=self.data.digest,
            split={
                "train": len(self.train.items),
                "validation": len(self.validation.items),
                "test": len(self.test.items),
                "dropped": self.split.dropped,
                **({"exemplars": len(self.writer.shots)} if self.writer.shots else {}),
            },
            read_positions=self.read,
            read_site=e.read_site or site,
            seed=e.seed,
        )
