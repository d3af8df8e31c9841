"""From a description to rows: who is asked what, what is kept, and what is said where nothing can be told apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tillerman.core.errors import DataError, UsageError
from tillerman.core.store import Store
from tillerman.data.loading import load_examples
from tillerman.data.making.filters import NEAR, UNTOLD, Limits, WrittenPair
from tillerman.data.making.prompts import PromptPair
from tillerman.data.writing import make_writer
from tillerman.evaluation.scorers.registry import text_scorer
from tillerman.logs.making import Dropped, MakingLog
from tillerman.pipeline.making.authors import ModelAuthor, WritingRequest
from tillerman.pipeline.making.from_folder import make_of_texts
from tillerman.pipeline.making.make import make, new_questions
from tillerman.pipeline.making.settings import Making
from tillerman.pipeline.making.telling import tell_by, tell_by_labels
from tillerman.reports.making import account

from .. import tiny
from .scripted import Scripted, said

PIRATE = PromptPair("You are a pirate and say arr all day.", "You answer plainly.")
SMALL = Making("speaks like a pirate", items=40, write_prompts=3, write_questions=10)


def test_a_description_becomes_rows_that_fit_reads() -> None:
    author = Scripted()
    made = make(SMALL, author, author)
    data = load_examples(made.rows)
    assert data.layout == "preference" and len(data.examples) == made.log.kept == 40 and not made.log.refused
    assert all("Ye can" in row["chosen"] and "You can" in row["rejected"] for row in made.rows)
    assert data.described[0] == "You show this behaviour: speaks like a pirate."
    assert made.log.questions == {"written": 10, "ready": 30}
    assert made.log.separation.area > 0.95 and made.log.writer == made.log.answered_by == "scripted"
    assert [one.kept > 0 for one in made.log.prompts] == [True] * 5  # two of the description, three written


def test_what_was_written_is_kept_or_counted_and_the_log_comes_back_whole() -> None:
    made = make(
        replace(SMALL, margin=0.0, questions=("Is it so?", "Who are you?", "What now?")), Scripted(), Scripted()
    )
    log = made.log
    assert log.kept + sum(one.count for one in log.dropped) == log.written or log.kept == log.asked_for
    assert sum(one.written for one in log.prompts) == log.written and log.questions == {"given": 3}
    assert MakingLog.from_json(log.to_json()) == log
    told = account(log)
    assert "40 of" in told.heading and told.tables[0].rows[0][:2] == ("kept", str(log.kept))
    assert "told the two sides apart with AUC" in told.sentences[0]


def test_of_nothing_written_no_share_is_told() -> None:
    log = MakingLog("", "texts", "", "", 0, 0, 10, dropped=(Dropped("too short", 1, "q", "a", "b"),))
    rows = account(log).tables[0].rows
    assert [row[2] for row in rows] == ["", ""]


def test_prompts_stand_where_they_are_asked_to() -> None:
    for place in ("system", "user", "both"):
        author = Scripted()
        make(
            replace(SMALL, description="", pairs=(PIRATE,), items=2, prompt_in=place, write_questions=0), author, author
        )
        one = author.asked[0]
        assert (one.system == PIRATE.positive) == (place != "user")
        assert one.user.startswith(PIRATE.positive) == (place != "system") and one.user.endswith("?")
        assert PIRATE.negative in (author.asked[1].system or author.asked[1].user)


def test_two_prompts_ask_the_writer_for_no_others_and_give_the_fit_its_prompt() -> None:
    author = Scripted()
    made = make(Making(pairs=(PIRATE,), items=30, write_questions=0), author, author)
    assert not any("system prompts" in one.user for one in author.asked) and made.log.writer == ""
    assert load_examples(made.rows).described[0] == PIRATE.positive
    assert {"behaviour"}.isdisjoint(made.rows[0])


def test_a_writer_asks_and_the_model_answers() -> None:
    writer, model = Scripted(name="writer"), Scripted(name="model")
    made = make(replace(SMALL, items=20), writer, model)
    assert all("different" in one.user for one in writer.asked)
    assert not any("different" in one.user for one in model.asked)
    assert (made.log.writer, made.log.answered_by) == ("writer", "model")


def test_sides_that_cannot_be_told_apart_are_refused_after_the_first_round() -> None:
    author = Scripted(heeds=False)
    made = make(SMALL, author, author)
    assert made.rows == () and "cannot be told apart" in made.log.refused and made.log.kept == 0
    assert made.log.written == 50 and account(made.log).conclusion == made.log.refused
    silent = Scripted()
    silent.reply = lambda one: "Arr."
    made = make(SMALL, silent, silent)
    assert made.log.refused.startswith("no pair is left of") and made.log.dropped[0].fault == "too short"


def test_more_is_written_where_much_is_dropped_but_not_without_end() -> None:
    author = Scripted()
    author.reply = lambda one: said(f"{one.system}\n{one.user}", 0)  # the same again for the same question and prompt
    made = make(Making(pairs=(PIRATE,), items=30, questions=tuple(f"What is {k}?" for k in range(20))), author, author)
    assert made.log.kept == 20 and made.log.written <= 90 and "20 of 30 items" in made.log.notes[0]
    assert {one.fault for one in made.log.dropped} <= {NEAR, UNTOLD}


def test_an_objective_takes_the_best_and_the_worst_of_several_answers() -> None:
    author = Scripted()
    author.reply = lambda one: said("as a pirate" if one.repeat % 3 == 0 else "plainly", one.repeat + len(one.user))
    wanted = text_scorer("any:arr+savvy+ahoy+aye+yo")
    made = make(Making(objective=wanted, best_of=4, items=20, write_questions=0), author, author)
    assert len(author.asked) == 4 * made.log.written and all(one.system is None for one in author.asked)
    assert all(wanted.score([""], [row["chosen"]]) == [1.0] for row in made.rows)
    assert all(wanted.score([""], [row["rejected"]]) == [0.0] for row in made.rows)
    assert (made.log.source, made.log.separation.scorer) == ("objective", wanted.name) and made.log.prompts == ()


def test_an_objective_ranks_what_is_said_under_both_prompts() -> None:
    author = Scripted()
    worst = Making("speaks like a pirate", pairs=(PIRATE,), objective=text_scorer("length"), items=4, write_questions=0)
    made = make(worst, author, author)
    first = author.asked[:4]
    assert [one.system == PIRATE.positive for one in first] == [True, True, False, False]
    assert all(len(row["chosen"].split()) > len(row["rejected"].split()) for row in made.rows)


def test_a_scorer_of_ones_own_drops_what_it_does_not_tell_apart() -> None:
    pairs = [WrittenPair("Who?", "arr arr arr", "well well well"), WrittenPair("Who?", "well well well", "arr so so")]
    told = tell_by(text_scorer("keywords:arr"), pairs)
    assert told.told == (True, False) and told.area == pytest.approx(0.625)
    assert tell_by(text_scorer("keywords:arr"), pairs, margin=1.0).told == (False, False)
    assert tell_by_labels(pairs).told == (True, True)  # too few to learn from
    assert (
        not tell_by_labels(pairs).blind and not tell_by(text_scorer("keywords:arr"), pairs[1:]).blind
    )  # too few to say
    assert "AUC 0.00" in tell_by(text_scorer("keywords:arr"), pairs[1:] * 20).blind


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"description": ""}, "nothing says what is to be made"),
        ({"prompt_in": "middle"}, "expected one of system, user, both"),
        ({"items": 0}, "items 0"),
        ({"objective": text_scorer("length"), "temperature": 0.0}, "ranks different answers"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        replace(SMALL, **changes)


def test_written_questions_that_are_ready_ones_are_not_new() -> None:
    assert new_questions(["How do I make coffee?", "Who is there?", "who is there"], ["How do I make coffee?"]) == (
        "Who is there?",
    )


def test_a_model_writes_the_same_again_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    opened = tiny.opened("llama")
    writer = make_writer(opened.tokenizer)
    asked = [
        WritingRequest(f"the {word} sat", system, 6, 1.0, k) for k, word in enumerate("abc") for system in (None, "red")
    ]
    asked.append(WritingRequest("the cat", tokens=3))
    whole = ModelAuthor(opened, writer, Store(tmp_path / "a", "x"), 1).write(asked)
    assert ModelAuthor(opened, writer, Store(None, ""), 1).write(asked) == whole and len(whole) == len(asked)
    again = Store(tmp_path / "a", "x")
    assert again.resumed == 2 and ModelAuthor(opened, writer, again, 1).write(asked) == whole
    assert ModelAuthor(opened, writer, Store(None, ""), 2).write(asked) != whole
    context = opened.context
    assert context is not None
    with pytest.raises(DataError, match="leaves no room"):
        ModelAuthor(opened, writer, Store(None, "")).write([WritingRequest("the cat", tokens=context)])


def folder_of(root: Path, good: list[str], bad: list[str]) -> Path:
    for name, texts in (("good", good), ("bad", bad)):
        (root / f"{name}.txt").write_text("\n".join(texts), encoding="utf-8")
    return root


def test_a_folder_of_texts_becomes_labelled_rows(tmp_path: Path) -> None:
    good, bad = ([said(text, k) for k in range(40)] for text in ("as a pirate", "plainly"))
    made = make_of_texts(folder_of(tmp_path, [*good, bad[0]], [*bad, good[1], "no"]), Limits())
    dropped = {one.fault: one.count for one in made.log.dropped}
    assert dropped["too short"] == 1 and dropped["the same on both sides"] == 4
    assert made.log.separation.area > 0.95 and {row["label"] for row in made.rows} == {0, 1}
    assert load_examples(made.rows).layout == "labelled-text"
    alike = make_of_texts(folder_of(tmp_path, bad[:30], [said("plainly", k) for k in range(100, 130)]), Limits())
    assert "cannot be told apart" in alike.log.refused and alike.rows == ()


def test_texts_lie_on_their_side_of_the_middle_of_a_scorer(tmp_path: Path) -> None:
    here = folder_of(
        tmp_path, ["arr arr here", "arr arr there", "so it is now"], ["well it is", "so be it then", "arr no way"]
    )
    made = make_of_texts(here, Limits(), text_scorer("keywords:arr"), "pirate")
    assert [row["text"] for row in made.rows] == ["arr arr here", "arr arr there", "well it is", "so be it then"]
    assert made.rows[0]["behaviour"] == "pirate"
