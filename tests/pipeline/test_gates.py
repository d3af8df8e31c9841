"""A run with a gate: fitted on labelled prompts, judged on others, kept in the artefact."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import tillerman
from tillerman.core.hookpoint import HookPoint
from tillerman.data.loading import LoadedData
from tillerman.data.splits import split_of
from tillerman.methods.gates import GateOptions
from tillerman.pipeline.gates import gate_data, opens
from tillerman.pipeline.run import Run, Unwatched
from tillerman.pipeline.set_up import set_up
from tillerman.reports.sentences import gate_words
from tillerman.steering.steer import steer

SMALL = tillerman.Experiment(
    max_kl=None,
    max_perplexity_ratio=None,
    method="caa",
    max_train=30,
    max_validation=16,
    max_test=20,
    layers=(3,),
    doses=(0.4,),
    zero=False,
    null_draws=2,
    neutral="sample:tinystories",
    neutral_tokens=256,
    unrelated_items=10,
    shots=0,
    generations=(),
)


@pytest.fixture(scope="module")
def pilot() -> tillerman.OpenModel:
    return tillerman.open_model("pilot")


@pytest.fixture(scope="module")
def science() -> LoadedData:
    return tillerman.load_examples("sample:interest-in-science")


def questions(name: str, count: int) -> list[str]:
    return [example.question for example in tillerman.load_examples(f"sample:{name}", limit=count).examples]


def written(folder: Path, name: str, rows: list[tuple[str, str]]) -> str:
    path = folder / f"{name}.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return str(path)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Personas' questions are to be steered, questions of knowledge are not."""
    rows = [(text, "persona") for text in questions("agreeableness", 60)]
    rows += [(text, "knowledge") for text in questions("mmlu", 60)]
    return written(tmp_path_factory.mktemp("gate"), "kinds", rows)


@pytest.fixture(scope="module")
def gated(prompts: str) -> tillerman.Experiment:
    return replace(SMALL, gate=GateOptions(prompts, positive="persona"))


@pytest.fixture(scope="module")
def outcome(gated: tillerman.Experiment, pilot: tillerman.OpenModel, science: LoadedData) -> tillerman.Outcome:
    return tillerman.fit(gated, pilot, science)


def bench_of(experiment: tillerman.Experiment, opened: tillerman.OpenModel, data: LoadedData) -> Run:
    return set_up(experiment, opened, data, tillerman.Store(None, ""), Unwatched())


def test_the_gate_is_judged_on_prompts_that_did_not_choose_it(outcome: tillerman.Outcome) -> None:
    figures = outcome.log.gate
    assert figures is not None and figures.trial is not None
    trial = figures.trial
    assert trial.n_train > trial.n_test > 0
    assert trial.opened_wanted.n + trial.opened_others.n == trial.n_test
    assert trial.f1 > 0.9 and trial.opened_others.value < 0.1
    words = gate_words(outcome.log)
    assert f"F1 {trial.f1:.2f} on {trial.n_test} other prompts of kinds" in words
    assert str(outcome.artefact.gate) in words and "open for 100 % of the test items" in words


def test_the_figures_are_those_of_the_gate_on_the_test_share(
    outcome: tillerman.Outcome, gated: tillerman.Experiment, pilot: tillerman.OpenModel, science: LoadedData
) -> None:
    gate, figures = outcome.artefact.gate, outcome.log.gate
    assert isinstance(gate, tillerman.SimilarityGate) and figures is not None and figures.trial is not None
    assert (figures.threshold, figures.above, figures.hook_point) == (gate.threshold, gate.above, str(gate.point))
    assert gated.gate is not None
    data = gate_data(bench_of(gated, pilot, science), gated.gate)
    assert not set(data.train.rows) & set(data.test.rows)
    h = tillerman.capture(pilot, data.test.rows, (gate.point,), read="mean")[gate.point]
    right, wanted = gate.opens(h), data.test.wanted
    both = int((right & wanted).sum())
    assert figures.trial.f1 == 2 * both / (int(right.sum()) + int(wanted.sum()))


def test_the_gate_reads_no_later_than_what_is_steered(outcome: tillerman.Outcome) -> None:
    (item,) = outcome.artefact.plan()
    assert item.gate is not None
    assert item.gate.point.order <= item.steering.points[0].order


