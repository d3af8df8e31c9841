"""RePS: its loss against the formula by hand and finite differences, and what training promises."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import logsigmoid

from tillerman.core.errors import FitError
from tillerman.core.hookpoint import HookPoint
from tillerman.methods.registry import METHODS
from tillerman.models.gradients import activation_gradients
from tillerman.models.objectives import SteerAndSuppress, without
from tillerman.models.training import TrainingOptions, train_vectors

from .. import tiny
from .test_bipo import LETTERS, POINTS, TEXTS, lesson

FEW = TrainingOptions(steps=12, pairs=2)
REPS = METHODS["reps"](steps=12, pairs=2)
POINT = HookPoint(1)


def loss_of(opened, examples, point, vector, factors):
    objective = SteerAndSuppress(examples)
    asked = objective.ask(opened, range(len(examples)), [point])
    return objective.loss(opened, asked, point, vector, torch.tensor(factors))


def logprob(opened, family, example, answer, point, change):
    """Of one whole answer, by a plain pass with a plain hook."""
    start = len(example.prompt) - 1

    def edit(h):
        new = h.clone()
        new[:, start:] = change(h[:, start:])
        return new

    handle = tiny.hook(opened.model, family, point, edit)
    try:
        said = opened.model(input_ids=torch.tensor([example.prompt + answer])).logits.log_softmax(-1)
    finally:
        handle.remove()
    return float(said[0, start:-1].detach().gather(1, torch.tensor(answer)[:, None]).sum())


@pytest.mark.parametrize("family", ["llama", "qwen3_next"])  # one that branches and one that does not
@pytest.mark.parametrize("examples", [LETTERS, TEXTS], ids=["letters", "texts"])
def test_the_loss_is_that_of_the_paper(family, examples):
    opened, factors = tiny.opened(family), [0.5, 1.0, 1.5, 2.0]
    vector = tiny.vector(POINT, size=2.0).directions[POINT]
    unit = vector / vector.norm()
    expected = []
    with torch.no_grad():
        ours = loss_of(opened, examples, POINT, vector, factors)
        for example, factor in zip(examples, factors, strict=True):
            plain, steered, suppressed = (
                [logprob(opened, family, example, answer, POINT, change) for answer in example.answers]
                for change in (
                    lambda h: h,
                    lambda h, factor=factor: h + factor * vector,
                    lambda h: h - (h @ unit).clamp_min(0)[..., None] * unit,
                )
            )
            wanted, other = (len(answer) for answer in example.answers)
            towards = max(plain[1] - plain[0], 1) * steered[0] / wanted - steered[1] / other
            away = max(plain[0] - plain[1], 1) * suppressed[1] / other - suppressed[0] / wanted
            expected.append(-logsigmoid(torch.tensor(towards)) - logsigmoid(torch.tensor(away)))
    torch.testing.assert_close(ours, torch.stack(expected), atol=1e-2, rtol=5e-3)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_gradient_is_that_of_finite_differences(family):
    opened, factors = tiny.opened(family), [0.5, 1.0, 1.5, 2.0]
    vector = tiny.vector(POINT, size=1.0).directions[POINT].requires_grad_()
    with torch.inference_mode(False), torch.enable_grad():
        (gradient,) = torch.autograd.grad(loss_of(opened, TEXTS, POINT, vector, factors).sum(), vector)
    for way in (gradient, tiny.vector(POINT, seed=10).directions[POINT]):
        step = 0.01 * way / way.norm()
        with torch.no_grad():
            up, down = (loss_of(opened, TEXTS, POINT, vector + s * step, factors).sum() for s in (1, -1))
        slack = 0.05 * 0.01 * float(gradient.norm())
        assert float(up - down) / 2 == pytest.approx(float(gradient @ step), rel=0.05, abs=slack)


def test_the_first_gradient_weighs_an_answer_by_how_unlikely_it_is():
    """At v = 0 nothing can be taken out: the slope is sigmoid(-D+) a (b+ d log p(wanted) - d log p(other)), negated."""
    opened, factors = tiny.opened(), torch.tensor([0.5, 1.0, 1.5, 2.0])
    wanted, other = (activation_gradients(opened, LETTERS, [POINT], loss) for loss in ("positive", "negative"))
    weight = (other.losses + wanted.losses).clamp_min(1)
    towards = -weight * wanted.losses - other.losses
    each = weight[:, None] * wanted.gradients[POINT] + other.gradients[POINT]
    expected = ((-towards).sigmoid() * factors) @ each
    assert float(weight.max()) > 1.5
    vector = torch.zeros(tiny.WIDTH).requires_grad_()
    with torch.inference_mode(False), torch.enable_grad():
        (gradient,) = torch.autograd.grad(loss_of(opened, LETTERS, POINT, vector, factors.tolist()).sum(), vector)
    torch.testing.assert_close(gradient, expected, atol=1e-4, rtol=1e-3)


def test_what_points_along_the_vector_is_taken_out_and_what_points_against_it_stays():
    drawn = torch.Generator().manual_seed(0)
    h, v = torch.randn(50, 8, generator=drawn), torch.randn(8, generator=drawn)
    left = without(h, v)
    along = h @ v
    torch.testing.assert_close((left @ v)[along > 0], torch.zeros(int((along > 0).sum())), atol=1e-5, rtol=0)
    assert torch.equal(left[along <= 0], h[along <= 0])
    torch.testing.assert_close(without(h, 5 * v), left)
    assert torch.equal(without(h, 0 * v), h)


def test_strengths_are_evenly_spaced_with_mean_one():
    objective = SteerAndSuppress(LETTERS, factors=4)
    drawn = objective.draw(torch.Generator().manual_seed(0), range(400))
    assert sorted(set(drawn)) == pytest.approx([0.4, 0.8, 1.2, 1.6])
    assert sum(drawn) / 400 == pytest.approx(1, abs=0.06)
    assert {*SteerAndSuppress(LETTERS, factors=1).draw(torch.Generator(), range(5))} == {1.0}


def test_the_number_of_strengths_changes_the_vector_and_a_seed_does_not_change_it_twice(opened):
    there = replace(lesson(opened), points=(POINT,))
    one, again, other = (
        METHODS["reps"](steps=2, pairs=2, factors=factors).fit(there).directions[POINT] for factors in (10, 10, 1)
    )
    assert torch.equal(one, again)
    assert not torch.allclose(one, other, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "qwen3_next"])
def test_training_lowers_the_loss_at_every_hook_point(family):
    opened = tiny.opened(family)
    vectors = train_vectors(opened, SteerAndSuppress(TEXTS), dict.fromkeys(POINTS, 3.0), FEW)
    for point, vector in vectors.items():
        with torch.no_grad():
            before, after = (loss_of(opened, TEXTS, point, v, [1.0] * 4).mean() for v in (0 * vector, vector))
        assert after < before - 0.02


@pytest.mark.slow
def test_swapped_answers_turn_the_vector_round(opened):
    there, back = ([type(t)(t.prompt, t.answers[::way]) for t in TEXTS] for way in (1, -1))
    one, two = (train_vectors(opened, SteerAndSuppress(t), {POINT: 3.0}, FEW)[POINT] for t in (there, back))
    assert torch.cosine_similarity(one, two, dim=0) < -0.3


@pytest.mark.slow
def test_labels_that_say_nothing_leave_a_vector_that_does_nothing(opened):
    pairs = [type(t)(t.prompt, ((20,), (30,))) for t in LETTERS] * 4
    mixed = [type(t)(t.prompt, t.answers[:: (-1) ** (i // 4)]) for i, t in enumerate(pairs)]
    options = TrainingOptions(steps=20, pairs=16)
    gains = []
    for given in (pairs, mixed):
        vector = train_vectors(opened, SteerAndSuppress(given), {POINT: 3.0}, options)[POINT]
        sums = [
            [logprob(opened, "llama", t, a, POINT, lambda h, v=v: h + v) for t in pairs[:4] for a in t.answers]
            for v in (0 * vector, vector)
        ]
        plain, steered = (torch.tensor(s).reshape(-1, 2) for s in sums)
        gains.append(float(((steered - plain) @ torch.tensor([1.0, -1.0])).mean()))
    assert abs(gains[1]) < 0.4 * gains[0]


def test_labelled_texts_are_refused_with_the_remedy(opened):
    with pytest.raises(FitError, match=r"RePS trains on answers to a prompt.*--method caa"):
        REPS.fit(lesson(opened, kind="text"))
