"""Several layers steered at once: the same dose at each of them, shared out of one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import tillerman
from tillerman.core.errors import UnknownNameError
from tillerman.core.hookpoint import HookPoint, named
from tillerman.core.steerings.gated import GatedSteering
from tillerman.core.steerings.vector import SteeringVector
from tillerman.methods.base import Fitted
from tillerman.pipeline.run import Run, Unwatched
from tillerman.pipeline.search import whole_grid
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.together import TOGETHER, together, with_layers_together
from tillerman.pipeline.vectors import Vectors, fit_readings

ONCE = tillerman.Experiment(
    method="caa",
    read="usual",
    together="only",
    doses=(0.2, 0.4),
    max_train=16,
    max_validation=6,
    max_test=6,
    null_draws=2,
    neutral_tokens=128,
    unrelated_items=4,
    shots=2,
    generations=(),
    written_prompts=0,
    zero=False,
    max_kl=None,
    max_perplexity_ratio=None,
)


@pytest.fixture(scope="module")
def pilot() -> tillerman.OpenModel:
    return tillerman.open_model("pilot")


def run_of(pilot: tillerman.OpenModel, **options: object) -> Run:
    data = tillerman.load_examples("sample:interest-in-science", limit=60)
    return set_up(replace(ONCE, **options), pilot, data, tillerman.Store(None, ""), Unwatched())


@pytest.fixture(scope="module")
def run(pilot: tillerman.OpenModel) -> Run:
    return run_of(pilot)


@pytest.fixture(scope="module")
def plain(run: Run) -> Fitted:
    (one,) = fit_readings(run, run.readings).fitted.values()
    return one


def directions_of(one: object) -> dict[HookPoint, torch.Tensor]:
    assert isinstance(one, SteeringVector)
    return dict(one.directions)


def test_every_layer_gets_the_same_dose_and_all_of_them_the_one_asked_for(run: Run, plain: Fitted) -> None:
    made = together(run, plain)
    assert made is not None
    assert named(made.vector.points) == "layers.2-6.resid_post"  # the middle of eight
    grid = whole_grid(run, {f"caa{TOGETHER}": made})
    assert [round(one.dose * 5, 6) for one in grid] == [0.2, 0.4]
    for one in grid:
        for point in made.vector.points:
            assert made.vector.dose(point, one.cell.strength) == pytest.approx(one.dose, rel=1e-5)
    for point, direction in directions_of(made.vector).items():
        cosine = torch.cosine_similarity(direction, directions_of(plain.vector)[point], dim=0)
        assert float(cosine) == pytest.approx(1, abs=1e-5)


def test_layers_that_were_asked_for_are_all_taken(pilot: tillerman.OpenModel, plain: Fitted) -> None:
    asked = run_of(pilot, layers=(0, 4, 7))
    made = together(asked, next(iter(fit_readings(asked, asked.readings).fitted.values())))
    assert made is not None and named(made.vector.points) == "layers.0,4,7.resid_post"
    alone = run_of(pilot, layers=(4,))
    assert together(alone, next(iter(fit_readings(alone, alone.readings).fitted.values()))) is None


def test_nulls_are_as_long_as_at_single_layers_they_would_be(run: Run, plain: Fitted) -> None:
    made = together(run, plain)
    assert made is not None
    random, shuffled = made.random(3), directions_of(made.shuffled(1))
    assert random.points == made.vector.points
    for point in made.vector.points:
        assert random.norm(point) == pytest.approx(made.vector.norm(point), rel=1e-4)
        share = directions_of(plain.shuffled(1))[point].norm() / plain.vector.norm(point)
        assert float(shuffled[point].norm()) == pytest.approx(float(share) * made.vector.norm(point), rel=1e-4)


def test_vectors_that_a_gate_weighs_are_added_at_several_layers_too(pilot: tillerman.OpenModel) -> None:
    asked = run_of(pilot, method="dsas", layers=(2, 5))
    plain = next(iter(fit_readings(asked, asked.readings).fitted.values()))
    made = together(asked, plain)
    assert made is not None and isinstance(made.vector, GatedSteering)
    one, two = (made.vector.dose(point, 1.0) for point in made.vector.points)
    assert one == pytest.approx(two) == pytest.approx(1)
    for point in made.vector.points:
        h = torch.randn(3, made.vector.width(point))
        ratio = made.vector.change(point, h) / plain.vector.change(point, h, None)  # type: ignore[arg-type]
        torch.testing.assert_close(ratio, torch.full_like(ratio, made.vector.norm(point) / plain.vector.norm(point)))
    assert made.shuffled(1).norm(made.vector.points[0]) < made.vector.norm(made.vector.points[0])
    bound = run_of(pilot, method="ids", layers=(2, 5))  # the change is up to the bound, whatever its vector's length
    assert together(bound, next(iter(fit_readings(bound, bound.readings).fitted.values()))) is None


def test_what_is_searched_beside_single_layers_and_what_alone(pilot: tillerman.OpenModel, plain: Fitted) -> None:
    found = Vectors({"caa": plain}, (), {})

    def names(**options: object) -> list[str]:
        return list(with_layers_together(run_of(pilot, **options), found).fitted)

    assert names() == [f"caa{TOGETHER}"]
    assert names(together="no") == names(together="auto") == ["caa"]
    assert names(together="auto", objective="written", written_prompts=4) == ["caa", f"caa{TOGETHER}"]
    with pytest.raises(UnknownNameError, match="no together named 'both'; known: auto, no, only"):
        replace(ONCE, together="both")


@pytest.mark.slow
def test_a_fit_of_layers_together_says_where_it_steers_and_its_artefact_does_so(
    pilot: tillerman.OpenModel, tmp_path
) -> None:
    data = tillerman.load_examples("sample:interest-in-science", limit=60)
    outcome = tillerman.fit(ONCE, pilot, data)
    assert outcome.log.hook_point == "layers.2-6.resid_post"
    assert {cell.hook_point for cell in outcome.log.cells} == {"layers.2-6.resid_post"}
    assert {cell.method for cell in outcome.log.cells} == {"caa"}
    tillerman.save(tmp_path / "one.safetensors", outcome.artefact)
    loaded = tillerman.load(tmp_path / "one.safetensors")
    again = tillerman.evaluate(loaded, ONCE, pilot, data)
    assert again.condition("steered").rate == outcome.log.condition("steered").rate
    asked = [{"role": "user", "content": "Hello there"}]
    ids = pilot.tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    plain = pilot.model(**ids).logits
    with tillerman.steer(pilot, loaded) as steered:
        moved = pilot.model(**ids).logits
    assert not torch.equal(plain, moved)
    (applied,) = steered.receipt.applied
    assert list(applied.tokens) == [f"layers.{k}.resid_post" for k in range(2, 7)]


def test_where_a_search_goes_by_what_is_written_auto_is_what_writes() -> None:
    scored, written = tillerman.Experiment(), tillerman.Experiment(objective="written")
    assert [str(one) for one in written.methods] == ["caa", "cold-kernel"] and written.spec == "writing"
    assert len(scored.methods) == 4 and scored.spec == "auto"
    assert tillerman.Experiment(objective="written", method="caa").spec == "caa"
