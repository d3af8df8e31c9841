"""BiPO: its loss against plain passes and finite differences, and what training promises."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import logsigmoid

from tillerman.core.errors import FitError
from tillerman.core.hookpoint import HookPoint
from tillerman.data.examples import Example
from tillerman.data.presenting import present
from tillerman.data.writing import make_writer
from tillerman.methods.base import Context
from tillerman.methods.bipo import BiPO
from tillerman.methods.registry import METHODS
from tillerman.models.answers import answer_logprobs, ask
from tillerman.models.gradients import Taught, activation_gradients
from tillerman.models.objectives import BothWays
from tillerman.models.opened import OpenModel
from tillerman.models.training import TrainingOptions, train_vectors

from .. import tiny

FAMILIES = ["llama", "gpt2", "gemma2", "qwen3_moe", "qwen3_next"]
POINTS = (HookPoint(0), HookPoint(1, "mlp_out"), HookPoint(2, "resid_pre"))
ROWS = tiny.random_rows([5, 9, 3, 6])
LETTERS = [Taught(row, ((20 + i,), (30,))) for i, row in enumerate(ROWS)]
TEXTS = [Taught(row, ((20, 21), (30 + i, 31, 32))) for i, row in enumerate(ROWS)]
FEW = TrainingOptions(steps=12, pairs=2)
BIPO = BiPO(steps=12, pairs=2)
BETA = BothWays.beta


def lesson(opened: OpenModel, n: int = 12, kind: str = "choice") -> Context:
    draw = random.Random(3)
    words = ["apple", "stone", "river", "cat", "dog", "mat"]
    items = present(
        [Example(kind, f"Which {draw.choice(words)} {i}?", tuple(draw.sample(words, 2)), i % 2) for i in range(n)]
    )
    writer = make_writer(opened.tokenizer)
    return Context(opened, items, tuple(map(writer.write, items)), writer, POINTS, tiny.provenance())


def margins(opened, asked, point, change):
    wanted, other = answer_logprobs(opened, asked, point, lambda h: h + change).unbind(1)
    return wanted - other


def loss_of(opened, examples, point, vector, sign):
    objective = BothWays(examples)
    asked = objective.ask(opened, range(len(examples)), [point])
    return objective.loss(opened, asked, point, vector, torch.full((len(examples),), float(sign))).mean()


def by_hand(model, family, examples, point, change):
    """Margins from one plain pass per answer, the change added by a plain hook."""
    found = []
    for example in examples:
        scores = []
        for answer in example.answers:
            start = len(example.prompt) - 1

            def add(h, start=start):
                new = h.clone()
                new[:, start:] += change
                return new

            handle = tiny.hook(model, family, point, add)
            try:
                said = model(input_ids=torch.tensor([example.prompt + answer])).logits.log_softmax(-1)
            finally:
                handle.remove()
            scores.append(said[0, start:-1].gather(1, torch.tensor(answer)[:, None]).sum())
        found.append(scores[0] - scores[1])
    return torch.stack(found)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("examples", [LETTERS, TEXTS], ids=["letters", "texts"])
def test_margins_are_those_of_plain_passes(family, examples):
    opened = tiny.opened(family)
    asked = ask(opened, examples, POINTS)
    with torch.no_grad():
        plain = by_hand(opened.model, family, examples, POINTS[0], 0.0)
        torch.testing.assert_close(margins(opened, asked, POINTS[0], 0.0), plain, atol=2e-3, rtol=2e-3)
        for point in POINTS:
            change = tiny.vector(point, size=2.0).directions[point]
            ours = margins(opened, asked, point, change)
            torch.testing.assert_close(
                ours, by_hand(opened.model, family, examples, point, change), atol=5e-3, rtol=5e-3
            )


def slope(opened, examples, point, vector, sign):
    vector = vector.clone().requires_grad_()
    with torch.inference_mode(False), torch.enable_grad():
        loss = loss_of(opened, examples, point, vector, sign)
        return loss.detach(), torch.autograd.grad(loss, vector)[0]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])  # where no router jumps to another expert
@pytest.mark.parametrize("sign", [1, -1])
def test_the_gradient_is_that_of_finite_differences(family, sign):
    opened, point = tiny.opened(family), HookPoint(1)
    vector = tiny.vector(point, size=1.0).directions[point]
    _, gradient = slope(opened, TEXTS, point, vector, sign)
    for way in (gradient, *(tiny.vector(point, seed=10 + seed).directions[point] for seed in range(3))):
        step = 0.02 * way / way.norm()
        with torch.no_grad():
            up, down = (loss_of(opened, TEXTS, point, vector + s * step, sign) for s in (1, -1))
        slack = 0.02 * 0.02 * float(gradient.norm())
        assert float(up - down) / 2 == pytest.approx(float(gradient @ step), rel=0.03, abs=slack)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_gradient_is_that_of_the_unit_kernel_without_its_weights(family):
    """At v = 0 every pair counts alike: -beta/2 d(m)/dh, under either sign. COLD weighs it by sigmoid(-beta m)."""
    opened, point = tiny.opened(family), HookPoint(1)
    wanted, other = (activation_gradients(opened, LETTERS, [point], loss) for loss in ("positive", "negative"))
    expected = BETA / 2 * (wanted.gradients[point] + other.gradients[point]).mean(0)
    for sign in (1, -1):
        loss, gradient = slope(opened, LETTERS, point, torch.zeros(tiny.WIDTH), sign)
        torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-3)
        assert float(loss) == pytest.approx(-float(logsigmoid(torch.tensor(0.0))), rel=1e-5)


def test_a_single_step_of_adam_goes_against_the_sign_of_the_gradient(opened):
    point = HookPoint(1)
    _, gradient = slope(opened, TEXTS, point, torch.zeros(tiny.WIDTH), 1)
    ours = train_vectors(opened, BothWays(TEXTS), {point: 3.0}, TrainingOptions(steps=1, pairs=4, rate=0.1))[point]
    torch.testing.assert_close(ours, -gradient.sign() * 0.1 * 3.0 / tiny.WIDTH**0.5, atol=1e-4, rtol=1e-3)
    assert float(ours.norm()) == pytest.approx(0.3, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_training_lowers_the_loss_at_every_hook_point_added_and_subtracted(family):
    opened = tiny.opened(family)
    vectors = train_vectors(opened, BothWays(TEXTS), dict.fromkeys(POINTS, 3.0), FEW)
    for point, vector in vectors.items():
        with torch.no_grad():
            for sign in (1, -1):
                before = loss_of(opened, TEXTS, point, torch.zeros_like(vector), sign)
                assert loss_of(opened, TEXTS, point, vector, sign) < before - 0.005


@pytest.mark.slow
def test_a_hook_point_is_trained_as_if_it_were_the_only_one(opened):
    together = train_vectors(opened, BothWays(TEXTS), dict.fromkeys(POINTS, 3.0), FEW)
    for point in POINTS:
        alone = train_vectors(opened, BothWays(TEXTS), {point: 3.0}, FEW)[point]
        torch.testing.assert_close(together[point], alone, atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_vector_and_another_seed_another(opened):
    one, two = (BIPO.fit(lesson(opened)) for _ in range(2))
    other = BIPO.fit(replace(lesson(opened), seed=1))
    for point in POINTS:
        assert torch.equal(one.directions[point], two.directions[point])
        assert not torch.equal(one.directions[point], other.directions[point])


@pytest.mark.slow
def test_training_leaves_the_model_and_the_random_state_as_they_were():
    opened = tiny.fresh_opened()
    parameters = list(opened.model.parameters())
    parameters[0].requires_grad_(False)
    before = [(p.detach().clone(), p.requires_grad) for p in parameters]
    state = torch.random.get_rng_state()
    plain = BIPO.fit(lesson(opened))
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            assert torch.equal(BIPO.fit(lesson(opened)).directions[POINTS[0]], plain.directions[POINTS[0]])
    assert torch.equal(torch.random.get_rng_state(), state)
    for p, (value, flag) in zip(parameters, before, strict=True):
        assert torch.equal(p, value)
        assert p.requires_grad == flag
        assert p.grad is None


@pytest.mark.slow
def test_swapped_answers_turn_the_vector_round(opened):
    there = lesson(opened)
    swapped = replace(
        there,
        items=tuple(replace(item, right=1 - item.right) for item in there.items),
        written=tuple(replace(w, right=1 - w.right) for w in there.written),
    )
    one, two = BIPO.fit(there), BIPO.fit(swapped)
    for point in POINTS:
        assert torch.cosine_similarity(one.directions[point], two.directions[point], dim=0) < -0.7


@pytest.mark.slow
def test_what_is_learned_depends_on_the_labels(opened):
    """The wanted answer is always the same letter: what every label says, and no shuffling keeps."""
    pairs = [replace(t, answers=((20,), (30,))) for t in LETTERS] * 4
    mixed = [replace(t, answers=t.answers[:: (-1) ** (i // 4)]) for i, t in enumerate(pairs)]
    point = HookPoint(1)
    real, null = (
        train_vectors(opened, BothWays(t), {point: 3.0}, TrainingOptions(steps=20, pairs=16))[point]
        for t in (pairs, mixed)
    )
    asked = ask(opened, pairs, [point])
    with torch.no_grad():
        plain = margins(opened, asked, point, 0.0)
        gains = [float((margins(opened, asked, point, v) - plain).mean()) for v in (real, null)]
    assert abs(gains[1]) < 0.3 * gains[0]


def test_progress_adds_up_to_the_number_of_examples(opened):
    told = []
    train_vectors(opened, BothWays(TEXTS), {HookPoint(1): 3.0}, TrainingOptions(steps=7, pairs=3), progress=told.append)
    assert sum(told) == len(TEXTS)


def test_labelled_texts_are_refused_with_the_remedy(opened):
    texts = present([Example("text", "", ("an apple", "a stone"), 0)])
    writer = make_writer(opened.tokenizer)
    with pytest.raises(FitError, match="--method caa"):
        BIPO.fit(Context(opened, texts, tuple(map(writer.write, texts)), writer, POINTS, tiny.provenance()))


def test_a_loss_that_is_not_finite_is_one_clear_error():
    opened = tiny.fresh_opened()
    with torch.no_grad():
        opened.model.lm_head.weight[20] = torch.nan
    with pytest.raises(FitError, match=r"layers\.1\.resid_post: the loss is not finite; .*float32"):
        train_vectors(opened, BothWays(TEXTS), {HookPoint(1): 3.0}, FEW)


def test_the_method_has_the_papers_beta():
    assert METHODS["bipo"]().beta == 0.1
