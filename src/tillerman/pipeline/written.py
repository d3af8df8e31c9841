"""What the model writes to held-out prompts, read by a scorer of the user's own labels, beside what it scores.

The likelihood of a given answer is not what a model writes: a vector may turn every comparison of two answers and
change no reply. See docs/design/decisions.md, "Scored or written".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from transformers import PreTrainedTokenizerBase

from tillerman.core.plan import Plan
from tillerman.data.presenting import Item, open_form
from tillerman.data.thoughts import Reply
from tillerman.data.writing import Writer, Written, start_free
from tillerman.evaluation.exam import Exam, fitting_shots
from tillerman.evaluation.perplexity import perplexity_of
from tillerman.evaluation.scorers.labels import (
    AnswerPair,
    LabelScorer,
    calibrated,
    learn,
    pair_of,
    too_few,
    validity,
)
from tillerman.evaluation.scorers.texts import repetition
from tillerman.logs.evidence import WrittenCondition, WrittenReplies, WrittenScorer
from tillerman.pipeline.run import Run
from tillerman.statistics.estimates import mean_effect
from tillerman.statistics.scores import Value, figure
from tillerman.statistics.values import MeanEffect

KINDS = ("preference", "text", "choice")  # those with wanted and unwanted texts
NULL_DRAWS = 3
OPENING = 5  # words of a labelled text that are continued, a third of it at most
SHOWN = 0.5  # a reply that scores more looks more like the wanted answers than like the others
LOOPS = 0.3  # share of a reply's runs of words that were there before: above it the reply is a loop, and shows nothing


def written_replies(run: Run, plan: Plan, draws: Sequence[Plan]) -> WrittenReplies | None:
    """Replies to the test prompts: unsteered, steered by ``plan`` and prompted, few-shot, of the fine-tuned model where
    that is asked for, and under random directions.

    None where the items have no wanted texts (yes/no, open questions), or nothing is to be written."""
    limit = run.experiment.written_tokens
    if run.kind not in KINDS or not run.experiment.written_prompts:
        return None
    scorer, found = scorer_of_labels(run, run.test)
    asked = prompts_of(run, run.test)
    if scorer is None or found.refused:
        return WrittenReplies(found, ())
    if len(asked.items) < 2:
        why = f"the prompts leave no room for a reply of {limit} tokens"
        return WrittenReplies(replace(found, refused=why), ())
    table = _Table(run, asked, scorer)
    conditions = table.conditions(plan, draws[:NULL_DRAWS])
    return WrittenReplies(found, conditions, tuple(item.prompt for item in asked.items), limit)


def scorer_of_labels(run: Run, tested: Exam) -> tuple[LabelScorer | None, WrittenScorer]:
    """Learned from the training items' answers and the model's own replies to their prompts, calibrated on the
    validation items' answers; its validity on those of ``tested``. Answers are cut to the length of replies.

    The model is not asked where the answers alone already tell that there is nothing to read."""
    train, validation, test = (_pairs(run, exam) for exam in (run.train, run.validation, tested))
    few = too_few(len(train), len(test))
    if few is not None:
        return None, few
    found = validity(learn(train), test, len(train))
    if found.refused:
        return None, found
    asked = prompts_of(run, run.train)
    own = [text for text in map(_answer, replies_to(run, asked, [()], "train")[0]) if text] if asked.items else []
    scorer = calibrated(learn(train, own), validation)
    return scorer, validity(scorer, test, len(train))


def prompts_of(run: Run, share: Exam) -> Exam:
    """At most ``written_prompts`` items of a share as they are answered freely: choices without their options,
    labelled texts by their first words. Prompts that leave no room for the reply in the context are left out."""
    limit, context = run.experiment.written_tokens, run.opened.context
    items = [_asked(item, k) for k, item in enumerate(share.items)]
    made = [(item, _written(run.writer, item)) for item in items]
    fits = [(item, one) for item, one in made if context is None or len(one.prompt) + limit <= context]
    kept = fits[: run.experiment.written_prompts]
    return Exam(run.opened, tuple(item for item, _ in kept), tuple(one for _, one in kept), limit)


def asked_by(asked: Exam, writer: Writer) -> Exam | None:
    """The same prompts by another writer; None where one of them leaves no room for its reply."""
    written = tuple(writer.write(item) for item in asked.items)
    longest, context = max(len(one.prompt) for one in written) + asked.limit, asked.opened.context
    return None if context is not None and longest > context else replace(asked, written=written)


def replies_to(run: Run, asked: Exam, plans: Sequence[Plan], name: str) -> list[list[Reply]]:
    """The most likely replies, ``[plans][prompts]``."""
    with run.watch.stage(f"written replies, {name}", len(plans) * len(asked.items)) as progress:
        return asked.replies_under(plans, run.store, progress)


def values_of(scorer: LabelScorer, replies: Sequence[Reply]) -> list[Value]:
    """None for a reply without a word."""
    return scorer.score([""] * len(replies), list(map(_answer, replies)))


def shows(scorer: LabelScorer, replies: Sequence[Reply]) -> list[bool]:
    """Whether each reply shows the behaviour: it scores above ``SHOWN`` and is no loop. Silence shows nothing."""
    pairs = zip(values_of(scorer, replies), repeated(replies), strict=True)
    return [score is not None and score > SHOWN and (again or 0.0) <= LOOPS for score, again in pairs]


def repeated(replies: Sequence[Reply]) -> list[Value]:
    """Of each reply the share of its runs of four words that were there before; None below four words."""
    return repetition().score([""] * len(replies), list(map(_answer, replies)))


@dataclass(frozen=True, eq=False)
class _Table:
    """Replies of every condition to the same prompts."""

    run: Run
    asked: Exam
    scorer: LabelScorer

    def conditions(self, plan: Plan, draws: Sequence[Plan]) -> tuple[WrittenCondition, ...]:
        """Unsteered first."""
        asked = [(), plan, *draws] if plan else [()]
        plain, *said = replies_to(self.run, self.asked, asked, "test, steered and nulls" if plan else "test")
        base, steered = values_of(self.scorer, plain), None
        rows = [self._row("unsteered", [plain], None)]
        if plan:
            rows.append(self._row("steered", said[:1], base))
            steered = values_of(self.scorer, said[0])
        for exam, names in self._baselines(plan):
            plans = [plan if name == "both" else () for name in names]
            for name, replies in zip(
                names, replies_to(self.run, exam, plans, f"test, {' and '.join(names)}"), strict=True
            ):
                rival = None if name == "both" else steered
                rows.append(self._row(name, [replies], base, rival))
        if self.run.experiment.lora:
            tuned = replace(self.asked, opened=self.run.tuned)
            rows.append(self._row("lora", replies_to(self.run, tuned, [()], "test, lora"), base, steered))
        if plan and len(draws):
            rows.append(self._row("null:random", said[1:], base))
        return tuple(rows)

    def _baselines(self, plan: Plan) -> list[tuple[Exam, tuple[str, ...]]]:
        """The prompt baseline, alone and steered, and the few-shot baseline: those that fit the context."""
        run, found = self.run, list[tuple[Exam, tuple[str, ...]]]()
        if run.kind == "text":  # a text has no question that a prompt could precede
            return []
        told = None if run.told_writer is None else asked_by(self.asked, run.told_writer)
        if told is not None:
            found.append((told, ("prompt", "both") if plan else ("prompt",)))
        pool = [open_form(item) for item in run.wrong(run.experiment.shots)]
        shots = fitting_shots(self.asked, run.bare_writer, pool, run.experiment.shots, run.opened.context)
        shown = None if shots is None else asked_by(self.asked, shots[0])
        return found if shown is None else [*found, (shown, ("icl",))]

    def _row(
        self,
        name: str,
        draws: Sequence[Sequence[Reply]],
        base: Sequence[Value] | None,
        steered: Sequence[Value] | None = None,
    ) -> WrittenCondition:
        """Draws are averaged prompt by prompt."""
        values = [_mean(one) for one in zip(*(values_of(self.scorer, draw) for draw in draws), strict=True)]
        shown = [float(np.mean(one)) for one in zip(*(shows(self.scorer, draw) for draw in draws), strict=True)]
        again = [value for draw in draws for value in repeated(draw) if value is not None]
        return WrittenCondition(
            name=name,
            score=figure(values),
            change=None if base is None else _change(values, base),
            perplexity=self._perplexity(draws),
            repetition=float(np.mean(again)) if again else 0.0,
            replies=tuple(map(_answer, draws[0])),
            shown=figure(shown),
            lead=None if steered is None else _change(steered, values),
        )

    def _perplexity(self, draws: Sequence[Sequence[Reply]]) -> float | None:
        """Of all replies, after the plain prompt."""
        said = [
            (one.prompt, reply.tokens) for draw in draws for one, reply in zip(self.asked.written, draw, strict=True)
        ]
        return perplexity_of(self.run.opened, said, self.run.store)


def _change(values: Sequence[Value], base: Sequence[Value]) -> MeanEffect | None:
    """Over the prompts that were answered both times; None below two."""
    pairs = [(a, b) for a, b in zip(values, base, strict=True) if a is not None and b is not None]
    if len(pairs) < 2:
        return None
    after, before = np.array(pairs, dtype=np.float64).T
    return mean_effect(after, before)


def _mean(values: Sequence[Value]) -> Value:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _answer(reply: Reply) -> str:
    return reply.answer or ""


def _pairs(run: Run, exam: Exam) -> list[AnswerPair]:
    cut, limit = run.opened.tokenizer, run.experiment.written_tokens
    pairs = [pair_of(item) for item in exam.items]
    return [AnswerPair(_cut(cut, pair.wanted, limit), _cut(cut, pair.unwanted, limit)) for pair in pairs]


def _cut(tokenizer: PreTrainedTokenizerBase, text: str, limit: int) -> str:
    """Its first tokens: a reply has no more."""
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return text if len(ids) <= limit else str(tokenizer.decode(ids[:limit], skip_special_tokens=True))


def _asked(item: Item, place: int) -> Item:
    """As it is asked: a labelled text by its first words, by turns of the wanted and of the unwanted one, so that
    neither side's way of beginning is asked for more often."""
    if item.example.kind != "text":
        return open_form(item)
    pair = pair_of(item)
    words = (pair.wanted if place % 2 else pair.unwanted).split()
    return replace(item, prompt=" ".join(words[: max(1, min(OPENING, len(words) // 3))]))


def _written(writer: Writer, item: Item) -> Written:
    written = writer.write(item)
    if item.example.kind != "text":
        return written
    return replace(written, prompt=written.prompt + start_free(writer.tokenizer, item.prompt))
