"""Steering on top of something else: exemplars before every question, or a fine-tuned model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import tillerman
from tillerman.data.loading import LoadedData
from tillerman.models.finetuning import save_model
from tillerman.pipeline.run import Run, Unwatched
from tillerman.pipeline.set_up import set_up
from tillerman.reports.sentences import comparison

SMALL = tillerman.Experiment(
    max_kl=None,
    max_perplexity_ratio=None,
    method="caa",
    max_train=40,
    max_validation=20,
    max_test=20,
    layers=(3,),
    doses=(0.25,),
    null_draws=2,
    neutral="sample:tinystories",
    neutral_tokens=256,
    unrelated_items=4,
    shots=2,
    generations=(),
)
ON_SHOTS = replace(SMALL, base_shots=3)
ON_LORA = replace(SMALL, base_lora=True, max_train=24)


@pytest.fixture(scope="module")
def pilot() -> tillerman.OpenModel:
    return tillerman.open_model("pilot")


@pytest.fixture(scope="module")
def science() -> LoadedData:
    return tillerman.load_examples("sample:interest-in-science")


def bench_of(experiment: tillerman.Experiment, opened: tillerman.OpenModel, data: LoadedData) -> Run:
    return set_up(experiment, opened, data, tillerman.Store(None, ""), Unwatched())


@pytest.fixture(scope="module")
def bench(pilot: tillerman.OpenModel, science: LoadedData) -> Run:
    return bench_of(ON_SHOTS, pilot, science)


@pytest.fixture(scope="module")
def outcome(pilot: tillerman.OpenModel, science: LoadedData) -> tillerman.Outcome:
    return tillerman.fit(ON_SHOTS, pilot, science)


def test_exemplars_are_training_items_that_the_bare_model_answers_wrong(
    bench: Run, pilot: tillerman.OpenModel, science: LoadedData
) -> None:
    plain = bench_of(SMALL, pilot, science)
    wrong = [(item.prompt, item.answers[item.right]) for item in plain.wrong(99)]
    assert bench.writer.shots == tuple(wrong[:3])


def test_exemplars_are_in_no_share_of_the_run(bench: Run, pilot: tillerman.OpenModel, science: LoadedData) -> None:
    shown = {prompt for prompt, _ in bench.writer.shots}
    for exam in (bench.train, bench.validation, bench.test):
        assert not shown & {item.prompt for item in exam.items}
    plain = bench_of(SMALL, pilot, science)
    assert len(bench.train.items) == len(plain.train.items) - 3
    assert (bench.validation.items, bench.test.items) == (plain.validation.items, plain.test.items)


def test_questions_contrast_rows_and_predictions_all_stand_after_the_exemplars(bench: Run) -> None:
    before = bench.writer.prompt_text("QUESTION").partition("QUESTION")[0]
    assert all(prompt in before for prompt, _ in bench.writer.shots)
    start = bench.writer.encode(before.rpartition("<|")[0])
    for exam in (bench.train, bench.validation, bench.test):
        assert all(w.prompt[: len(start)] == start for w in exam.written)
    item = bench.train.items[0]
    assert bench.contrast_writer.write(item).prompt[: len(start)] == start
    assert bench.contrast_writer.write_statements(item).prompt[: len(start)] == start
    assert bench.predictions == bench.train.given().tolist()


@pytest.mark.slow
def test_the_unsteered_condition_is_the_model_after_exemplars(outcome: tillerman.Outcome, bench: Run) -> None:
    unsteered = outcome.log.condition("unsteered")
    assert unsteered.rate.value == bench.test.correct().mean()
    for name in ("unsteered", "steered", "prompt"):
        assert "asked after 3 exemplars" in outcome.log.condition(name).detail
    assert "instead of the others" in outcome.log.condition("icl").detail
    assert any("asked after 3 exemplars" in note for note in outcome.log.notes)


@pytest.mark.slow
def test_the_artefact_says_after_how_many_exemplars_it_was_made(outcome: tillerman.Outcome) -> None:
    made = outcome.artefact.steering.provenance
    assert made.options["base_shots"] == 3
    assert made.split["exemplars"] == 3 and made.split["train"] == 37


@pytest.mark.slow
def test_an_evaluation_on_the_same_data_shows_the_same_exemplars(
    outcome: tillerman.Outcome, pilot: tillerman.OpenModel, science: LoadedData
) -> None:
    log = tillerman.evaluate(outcome.artefact, ON_SHOTS, pilot, science)
    assert log.condition("unsteered") == outcome.log.condition("unsteered")
    assert log.condition("steered") == outcome.log.condition("steered")


@pytest.mark.slow
def test_an_evaluation_on_every_item_needs_no_training_share(
    outcome: tillerman.Outcome, pilot: tillerman.OpenModel, science: LoadedData
) -> None:
    every = replace(SMALL, shares=(0.0, 0.0, 1.0))
    log = tillerman.evaluate(outcome.artefact, every, pilot, science)
    assert (log.n_train, log.n_validation, log.n_test) == (0, 0, 20)
    with pytest.raises(tillerman.FitError, match=r"`base_shots` 3: .*there is none"):
        tillerman.evaluate(outcome.artefact, replace(every, base_shots=3), pilot, science)


@pytest.mark.slow
def test_a_task_that_is_not_of_the_data_is_asked_without_exemplars(
    outcome: tillerman.Outcome, pilot: tillerman.OpenModel, science: LoadedData
) -> None:
    plain = tillerman.fit(SMALL, pilot, science).log
    assert outcome.log.side_effects.unrelated_unsteered == plain.side_effects.unrelated_unsteered


@pytest.mark.slow
def test_fewer_exemplars_than_asked_for_are_noted(pilot: tillerman.OpenModel, science: LoadedData) -> None:
    many = replace(SMALL, base_shots=11, max_train=12, max_test=5)
    bench = bench_of(many, pilot, science)
    count = len(bench.writer.shots)
    assert 0 < count < 11
    log = tillerman.fit(many, pilot, science).log
    assert any(note.startswith(f"{count} exemplars instead of 11") for note in log.notes)


def test_texts_have_no_question_to_stand_after_exemplars(pilot: tillerman.OpenModel) -> None:
    rows = [{"text": f"text number {i} of {'good' if i % 2 else 'bad'} mood", "label": i % 2} for i in range(60)]
    with pytest.raises(tillerman.UsageError, match=r"`base_shots`: .*labelled texts have no questions"):
        bench_of(ON_SHOTS, pilot, tillerman.load_examples(rows))


def test_a_negative_number_of_exemplars_is_refused() -> None:
    with pytest.raises(tillerman.UsageError, match="`base_shots` -1"):
        tillerman.Experiment(base_shots=-1)


@pytest.fixture(scope="module")
def on_lora(pilot: tillerman.OpenModel, science: LoadedData) -> tillerman.Outcome:
    return tillerman.fit(ON_LORA, pilot, science)


def flipped(data: LoadedData, wanted: set[str], there: bool) -> LoadedData:
    """The other answer to all items among ``wanted``, or to all that are not."""
    examples = [replace(e, answer=1 - e.answer) if (e.id in wanted) == there else e for e in data.examples]
    return replace(data, examples=tuple(examples))


@pytest.mark.slow
def test_fine_tuning_sees_the_answers_to_the_training_items_alone(
    pilot: tillerman.OpenModel, science: LoadedData
) -> None:
    bench = bench_of(ON_LORA, pilot, science)
    train = {item.example.id for item in bench.train.items}
    others = bench_of(ON_LORA, pilot, flipped(science, train, False))
    assert others.opened.fingerprint == bench.opened.fingerprint
    assert bench_of(ON_LORA, pilot, flipped(science, train, True)).opened.fingerprint != bench.opened.fingerprint


@pytest.mark.slow
def test_a_run_on_a_fine_tuned_model_belongs_to_that_model(
    on_lora: tillerman.Outcome, pilot: tillerman.OpenModel, science: LoadedData
) -> None:
    tuned, made = on_lora.tuned, on_lora.artefact.steering.provenance
    assert tuned is not None
    assert made.model_fingerprint == tuned.fingerprint != pilot.fingerprint
    assert (made.model_id, made.options["base_lora"]) == ("pilot + LoRA", True)
    assert pilot.fingerprint == tillerman.open_model("pilot").fingerprint
    assert any("fine-tuned on the 24 training items; the vector belongs to that model" in n for n in on_lora.log.notes)
    with pytest.raises(tillerman.MismatchError, match=r"pilot \+ LoRA"):
        pilot.check_provenance(made)
    plain = bench_of(SMALL, pilot, science)
    exam = replace(plain.test, opened=tuned)
    assert on_lora.log.condition("unsteered").rate.value == exam.correct().mean()
    assert "fine-tuned on the 24 training items" in on_lora.log.condition("unsteered").detail


@pytest.mark.slow
def test_the_written_model_gives_the_same_figures(
    on_lora: tillerman.Outcome, science: LoadedData, tmp_path: Path
) -> None:
    assert on_lora.tuned is not None
    save_model(on_lora.tuned, tmp_path / "tuned")
    again = tillerman.open_model(tmp_path / "tuned")
    log = tillerman.evaluate(on_lora.artefact, ON_LORA, again, science)  # not fine-tuned a second time
    for name in ("unsteered", "steered"):
        assert log.condition(name).rate == on_lora.log.condition(name).rate


@pytest.mark.slow
def test_the_fine_tuned_baseline_is_that_model_unsteered(
    on_lora: tillerman.Outcome, pilot: tillerman.OpenModel, science: LoadedData
) -> None:
    log = tillerman.fit(replace(SMALL, lora=True, max_train=24), pilot, science).log
    assert log.condition("lora").rate == on_lora.log.condition("unsteered").rate
    assert log.condition("lora").effect is not None
    assert "fine-tuning" in comparison(log)
    assert log.provenance["model_id"] == "pilot"


@pytest.mark.slow
def test_a_comparison_trains_its_fine_tuned_baseline_once(pilot: tillerman.OpenModel, science: LoadedData) -> None:
    small = replace(SMALL, lora=True, max_train=12, max_validation=8, max_test=8)
    stages: list[str] = []
    compared = tillerman.compare(tillerman.Lineup(("caa", "pas-full"), small), pilot, science, watch=Stages(stages))
    assert len(compared.methods) == 2
    assert [c.name for c in compared.baselines] == ["unsteered", "prompt", "icl", "lora"]
    assert stages.count("fine-tuning, train") == 1


class Stages(Unwatched):
    """Keeps the titles of what is done."""

    def __init__(self, titles: list[str]) -> None:
        self.titles = titles

    def stage(self, title: str, total: int):  # type: ignore[no-untyped-def]
        self.titles.append(title)
        return super().stage(title, total)


@pytest.mark.parametrize("other", [{"base_shots": 2}, {"lora": True}])
def test_two_bases_at_once_are_refused(other: dict[str, object]) -> None:
    with pytest.raises(tillerman.UsageError, match="choose one base"):
        replace(SMALL, base_lora=True, **other)  # type: ignore[arg-type]
