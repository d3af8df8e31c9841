"""Vectors over many turns: the verdict on trials made by hand, the conversations, the study on the embedded model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tillerman
from tillerman.core.errors import UsageError
from tillerman.core.plan import Scope
from tillerman.core.store import Store
from tillerman.core.turns import turn_spans
from tillerman.data.marked_scopes import after_instruction, assistant_turns, last_turn
from tillerman.data.templates import apply_template
from tillerman.logs.study import StudyLog, Trial
from tillerman.models.batches import padded
from tillerman.steering.scopes import meant_in
from tillerman.studies import Subject, TurnsOptions, judge_again, run
from tillerman.studies.base import study_key
from tillerman.studies.trials import WRITTEN
from tillerman.studies.turns.judge import judge
from tillerman.studies.turns.options import BEHAVIOUR, FRESH, FROZEN, LIVE, NATS, OFF, REPEATED, UNSTEERED, case_of
from tillerman.studies.turns.scopes import frozen, live

OPTIONS = TurnsOptions(limit=12, turns=6, off_after=3)
QUICK = TurnsOptions(limit=8, turns=3, off_after=1, text_tokens=2)
Value = Callable[[int], float]


def made(
    behaviour: Value = lambda turn: 0.8,
    nats: Value = lambda turn: 2.0,
    repeated: Value = lambda turn: 0.1,
    off: Value = lambda turn: 0.2,
) -> list[Trial]:
    """Of the live history at each turn; all else stays as it is. Conversations differ a little."""
    trials, ids = [], tuple(f"conversation {k}" for k in range(1, 13))
    for turn in range(1, 7):
        for name in (UNSTEERED, LIVE, FROZEN, FRESH, *([OFF] if turn > 3 else [])):
            shown = {UNSTEERED: lambda t: 0.2, LIVE: behaviour, OFF: off}.get(name, lambda t: 0.8)(turn)
            costs = (nats(turn), repeated(turn)) if name == LIVE else (2.0, 0.1)
            for case, value in ((BEHAVIOUR, shown), (NATS, costs[0]), (REPEATED, costs[1])):
                values = tuple(value + 0.001 * ((k * 7 + turn * 3) % 5) for k in range(12))
                trials.append(Trial(case_of(case, turn), name, ids, values, at=float(turn), scorer=WRITTEN))
    return trials


@pytest.mark.parametrize(
    ("trials", "outcome", "says"),
    [
        (made(), "good", "nothing of it is found at the next"),
        (made(off=lambda turn: 0.7), "good", "it remains to the last turn"),
        (made(off=lambda turn: 0.7 if turn < 6 else 0.2), "good", "it remains for 2 turns"),
        (made(behaviour=lambda turn: 0.9 - 0.05 * turn), "mixed", "So the behaviour fades."),
        (made(nats=lambda turn: 2 + 0.3 * turn), "mixed", "replies become less likely"),
        (made(behaviour=lambda turn: 0.8 - 0.1 * turn), "bad", "no longer told from unsteered"),
        (made(nats=lambda turn: 2 + turn, repeated=lambda turn: 0.1 * turn), "bad", "replies repeat themselves more"),
        (made(behaviour=lambda turn: 0.2), "unclear", "no effect that could drift"),
    ],
)
def test_the_verdict_follows_from_drift(trials: list[Trial], outcome: str, says: str) -> None:
    verdict = judge(trials, OPTIONS).verdict
    assert (verdict.outcome, says in verdict.words) == (outcome, True), verdict.words


def test_what_a_longer_history_does_by_itself_is_no_drift() -> None:
    """Unsteered history falls as fast."""
    trials = [
        replace(one, values=tuple(value - 0.05 * (one.at or 0) for value in one.values))
        if one.case.startswith(BEHAVIOUR) and one.condition in (LIVE, FRESH)
        else one
        for one in made()
    ]
    assert judge(trials, OPTIONS).verdict.outcome == "good"


def test_a_reply_that_could_not_be_measured_leaves_its_conversation_in_the_rest() -> None:
    trials = [
        replace(one, items=one.items[1:], values=one.values[1:])
        if (one.case, one.condition) == (case_of(BEHAVIOUR, 2), LIVE)
        else one
        for one in made()
    ]
    assert judge(trials, OPTIONS).verdict.outcome == "good"


def test_replies_too_short_to_repeat_themselves_have_no_such_drift() -> None:
    judged = judge([one for one in made() if not one.case.startswith(REPEATED)], OPTIONS)
    assert judged.verdict.outcome == "good" and REPEATED not in judged.verdict.words
    assert not any(REPEATED in column for table in judged.tables for column in table.head)


def _talk(pilot: tillerman.OpenModel) -> list[int]:
    said = [("user", "Do you like it?"), ("assistant", "Yes."), ("user", "Why so?")]
    text = apply_template(pilot.tokenizer, [{"role": role, "content": words} for role, words in said])
    return list(pilot.tokenizer(text, add_special_tokens=False)["input_ids"])


def test_frozen_steers_the_present_turn_alone_and_live_what_was_steered_when_it_was_written(
    pilot: tillerman.OpenModel, artefact: tillerman.Artefact
) -> None:
    tokens = _talk(pilot)
    marks = assistant_turns(pilot.tokenizer)
    (first, closed), (second, _) = turn_spans(marks.marker, marks.closing, tokens)
    assert closed is not None

    def steered(name: str, of: Callable[[tillerman.Plan], tillerman.Plan]) -> list[int]:
        (item,) = artefact.plan()
        scope = after_instruction(pilot.tokenizer) if name == "after_instruction" else Scope(name)
        (moved,) = of((replace(item, scope=scope),))
        return torch.nonzero(meant_in(moved.scope, padded([tokens], pad=0))[0]).flatten().tolist()

    def now(plan: tillerman.Plan) -> tillerman.Plan:
        return frozen(plan, pilot.tokenizer, 2)

    def again(plan: tillerman.Plan) -> tillerman.Plan:
        return live(plan, pilot.tokenizer)

    assert steered("after_instruction", now) == list(range(second, len(tokens)))
    assert steered("after_instruction", again) == [*range(first, closed), *range(second, len(tokens))]
    assert steered("all", again) == list(range(len(tokens)))
    assert steered("all", now) == list(range(closed, len(tokens)))  # the mark begins where the answer before it ends
    with pytest.raises(UsageError, match="of earlier turns it has no meaning"):
        steered("last", now)


def test_the_mark_of_the_last_question_is_the_templates_own(pilot: tillerman.OpenModel) -> None:
    marker, tokens = last_turn(pilot.tokenizer).marker, _talk(pilot)
    places = [at for at in range(len(tokens)) if tuple(tokens[at : at + len(marker)]) == marker]
    assert len(marker) > 0 and len(places) == 1


@pytest.fixture(scope="module")
def log(subject: Subject) -> StudyLog:
    return run("turns", subject, QUICK)


def test_every_condition_is_asked_at_every_turn(log: StudyLog) -> None:
    for turn in range(1, 4):
        asked = {one.condition for one in log.trials if one.case == case_of(BEHAVIOUR, turn)}
        assert {UNSTEERED, LIVE, FROZEN, FRESH} <= asked and (OFF in asked) == (turn > 1)
    first = {one.condition: one.values for one in log.trials if one.case == case_of(BEHAVIOUR, 1)}
    assert first[LIVE] == first[FROZEN] == first[FRESH]  # without a history they are the same
    assert judge_again(StudyLog.from_json(json.loads(json.dumps(log.to_json())))).verdict == log.verdict


@pytest.mark.slow
def test_a_stopped_study_writes_no_turn_twice(
    log: StudyLog, subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = study_key("turns", QUICK, subject)
    first = Store(tmp_path / "kept", key)
    assert run("turns", subject, QUICK, store=first).trials == log.trials
    first.close(finished=False)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a finished piece was made again")

    monkeypatch.setattr("tillerman.evaluation.replies.continuation_tokens", never)
    monkeypatch.setattr("tillerman.studies.turns.measure.answer_logprobs", never)
    assert run("turns", subject, QUICK, store=Store(tmp_path / "kept", key)).trials == log.trials


def test_conversations_beyond_the_context_and_too_few_prompts_are_refused(subject: Subject) -> None:
    with pytest.raises(UsageError, match="leaves no room for a reply of 480"):
        run("turns", subject, replace(QUICK, text_tokens=480))
    with pytest.raises(UsageError, match="`turns` 90: the artefact's data have 60 test prompts"):
        run("turns", subject, replace(QUICK, turns=90))


@pytest.mark.parametrize("given", [{"limit": 4}, {"turns": 2}, {"off_after": 10}, {"text_tokens": 0}])
def test_options_that_cannot_be_are_refused(given: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        TurnsOptions(**given)
