"""The search for the prompt baseline on the pilot, which follows some instructions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tillerman
from tillerman.core.errors import FitError
from tillerman.core.rows import Progress, silent
from tillerman.core.store import Store
from tillerman.data.examples import Example
from tillerman.data.loading import LoadedData
from tillerman.data.presenting import Item
from tillerman.data.writing import Writer
from tillerman.evaluation.exam import Exam
from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.evidence import PromptTrial
from tillerman.pipeline.flow import evaluate
from tillerman.pipeline.prompt_search import CANDIDATES, DESCRIBED, GIVEN, ITEMS, NONE, OF_DATA, OF_MODEL
from tillerman.pipeline.run import Run, Unwatched
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.vectors import fit_methods
from tillerman.reports.prompts import absent_row, prompt_words

RIGHT, OPPOSITE = "You are someone who is interested in science.", "You are someone who is not interested in science."
SMALL = tillerman.Experiment(
    method="caa",
    max_train=60,
    max_validation=30,
    max_test=40,
    layers=(3,),
    doses=(0.2,),
    null_draws=2,
    shots=0,
    neutral_tokens=256,
    unrelated_items=2,
    generations=(),
)


class Told:
    """Keeps the titles of what was done."""

    def __init__(self) -> None:
        self.titles: list[str] = []

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Progress]:
        del total
        self.titles.append(title)
        yield silent


@pytest.fixture(scope="module")
def pilot() -> tillerman.OpenModel:
    return tillerman.open_model("pilot")


@pytest.fixture(scope="module")
def science() -> LoadedData:
    return tillerman.load_examples("sample:interest-in-science")


def run_of(opened: tillerman.OpenModel, data: LoadedData, store: Store | None = None, **given: Any) -> Run:
    return set_up(replace(SMALL, **given), opened, data, store or Store(None, ""), Unwatched())


@pytest.fixture(scope="module")
def run(pilot: tillerman.OpenModel, science: LoadedData) -> Run:
    return run_of(pilot, science)


@pytest.fixture(scope="module")
def outcome(pilot: tillerman.OpenModel, science: LoadedData) -> tillerman.Outcome:
    return tillerman.fit(SMALL, pilot, science)


def turned_over(exam: Exam, run: Run) -> Exam:
    """The same questions with the other answer wanted."""
    items = [replace(item, right=1 - item.right) for item in exam.items]
    return Exam.of(exam.opened, items, run.writer, exam.limit)


@pytest.mark.slow
def test_the_one_right_prompt_of_several_is_found(pilot: tillerman.OpenModel, science: LoadedData) -> None:
    planted = replace(science, described=(OPPOSITE, "Say something sad.", RIGHT, "You judge people fairly."))
    found = run_of(pilot, planted).prompts
    scores = {one.text: one.score for one in found.tried}
    known = [score for score in scores.values() if score is not None]
    assert found.tried[0].score == max(known) and scores[OPPOSITE] == min(known)
    assert scores[RIGHT] == pytest.approx(max(known), abs=0.05)


@pytest.mark.slow
def test_the_search_does_better_than_the_name_of_the_file(pilot: tillerman.OpenModel) -> None:
    """ "Low discount rate" says nothing to the pilot, which answers the wrong way under it."""
    data = tillerman.load_examples("sample:low-discount-rate")
    run = run_of(pilot, data, max_train=300, max_validation=64)
    (named,) = data.described
    writers = [run.writer.with_system(text) for text in (run.told, named)]
    found, by_name = (Exam.of(pilot, run.test.items, writer).correct().mean() for writer in writers)
    assert by_name < 0.4 and found > by_name + 0.3


@pytest.mark.slow
def test_test_items_play_no_part(run: Run) -> None:
    """Neither what they ask nor what is right: other test items, the same prompts."""
    other = turned_over(replace(run.test, items=run.test.items[::-1][:20]), run)
    assert replace(run, test=other, store=Store(None, "")).prompts.tried == run.prompts.tried


@pytest.mark.slow
def test_validation_items_choose_and_nothing_is_made_of_them(run: Run) -> None:
    other = replace(run, validation=turned_over(run.validation, run), store=Store(None, ""))
    assert {one.text for one in other.prompts.tried} == {one.text for one in run.prompts.tried}
    assert other.told != run.told
    unseen: tuple[Item, ...] = (*run.validation.items, *run.test.items)
    statements = [item.example.question.split('"')[1].rstrip(".") for item in unseen if '"' in item.example.question]
    assert len(statements) > 50
    quoted = "\n".join(one.text for one in run.prompts.tried if one.source != OF_MODEL)
    assert not [text for text in statements if text in quoted]


def test_candidates_are_few_and_say_where_they_come_from(run: Run) -> None:
    sources = [one.source for one in run.prompts.tried]
    assert sources.count(NONE) == 1 and {OF_DATA, OF_MODEL} <= set(sources)
    assert len(sources) <= CANDIDATES + 1
    assert run.prompts.seconds is not None and run.prompts.seconds > 0
    assert len(run.validation.items) <= ITEMS


@pytest.mark.slow
def test_the_same_seed_gives_the_same_prompts_and_an_interrupted_search_goes_on_from_its_store(
    pilot: tillerman.OpenModel, science: LoadedData, run: Run, tmp_path: Path
) -> None:
    first = Store(tmp_path / "kept", "one")
    made = run_of(pilot, science, first).prompts
    first.close(finished=False)
    again, told = Store(tmp_path / "kept", "one"), Told()
    resumed = replace(run_of(pilot, science, again), watch=told)
    assert resumed.prompts == made and resumed.prompts.tried == run.prompts.tried
    assert told.titles == []  # nothing was asked anew


def test_a_prompt_that_is_given_is_taken_without_a_search(pilot: tillerman.OpenModel, science: LoadedData) -> None:
    told = Told()
    given = replace(run_of(pilot, science, prompt="Be kind."), watch=told)
    assert given.prompts.tried == (PromptTrial("Be kind.", GIVEN),) and given.told == "Be kind."
    assert told.titles == [] and given.prompts.seconds is None


@pytest.mark.slow
def test_what_the_user_says_of_the_behaviour_is_a_candidate(pilot: tillerman.OpenModel, science: LoadedData) -> None:
    tried = run_of(pilot, science, behaviour=RIGHT).prompts.tried
    (said,) = [one for one in tried if one.text == RIGHT]
    assert said.source == DESCRIBED and said.score is not None and said.score > 0.9


def test_without_items_to_choose_on_there_is_what_the_user_says_or_nothing(
    pilot: tillerman.OpenModel, science: LoadedData
) -> None:
    def told(**given: Any) -> str:
        asked = replace(SMALL, shares=(0.0, 0.0, 1.0), **given)
        return set_up(asked, pilot, science, Store(None, ""), Unwatched(), needed=("test",)).told

    assert told() == ""
    assert told(behaviour="interest in science") == "You show this behaviour: interest in science."


def test_a_fit_shows_the_prompt_taken_and_all_that_were_tried(outcome: tillerman.Outcome) -> None:
    log = outcome.log
    assert log.condition("prompt").detail == log.prompts[0].text != ""
    assert log.condition("prompt").rate.value > 0.9
    assert EvaluationLog.from_json(log.to_json()).prompts == log.prompts
    assert log.seconds_for_prompt is not None


@pytest.mark.slow
def test_an_evaluation_takes_the_prompt_that_the_fit_found(
    outcome: tillerman.Outcome, pilot: tillerman.OpenModel, science: LoadedData
) -> None:
    everything = replace(SMALL, shares=(0.0, 0.0, 1.0))  # no validation items of its own
    log = evaluate(outcome.artefact, everything, pilot, science)
    assert log.prompts == outcome.log.prompts
    assert log.condition("prompt").detail == outcome.log.prompts[0].text
    own = evaluate(outcome.artefact, replace(SMALL, prompt="Be kind."), pilot, science)
    assert own.condition("prompt").detail == "Be kind."


@pytest.mark.slow
def test_where_no_prompt_helps_there_is_no_row_and_no_vector_of_one(
    pilot: tillerman.OpenModel, science: LoadedData
) -> None:
    """All is right already: nothing can do better, and no sentence compares."""
    run = run_of(pilot, science)
    said = Exam.given(run.validation)
    items = [replace(item, right=int(k)) for item, k in zip(run.validation.items, said, strict=True)]
    sure = replace(run, validation=Exam.of(pilot, items, run.writer), store=Store(None, ""))
    assert sure.prompts.tried[0] == PromptTrial("", NONE, 1.0)
    assert sure.told == "" and sure.told_writer is None


@pytest.fixture(scope="module")
def moods() -> LoadedData:
    texts = [Example("text", "", (f"What joy, day {k}!", f"How sad, day {k}."), 0) for k in range(40)]
    return LoadedData(tuple(texts), "moods", "made", "moods", (), ("Say something joyful.",))


@pytest.mark.slow
def test_labelled_texts_have_no_prompt_baseline_and_the_row_says_so(
    pilot: tillerman.OpenModel, moods: LoadedData
) -> None:
    log = tillerman.fit(replace(SMALL, null_draws=2), pilot, moods).log
    assert log.prompts == () and not {"prompt", "both"} & {c.name for c in log.conditions}
    assert absent_row(log) == "Prompt baseline: none, since no prompt precedes a text"
    assert "--prompt" not in prompt_words(log)


@pytest.mark.parametrize("method", ["prompt-vector", "prompt-contrast", "actadd"])
def test_methods_of_prompts_ask_for_one_where_none_is_there(
    pilot: tillerman.OpenModel, science: LoadedData, method: str
) -> None:
    silent_data = replace(SMALL, method=method, shares=(0.5, 0.0, 0.5))
    run = set_up(silent_data, pilot, science, Store(None, ""), Unwatched(), needed=("train", "test"))
    with pytest.raises(FitError, match="--prompt TEXT"):
        fit_methods(run)


def test_where_replies_are_searched_by_the_prompt_that_writes_is_taken_not_the_one_that_scores(
    run: Run, pilot: tillerman.OpenModel
) -> None:
    """The judge reads replies; scored answers, of which another prompt turns more, have no say."""
    scored = run.prompts
    last = next(one.text for one in reversed(scored.tried) if one.text)
    asked: list[str | None] = []

    def judge(writer: Writer | None, count: int) -> list[float] | None:
        asked.append(None if writer is None else writer.system)
        if asked[-1] == scored.taken:
            return None  # leaves no room for a reply
        return [0.9 if asked[-1] == last else 0.2] * count

    found = replace(run, by_replies=lambda _: judge, store=Store(None, "")).prompts
    assert (found.taken, found.tried[0].score) == (last, pytest.approx(0.9)) and found.taken != scored.taken
    assert asked[0] is None and scored.taken not in {one.text for one in found.tried}
    assert found.tried[-1].source == NONE and found.tried[-1].score == pytest.approx(0.2)
