"""Scored or written: on a model of which it is known what it scores and what it writes."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tillerman
from tillerman.core.errors import FitError, UnknownNameError, UsageError
from tillerman.core.plan import Plan
from tillerman.core.store import Store
from tillerman.data.examples import Example
from tillerman.data.loading import LoadedData
from tillerman.data.thoughts import Reply
from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.evidence import WrittenReplies
from tillerman.models.finetuning import LoraOptions
from tillerman.pipeline.run import Unwatched
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.written import prompts_of, scorer_of_labels, shows, written_replies
from tillerman.reports.evaluation import account
from tillerman.reports.prompts import tried_rows
from tillerman.reports.summary import summary
from tillerman.reports.written import writes, written_words

from .. import planted, writers

# Dose 0.1 turns every comparison of two answers and no reply; at 1 the model writes pirate words.
SCORED = replace(planted.SMALL, layers=(0, 1), doses=(0.1, 1.0), written_tokens=8, prompt="Say arr.")
WRITTEN = replace(SCORED, objective="written", read="auto", together="no")


def _written(
    experiment: tillerman.Experiment,
    plan: Plan = (),
    *,
    data: LoadedData | None = None,
    store: Store | None = None,
) -> WrittenReplies | None:
    """What is measured without a fit."""
    asked = data or writers.preferences()
    return written_replies(set_up(experiment, writers.writer(), asked, store or Store(None, ""), Unwatched()), plan, ())


@pytest.fixture(scope="module")
def scored() -> EvaluationLog:
    return tillerman.fit(SCORED, writers.writer(), writers.preferences()).log


@pytest.fixture(scope="module")
def outcome() -> tillerman.Outcome:
    return tillerman.fit(WRITTEN, writers.writer(), writers.preferences())


def test_a_vector_may_score_better_and_write_nothing(scored: EvaluationLog) -> None:
    assert scored.dose == pytest.approx(0.1) and scored.effect.found
    written = scored.written
    assert written is not None and written.scorer.refused == ""
    steered = written.condition("steered")
    assert steered is not None and steered.change is not None
    assert steered.change.interval.low <= 0 <= steered.change.interval.high
    assert writes(scored) is False
    assert any("It scores better, but does not write so." in line for line in account(scored).sentences)


def test_the_search_for_written_replies_finds_the_cell_that_writes(
    scored: EvaluationLog, outcome: tillerman.Outcome
) -> None:
    log = outcome.log
    assert (log.objective, scored.objective) == ("written", "scored")
    assert log.dose == pytest.approx(1.0)
    assert log.effect.found and writes(log)
    assert log.written is not None
    steered, plain = log.written.condition("steered"), log.written.condition("unsteered")
    assert steered is not None and plain is not None and steered.change is not None
    assert steered.change.value > 0.5
    assert set(" ".join(steered.replies).split()) == set(writers.PIRATE)
    assert set(" ".join(plain.replies).split()) == set(writers.EVERYDAY)
    assert any("It scores better and writes so" in line for line in account(log).sentences)


def test_the_log_of_such_a_search_says_what_each_cell_wrote_and_where_it_was_read(outcome: tillerman.Outcome) -> None:
    cells = outcome.log.cells
    assert len(cells) == 1 + 2 * 2 * 2 and {cell.read for cell in cells} == {"", "last"}
    assert all((cell.written or 0) > 0.5 for cell in cells if abs(cell.dose - 1) < 0.01)
    assert all((cell.written or 0) < 0.1 for cell in cells if cell.dose < 0.2)
    assert outcome.log.chosen is not None
    assert outcome.log.chosen.method == outcome.log.method == "caa"


@pytest.mark.slow
def test_a_reading_that_was_asked_for_is_the_only_one() -> None:
    log = tillerman.fit(replace(WRITTEN, read="mean", layers=(0,)), writers.writer(), writers.preferences()).log
    assert len(log.cells) == 3 and log.provenance["read_positions"] == "mean"
    assert writes(log)


def test_every_condition_answers_the_same_test_prompts(outcome: tillerman.Outcome) -> None:
    written = outcome.log.written
    assert written is not None
    assert [c.name for c in written.conditions] == ["unsteered", "steered", "prompt", "both", "null:random"]
    assert len(written.prompts) == outcome.log.n_test and written.tokens == 8
    for one in written.conditions:
        assert len(one.replies) == len(written.prompts)
        assert all(len(reply.split()) == 8 for reply in one.replies)
        assert one.perplexity is not None and one.perplexity >= 1
    plain, steered = written.conditions[0].perplexity, written.conditions[1].perplexity
    assert plain is not None and steered is not None and steered > 2 * plain  # it would not say that by itself


def test_what_the_fine_tuned_model_writes_stands_beside_what_the_steered_one_does(
    outcome: tillerman.Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = functools.partial(LoraOptions, epochs=12)  # three turn what this model scores, and no reply
    monkeypatch.setattr("tillerman.pipeline.run.LoraOptions", longer)
    log = tillerman.fit(replace(WRITTEN, layers=(0,), lora=True), writers.writer(), writers.preferences()).log
    assert log.written is not None
    tuned, plain = log.written.condition("lora"), log.written.condition("unsteered")
    assert tuned is not None and plain is not None and tuned.change is not None and tuned.lead is not None
    assert tuned.replies != plain.replies and len(tuned.replies) == len(log.written.prompts)
    assert tuned.change.value > 0.2  # it was taught to
    assert f"{tuned.score.value:.2f} fine-tuned" in written_words(log)  # type: ignore[union-attr]
    assert outcome.log.written is not None and outcome.log.written.condition("lora") is None


def test_the_perplexity_of_replies_is_that_of_the_unsteered_model_after_the_prompt(outcome: tillerman.Outcome) -> None:
    written, model = outcome.log.written, writers.writer()
    assert written is not None
    for one in written.conditions[:2]:
        nats, count = 0.0, 0
        for prompt, reply in zip(written.prompts, one.replies, strict=True):
            ids = torch.tensor([model.tokenizer(f"{prompt} {reply}")["input_ids"]])
            start = len(prompt.split())
            with torch.no_grad():
                logprobs = model.model(input_ids=ids).logits.log_softmax(-1)[0, start - 1 : -1]
            nats -= float(logprobs.gather(1, ids[0, start:, None]).sum())
            count += ids.shape[1] - start
        assert one.perplexity == pytest.approx(math.exp(nats / count), rel=1e-4)


def test_replies_show_the_behaviour_or_not_and_steering_is_held_against_the_prompt(outcome: tillerman.Outcome) -> None:
    written = outcome.log.written
    assert written is not None
    shares = {one.name: one.shown.value for one in written.conditions if one.shown is not None}
    assert shares["unsteered"] == 0 and shares["steered"] > 0.5 and len(shares) == len(written.conditions)
    steered, told = written.condition("steered"), written.condition("prompt")
    assert steered is not None and told is not None and steered.lead is None and told.lead is not None
    assert steered.score is not None and told.score is not None
    assert told.lead.value == pytest.approx(steered.score.value - told.score.value)


def test_a_loop_of_wanted_words_and_silence_show_nothing() -> None:
    run = set_up(SCORED, writers.writer(), writers.preferences(), Store(None, ""), Unwatched())
    scorer, _ = scorer_of_labels(run, run.test)
    assert scorer is not None
    said = [" ".join(writers.PIRATE), " ".join(writers.PIRATE[:1] * 12), "", " ".join(writers.EVERYDAY)]
    assert shows(scorer, [Reply((), (), text, True) for text in said]) == [True, False, False, False]


def test_few_shot_replies_stand_beside_where_exemplars_fit() -> None:
    made = _written(replace(SCORED, shots=2))
    assert made is not None and made.condition("icl") is not None


def test_without_a_plan_the_model_and_its_prompt_are_measured_alone() -> None:
    made = _written(SCORED)
    assert made is not None and [c.name for c in made.conditions] == ["unsteered", "prompt"]


@pytest.mark.slow
def test_the_budget_holds_for_what_is_written_too() -> None:
    log = tillerman.fit(replace(WRITTEN, max_kl=0.01, layers=(0,)), writers.writer(), writers.preferences()).log
    large = [cell for cell in log.cells if abs(cell.dose - 1) < 0.01]
    assert large and not any(cell.admissible for cell in large)
    assert abs(log.dose) < 0.2


@pytest.mark.parametrize(
    ("count", "unwanted", "says"),
    [(90, writers.PIRATE, "do not tell wanted from unwanted"), (14, writers.DULL, "too few items")],
)
def test_labels_that_give_no_scorer_are_named_and_cannot_be_searched_by(
    count: int, unwanted: list[str], says: str
) -> None:
    data = writers.preferences(count, writers.PIRATE, unwanted)
    shares = (0.4, 0.3, 0.3)
    made = _written(replace(SCORED, shares=shares), data=data)
    assert made is not None and says in made.scorer.refused and made.conditions == ()
    with pytest.raises(FitError, match=says):
        tillerman.fit(replace(WRITTEN, shares=shares), writers.writer(), data)


def test_yes_and_no_have_no_wanted_texts() -> None:
    model, data = planted.speaker(), planted.labelled(1, 60, 0.5)
    assert written_replies(set_up(SCORED, model, data, Store(None, ""), Unwatched()), (), ()) is None
    with pytest.raises(FitError, match="yes_no items have no wanted and unwanted texts"):
        tillerman.fit(WRITTEN, model, data)


def test_nothing_is_written_where_nothing_is_asked_for() -> None:
    assert _written(replace(SCORED, written_prompts=0)) is None


def test_json_says_what_was_written(outcome: tillerman.Outcome) -> None:
    said = summary(outcome.log)
    assert said["objective"] == "written"
    assert said["written"]["writes_so"] is True
    steered = said["written"]["conditions"]["steered"]
    assert steered["interval"][0] > 0 and steered["n"] == outcome.log.n_test
    again = EvaluationLog.from_json(outcome.log.to_json())
    assert again.written == outcome.log.written and again.objective == "written"


@pytest.mark.slow
def test_an_evaluation_of_the_artefact_writes_the_same_replies(outcome: tillerman.Outcome) -> None:
    log = tillerman.evaluate(outcome.artefact, SCORED, writers.writer(), writers.preferences())
    assert log.written is not None and outcome.log.written is not None
    assert log.written.condition("steered") == outcome.log.written.condition("steered")


def test_a_resumed_run_writes_nothing_anew(tmp_path: Path, outcome: tillerman.Outcome) -> None:
    def once() -> tuple[WrittenReplies | None, list[str]]:
        store = Store(tmp_path / "run", "a run")
        made = _written(SCORED, outcome.artefact.plan(), store=store)
        store.close(finished=False)
        return made, (tmp_path / "run" / "values.jsonl").read_text(encoding="utf-8").splitlines()

    (first, pieces), (second, after) = once(), once()
    assert first == second and pieces == after
    assert len(pieces) > 8


def _choices() -> LoadedData:
    rows = [replace(example, kind="choice") for example in writers.preferences().examples]
    return LoadedData(tuple(rows), "pirate", "made", "choices", (), ("Say arr.",))


def _texts() -> LoadedData:
    rows = [Example("text", "", example.options, example.answer) for example in writers.preferences().examples]
    return LoadedData(tuple(rows), "pirate", "made", "texts", (), ("Say arr.",))


def test_choices_are_asked_without_their_options_and_texts_by_their_first_words() -> None:
    run = set_up(SCORED, writers.writer(), _choices(), Store(None, ""), Unwatched())
    asked = prompts_of(run, run.test)
    assert [item.prompt for item in asked.items] == [item.example.question for item in run.test.items]
    run = set_up(SCORED, writers.writer(), _texts(), Store(None, ""), Unwatched())
    asked = prompts_of(run, run.test)
    for place, (item, written) in enumerate(zip(asked.items, asked.written, strict=True)):
        side = item.example.options[item.example.answer if place % 2 else 1 - item.example.answer]
        assert side.startswith(item.prompt) and len(item.prompt.split()) == 2
        assert len(written.prompt) == 3  # after the first token of every text


@pytest.mark.parametrize("data", [_choices(), _texts()], ids=["choices", "texts"])
def test_what_is_written_is_measured_on_choices_and_texts_too(data: LoadedData, outcome: tillerman.Outcome) -> None:
    made = _written(SCORED, outcome.artefact.plan(), data=data)
    assert made is not None and made.scorer.refused == ""
    steered = made.condition("steered")
    assert steered is not None and steered.change is not None
    assert steered.change.found
    assert (made.condition("prompt") is None) == (data.examples[0].kind == "text")


def test_at_most_so_many_prompts_are_asked_and_only_those_that_leave_room() -> None:
    run = set_up(
        replace(SCORED, written_prompts=3), writers.writer(), writers.preferences(), Store(None, ""), Unwatched()
    )
    assert len(prompts_of(run, run.test).items) == 3
    full = replace(SCORED, written_tokens=1020)  # of a context of 1,024 tokens
    run = set_up(full, writers.writer(), writers.preferences(), Store(None, ""), Unwatched())
    assert prompts_of(run, run.test).items == ()


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        ({"objective": "writen"}, UnknownNameError, "written"),
        ({"objective": "written", "written_prompts": 0}, UsageError, "written_prompts"),
        ({"objective": "written", "nested": 3}, UsageError, "nested"),
        ({"written_tokens": 0}, UsageError, "written_tokens"),
    ],
)
def test_what_cannot_be_asked_for_is_named(changed: dict[str, object], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        replace(SCORED, **changed)


@pytest.mark.slow
def test_prompts_are_judged_by_replies_where_cells_are() -> None:
    """This model writes the same whatever it is told: no prompt does better than none, though one may score better."""
    log = tillerman.fit(replace(WRITTEN, prompt=None), writers.writer(), writers.preferences()).log
    none, *told = log.prompts
    unsteered = next(cell for cell in log.cells if not cell.strength)
    assert none.text == "" and none.score == pytest.approx(unsteered.written, abs=0.01)
    assert told and {round(one.score or 0, 3) for one in told} == {round(none.score or 0, 3)}
    assert all("validation replies score" in words for _, words in tried_rows(log))