def test_the_gate_travels_with_the_file_and_decides_by_itself(
    outcome: tillerman.Outcome, pilot: tillerman.OpenModel, tmp_path: Path
) -> None:
    tillerman.save(tmp_path / "v.safetensors", outcome.artefact)
    loaded = tillerman.load(tmp_path / "v.safetensors")
    (item,), (fitted,) = loaded.plan(), outcome.artefact.plan()
    assert str(item.gate) == str(fitted.gate) is not None
    writer = bench_of(SMALL, pilot, tillerman.load_examples("sample:interest-in-science")).writer
    touched = []
    for text in (questions("agreeableness", 80)[-1], questions("mmlu", 80)[-1]):
        with torch.no_grad(), steer(pilot.model, (item,)) as steered:
            pilot.model(input_ids=torch.tensor([writer.encode(writer.prompt_text(text))]))
        touched.append(steered.receipt.applied[0].touched)
    assert touched == [True, False]


@pytest.mark.slow
def test_where_the_gate_is_shut_answers_are_unsteered_and_elsewhere_steered(
    outcome: tillerman.Outcome, pilot: tillerman.OpenModel
) -> None:
    """Personas and knowledge mixed, so that both happen."""
    artefact = outcome.artefact
    assert artefact.gate is not None
    knowledge = tillerman.load_examples("sample:mmlu", limit=30)
    persona = tillerman.load_examples("sample:interest-in-science", limit=30)
    mixed = replace(knowledge, examples=(*knowledge.examples, *persona.examples))
    strong = replace(artefact, cell=artefact.cell.scaled(8.0))
    every = replace(SMALL, shares=(0.0, 0.0, 1.0), max_test=None)
    log = tillerman.evaluate(strong, every, pilot, mixed)
    bench = set_up(every, pilot, mixed, tillerman.Store(None, ""), Unwatched(), needed=("test",))
    (item,) = strong.plan()
    open_ = opens(pilot, artefact.gate, bench.test)
    assert log.gate is not None and 0 < log.gate.opened.value == open_.mean() < 1
    plain, free = bench.test.correct(), bench.test.correct((replace(item, gate=None),))
    assert log.condition("ungated").rate.value == free.mean()
    assert log.condition("steered").rate.value == np.where(open_, free, plain).mean()
    assert log.condition("steered").rate.value == bench.test.correct((item,)).mean()  # as it decides live
    assert log.condition("steered").rate.value != log.condition("ungated").rate.value
    assert log.gate.trial == (outcome.log.gate.trial if outcome.log.gate else None)


@pytest.mark.slow
def test_what_should_not_change_is_measured_under_the_gate_and_neutral_text_without(
    outcome: tillerman.Outcome, pilot: tillerman.OpenModel, science: LoadedData
) -> None:
    side, free = outcome.log.side_effects, tillerman.fit(SMALL, pilot, science).log.side_effects
    assert side.unrelated_steered == side.unrelated_unsteered  # the gate is shut for questions of knowledge
    assert (side.kl, side.perplexity_ratio) == (free.kl, free.perplexity_ratio)


def test_yes_or_no_questions_are_labelled_prompts_too(
    pilot: tillerman.OpenModel, science: LoadedData, tmp_path: Path
) -> None:
    path = tmp_path / "ask.csv"
    rows = [(f"Tell me about number {i}", "yes" if i % 2 else "no") for i in range(60)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("question", "answer"), *rows])
    bench = bench_of(SMALL, pilot, science)
    data = gate_data(bench, GateOptions(str(path)))
    first = bench.writer.encode(bench.writer.prompt_text("Tell me about number 7"))
    labels = dict(
        zip(
            (row.tokens for one in (data.train, data.test) for row in one.rows),
            torch.cat([data.train.wanted, data.test.wanted]).tolist(),
            strict=True,
        )
    )
    assert labels[first] and len(labels) == 60 and sum(labels.values()) == 30


@pytest.mark.slow
def test_a_gate_may_be_told_where_to_read(prompts: str, pilot: tillerman.OpenModel, science: LoadedData) -> None:
    there = replace(SMALL, gate=GateOptions(prompts, "persona", "layers.2.resid_post"))
    gate = tillerman.fit(there, pilot, science).artefact.gate
    assert gate is not None and gate.point == HookPoint(2)


