"""Conversations of test prompts, written turn by turn under every condition, each with the history that is its own."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tillerman.core.errors import UsageError
from tillerman.core.plan import Plan
from tillerman.core.rows import Progress, Row
from tillerman.data.presenting import Item
from tillerman.data.thoughts import Reply
from tillerman.data.turns import Turn
from tillerman.data.writing import Writer, Written
from tillerman.evaluation.exam import Exam
from tillerman.evaluation.replies import replies_under
from tillerman.evaluation.scorers.texts import repetition
from tillerman.logs.study import Trial
from tillerman.models.logits import answer_logprobs
from tillerman.statistics.scores import Value
from tillerman.studies.base import Lab
from tillerman.studies.behaviour import Behaviour, behaviour_of, measured
from tillerman.studies.trials import WRITTEN
from tillerman.studies.turns.options import (
    BEHAVIOUR,
    FRESH,
    FROZEN,
    LIVE,
    NATS,
    OFF,
    PROMPT,
    REPEATED,
    UNSTEERED,
    TurnsOptions,
    case_of,
)
from tillerman.studies.turns.scopes import frozen, live

Histories = list[tuple[Turn, ...]]  # of every conversation, what was said before


@dataclass(frozen=True)
class _Condition:
    """A way to write the next turn: whose history it reads, and by which plan and writer it answers."""

    name: str
    history: str
    plan: Plan
    writer: Writer


def measure(lab: Lab, options: TurnsOptions) -> Iterator[Trial]:
    """Behaviour, nats per token and repetition of every reply, turn by turn."""
    if lab.run.kind == "text" or lab.run.bare_writer.template != "chat":
        raise UsageError("turns need questions and a chat template; labelled texts and plain prompts have none")
    behaviour = behaviour_of(lab, len(lab.run.test.items))
    talks = _conversations(behaviour.exam.items, options)
    asking = _Asking(lab, options, behaviour)
    histories: dict[str, Histories] = {UNSTEERED: [()] * len(talks)}
    count = len(_conditions(lab, options, 1)) * options.turns + options.turns - options.off_after
    with lab.stage("turns", count * len(talks)) as progress:
        for turn in range(1, options.turns + 1):
            said = {}
            for condition in _conditions(lab, options, turn):
                before = histories.setdefault(condition.history, [()] * len(talks))
                items = [_after(talk[turn - 1], past) for talk, past in zip(talks, before, strict=True)]
                replies = asking.replies(condition, items, turn, progress)
                yield from asking.trials(condition, items, replies, turn)
                said[condition.name] = [_grown(item, reply) for item, reply in zip(items, replies, strict=True)]
            histories |= {name: grown for name, grown in said.items() if name != FRESH}
            if turn == options.off_after:
                histories[OFF] = histories[LIVE]


def _conditions(lab: Lab, options: TurnsOptions, turn: int) -> list[_Condition]:
    plan, tokenizer, writer = lab.plan(), lab.opened.tokenizer, lab.run.bare_writer
    only_now = frozen(plan, tokenizer, turn)
    found = [
        _Condition(UNSTEERED, UNSTEERED, (), writer),
        _Condition(LIVE, LIVE, live(plan, tokenizer), writer),
        _Condition(FROZEN, FROZEN, only_now, writer),
        _Condition(FRESH, UNSTEERED, only_now, writer),
    ]
    if lab.run.told_writer is not None:
        found.append(_Condition(PROMPT, PROMPT, (), lab.run.told_writer.with_shots(())))
    return [*found, _Condition(OFF, OFF, (), writer)] if turn > options.off_after else found


def _conversations(items: Sequence[Item], options: TurnsOptions) -> list[tuple[Item, ...]]:
    """So many orders of the test prompts, drawn by the seed; no prompt comes twice in a conversation."""
    alone = [item for item in items if not item.example.history]
    if len(alone) < options.turns:
        raise UsageError(
            f"`turns` {options.turns}: the artefact's data have {len(alone)} test prompts without a conversation of "
            "their own; choose fewer turns, or give more data"
        )
    draw = random.Random(options.seed)
    return [tuple(draw.sample(alone, options.turns)) for _ in range(options.limit)]


def _after(item: Item, past: tuple[Turn, ...]) -> Item:
    return replace(item, example=replace(item.example, history=past))


def _grown(item: Item, reply: Reply) -> tuple[Turn, ...]:
    answer = (reply.answer or "").strip()
    return (*item.example.history, Turn("user", item.prompt), Turn("assistant", answer))


@dataclass(frozen=True, eq=False)
class _Asking:
    """Writes one turn of all conversations, and measures it."""

    lab: Lab
    options: TurnsOptions
    behaviour: Behaviour

    def replies(self, condition: _Condition, items: Sequence[Item], turn: int, progress: Progress) -> list[Reply]:
        written = self._written(condition.writer, items)
        self._ensure(condition, written, turn)
        store, tokens = self.lab.store, self.options.text_tokens
        (said,) = replies_under(self.lab.opened, written, [condition.plan], tokens, store=store, progress=progress)
        return said

    def trials(
        self, condition: _Condition, items: Sequence[Item], replies: Sequence[Reply], turn: int
    ) -> Iterator[Trial]:
        ids = [f"conversation {k}" for k in range(1, len(items) + 1)]
        right = self.behaviour.scorer is None
        shown = self._right(condition, items) if right else self.behaviour.values(replies)
        again = repetition().score([""] * len(replies), [reply.answer or "" for reply in replies])
        found = ((BEHAVIOUR, shown, "right" if right else WRITTEN), (NATS, self._nats(items, replies), NATS))
        for name, values, scorer in (*found, (REPEATED, again, "repetition")):
            for trial in measured(case_of(name, turn), condition.name, ids, values, scorer):
                yield replace(trial, at=float(turn))

    def _right(self, condition: _Condition, items: Sequence[Item]) -> list[Value]:
        """Whether the item of this turn is answered right, after what was said before."""
        exam = Exam.of(self.lab.opened, items, condition.writer, self.lab.run.experiment.answer_tokens)
        return [float(one) for one in exam.correct_under([condition.plan], self.lab.store)[0]]

    def _nats(self, items: Sequence[Item], replies: Sequence[Reply]) -> list[Value]:
        """Of each reply under the unsteered model, after its question alone: a history that repeats itself would make
        the same again likely."""
        bare = self._written(self.lab.run.bare_writer, [_after(item, ()) for item in items])
        rows = {
            k: Row(one.prompt + reply.tokens, len(one.prompt))
            for k, (one, reply) in enumerate(zip(bare, replies, strict=True))
            if reply.tokens
        }
        if not rows:
            return [None] * len(items)
        here = self.lab.store.scoped(self.lab.opened.identity, list(rows.values()))
        means = here.value("nats", lambda: answer_logprobs(self.lab.opened, list(rows.values())).tolist())
        known = dict(zip(rows, means, strict=True))
        return [-known[k] if k in known else None for k in range(len(items))]

    @staticmethod
    def _written(writer: Writer, items: Sequence[Item]) -> list[Written]:
        return [writer.write(item) for item in items]

    def _ensure(self, condition: _Condition, written: Sequence[Written], turn: int) -> None:
        """``UsageError`` where a conversation outgrows the context, or hides the mark that a scope looks for."""
        longest, context = max(len(one.prompt) for one in written), self.lab.opened.context
        if context is not None and longest + self.options.text_tokens > context:
            raise UsageError(
                f"turn {turn}: a conversation of {longest} tokens leaves no room for a reply of "
                f"{self.options.text_tokens}: the model reads {context}. Choose fewer `turns` or `text_tokens`"
            )
        for item in condition.plan:
            if item.scope.marker and not all(_holds(one.prompt, item.scope.marker) for one in written):
                raise UsageError(
                    f"turn {turn}: the tokens by which the chat template opens a turn are not in a prompt, so nothing "
                    "would be steered; this template's turns cannot be told apart"
                )


def _holds(tokens: Sequence[int], marker: Sequence[int]) -> bool:
    given, wanted = tuple(tokens), tuple(marker)
    return any(given[at : at + len(wanted)] == wanted for at in range(len(given) - len(wanted) + 1))
