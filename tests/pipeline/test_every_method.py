"""Each method that is no plain contrast, from labelled examples to a file that steers and is evaluated again."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import tillerman
from tillerman.core.hookpoint import named, parse_points
from tillerman.pipeline.flow import evaluate

pytestmark = pytest.mark.slow  # a fit or a device that is pretended, in most of them

SMALL = tillerman.Experiment(
    max_kl=None,
    max_perplexity_ratio=None,
    max_train=40,
    max_validation=16,
    max_test=16,
    null_draws=2,
    layers=(2, 3, 4),
    neutral="sample:tinystories",
    neutral_tokens=256,
    unrelated_items=4,
    generations=("Tell me a story.",),
    generation_tokens=3,
    shots=2,
)
IDS = torch.tensor([[1, 40, 50, 60, 70]])


@pytest.fixture(scope="module")
def pilot():
    return tillerman.open_model("pilot")


@pytest.fixture(scope="module")
def data():
    return tillerman.load_examples("sample:interest-in-science", limit=200)


@pytest.mark.parametrize(
    ("method", "operator", "joint", "doses"),
    [
        ("ablation", "ablate", True, (0.5, 2.0)),
        ("angular", "rotate", False, (0.1, 0.4)),
        ("spherical:threshold=-0.5", "slerp", False, (0.1, 0.4)),
        ("target-cosine", "aim", False, (0.1, 0.4)),
        ("linear-act", "add", False, (0.1, 0.4)),
        ("w2s", "add", True, (0.1, 0.4)),
        ("actadd", "add", False, (0.5, 2.0)),
        ("iti", "add", True, (0.5, 2.0)),
        ("bipo:steps=8", "add", False, (0.2, 1.0)),
    ],
)
def test_a_method_is_fitted_saved_loaded_steered_and_evaluated(pilot, data, tmp_path, method, operator, joint, doses):
    experiment = replace(SMALL, method=method, doses=doses, zero=False)
    outcome = tillerman.fit(experiment, pilot, data)
    log = outcome.log
    assert {round(cell.dose, 6) for cell in log.cells} == set(doses)
    assert len(parse_points(log.hook_point)) == (3 if joint else 1)
    assert {"null:random", "null:shuffled"} <= {c.name for c in log.conditions}

    tillerman.save(tmp_path / "v.safetensors", outcome.artefact)
    artefact = tillerman.load(tmp_path / "v.safetensors")
    (item,) = artefact.plan()
    assert item.operator == operator == artefact.steering.operator
    assert named(item.steering.points) == log.hook_point
    logits = []
    for one in (*outcome.artefact.plan(), item):
        with tillerman.steer(pilot.model, replace(one, scope=tillerman.Scope("all"))):
            logits.append(pilot.model(IDS).logits)
    assert torch.equal(*logits)
    assert not torch.equal(logits[0], pilot.model(IDS).logits)

    again = evaluate(artefact, SMALL, pilot, data)
    assert again.condition("steered").rate == log.condition("steered").rate
    assert (again.scope, again.dose) == (log.scope, pytest.approx(log.dose))


def test_rice_strengthens_experts_of_all_layers_and_is_saved_and_evaluated(tmp_path):
    reasoner = tillerman.open_model("pilot-moe")
    sums = tillerman.load_examples("sample:sums", limit=60)
    experiment = replace(
        SMALL, method="rice", layers=None, doses=(0.5,), zero=False, answer_tokens=60, unrelated_items=2
    )
    outcome = tillerman.fit(experiment, reasoner, sums)
    log = outcome.log
    assert (log.hook_point, log.strength, log.scope) == ("layers.0-3.router_weights", 0.5, "all")
    assert log.condition("unsteered").rate.value >= 0.5  # it solves sums by thinking
    assert any("the first 2 steered: layer" in note for note in log.notes)
    tillerman.save(tmp_path / "v.safetensors", outcome.artefact)
    again = evaluate(tillerman.load(tmp_path / "v.safetensors"), experiment, reasoner, sums)
    assert again.condition("steered").rate == log.condition("steered").rate


@pytest.mark.parametrize("method", ["caa", "pas-full", "ipas-wrong", "cold-kernel", "bipo", "iti"])
def test_a_method_that_needs_two_answers_refuses_open_questions(pilot, method):
    sums = tillerman.load_examples("sample:sums", limit=60)
    with pytest.raises(tillerman.FitError, match=r"open question.*prompt-contrast, prompt-vector or rice"):
        tillerman.fit(replace(SMALL, method=method, answer_tokens=2), pilot, sums)


@pytest.mark.parametrize("layers", [None, (2,)])
def test_a_method_for_mixtures_of_experts_on_a_dense_model_is_one_clear_error(pilot, data, layers):
    with pytest.raises(tillerman.HookPointError, match="names no router and experts, as for a dense model"):
        tillerman.fit(replace(SMALL, method="rice", layers=layers), pilot, data)