def test_a_gate_after_the_steered_point_is_refused_before_any_work(
    prompts: str, pilot: tillerman.OpenModel, science: LoadedData
) -> None:
    late = GateOptions(prompts, "persona", "layers.4.resid_post")
    with pytest.raises(tillerman.UsageError, match=r"`gate_at` layers\.4\.resid_post: the search may steer layers\.3"):
        gate_data(bench_of(SMALL, pilot, science), late)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([(f"prompt number {i}", "1") for i in range(20)], "one class only"),
        ([(f"prompt number {i}", "harmful" if i % 2 else "harmless") for i in range(20)], "which class"),
    ],
    ids=["one class", "labels that say neither yes nor no"],
)
def test_prompts_without_two_classes_are_refused(
    rows: list[tuple[str, str]], words: str, pilot: tillerman.OpenModel, science: LoadedData, tmp_path: Path
) -> None:
    with pytest.raises(tillerman.DataError, match=words):
        gate_data(bench_of(SMALL, pilot, science), GateOptions(written(tmp_path, "bad", rows)))


def test_an_error_about_the_gates_classes_names_the_gates_own_option(
    tmp_path: Path, pilot: tillerman.OpenModel, science: LoadedData
) -> None:
    rows = [("The moon is round.", "sky"), ("Bread is baked.", "food")] * 4
    run = bench_of(SMALL, pilot, science)
    with pytest.raises(tillerman.DataError, match=r"GateOptions.positive='sky' \(--gate-positive sky\)"):
        gate_data(run, GateOptions(written(tmp_path, "unclear", rows)))
    asked = GateOptions("sample:risk-seeking", positive="sky")
    with pytest.raises(tillerman.UsageError, match=r"^GateOptions.positive is for labelled texts"):
        gate_data(run, asked)


@pytest.mark.parametrize("only", ["yes", "no"])
def test_a_share_of_one_class_is_refused(
    only: str, pilot: tillerman.OpenModel, science: LoadedData, tmp_path: Path
) -> None:
    texts = [f"Tell me about number {i}" for i in range(60)]
    rows = [(t, only if split_of(t) == "test" else ("yes", "no")[i % 2]) for i, t in enumerate(texts)]
    path = tmp_path / "ask.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("question", "answer"), *rows])
    with pytest.raises(tillerman.DataError, match="has one class only"):
        gate_data(bench_of(SMALL, pilot, science), GateOptions(str(path)))


def test_items_that_are_no_labelled_prompts_are_refused(pilot: tillerman.OpenModel, science: LoadedData) -> None:
    with pytest.raises(tillerman.DataError, match=r"prompts of two classes: .* not items of kind 'choice'"):
        gate_data(bench_of(SMALL, pilot, science), GateOptions("sample:mmlu"))


def test_texts_have_no_prompt_to_gate(prompts: str, pilot: tillerman.OpenModel) -> None:
    rows = [{"text": f"text number {i} of {'good' if i % 2 else 'bad'} mood", "label": i % 2} for i in range(60)]
    bench = bench_of(SMALL, pilot, tillerman.load_examples(rows))
    with pytest.raises(tillerman.UsageError, match="a gate reads the prompt, and labelled texts have none"):
        gate_data(bench, GateOptions(prompts, "persona"))


def test_a_comparison_takes_no_gate(gated: tillerman.Experiment) -> None:
    with pytest.raises(tillerman.UsageError, match="takes no gate"):
        tillerman.Lineup(("caa",), gated)


@pytest.mark.slow
def test_a_gate_of_a_probe_has_figures_too(
    outcome: tillerman.Outcome, pilot: tillerman.OpenModel, science: LoadedData
) -> None:
    probe = tillerman.ProbeGate(torch.ones(128), -0.5, HookPoint(1))
    log = tillerman.evaluate(replace(outcome.artefact, gate=probe), SMALL, pilot, science)
    assert log.gate is not None and (log.gate.threshold, log.gate.above) == (0.5, True)
    assert str(probe) in gate_words(log)
