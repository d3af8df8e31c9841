"""ReFT-r1: its loss against plain passes and finite differences, the length of its vector, and what it reads."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tillerman.core.errors import FitError
from tillerman.core.hookpoint import HookPoint
from tillerman.methods.reft_r1 import as_long_as_read, not_against
from tillerman.methods.registry import METHODS
from tillerman.models.gradients import Taught
from tillerman.models.latents import ReadAndAdd, largest_latents, means_of_answers
from tillerman.models.training import TrainingOptions, train_vectors

from .. import tiny
from .test_bipo import lesson

POINT = HookPoint(1)
POINTS = (HookPoint(0), POINT)
ROWS = tiny.random_rows([5, 9, 3, 6])
# of one to twelve tokens, so that with the two largest latents there are answers with fewer, as many, and more
TEXTS = [Taught(row, (tuple(range(20, 20 + n)),)) for row, n in zip(ROWS, (1, 2, 6, 12), strict=True)]
NORMS = dict.fromkeys(POINTS, 3.0)
REFT = METHODS["reft-r1"](steps=2, pairs=4, largest=1)


def direction(point=POINT, seed=5):
    drawn = tiny.vector(point, size=1.0, seed=seed).directions[point]
    return drawn / drawn.norm()


def objective(largest=2, penalty=1.0, examples=TEXTS):
    return ReadAndAdd(examples, {p: direction(p) for p in POINTS}, NORMS, largest, penalty)


def loss_of(opened, vector, examples=TEXTS, **options):
    asked = objective(examples=examples, **options).ask(opened, range(len(examples)), [POINT])
    return objective(examples=examples, **options).loss(opened, asked, POINT, vector, torch.ones(len(examples)))


def by_hand(opened, family, example, w, largest, penalty):
    """By a plain pass with a plain hook, latents sorted and the two sums taken one by one."""
    start, seen = len(example.prompt) - 1, []
    (answer,) = example.answers

    def edit(h):
        read = sorted((max(float(x @ w), 0.0) for x in h[0, start:]), reverse=True)
        k = min(largest, len(read))
        seen.append(sum(read[k:]))
        new = h.clone()
        new[:, start:] += sum(read[:k]) / k * w
        return new

    handle = tiny.hook(opened.model, family, POINT, edit)
    try:
        said = opened.model(input_ids=torch.tensor([example.prompt + answer[:-1]])).logits[0, start:].log_softmax(-1)
    finally:
        handle.remove()
    nats = -float(said.gather(1, torch.tensor(answer)[:, None]).sum())
    return (nats + penalty / NORMS[POINT] * seen[0]) / len(answer), seen[0]


@pytest.mark.parametrize("family", ["llama", "qwen3_next"])  # one that branches and one that does not
@torch.no_grad()
def test_the_loss_is_that_of_the_paper(family):
    opened, w = tiny.opened(family), direction()
    expected, beyond = zip(*(by_hand(opened, family, e, w, 2, 1.5) for e in TEXTS), strict=True)
    assert beyond[0] == 0 and beyond[1] == 0 and max(beyond) > 0.1
    ours = loss_of(opened, 7 * w, penalty=1.5)  # of the vector only the direction counts
    torch.testing.assert_close(ours, torch.tensor(expected), atol=2e-3, rtol=2e-3)


@torch.no_grad()
def test_with_as_many_latents_as_tokens_there_is_no_penalty(opened):
    for largest in (12, 50):
        free, dear = (loss_of(opened, direction(), largest=largest, penalty=penalty) for penalty in (0.0, 1e6))
        assert torch.equal(free, dear)
    assert float((loss_of(opened, direction(), penalty=1e3) - loss_of(opened, direction(), penalty=0.0)).max()) > 1


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_gradient_is_that_of_finite_differences_and_turns_the_vector_without_stretching_it(family):
    opened = tiny.opened(family)
    vector = (3 * direction()).requires_grad_()
    with torch.inference_mode(False), torch.enable_grad():
        (gradient,) = torch.autograd.grad(loss_of(opened, vector).sum(), vector)
    assert abs(float(gradient @ direction())) < 1e-3 * float(gradient.norm())
    for way in (gradient, direction(seed=10)):
        step = 0.01 * way / way.norm()
        with torch.no_grad():
            up, down = (loss_of(opened, vector + s * step).sum() for s in (1, -1))
        slack = 0.05 * 0.01 * float(gradient.norm())
        assert float(up - down) / 2 == pytest.approx(float(gradient @ step), rel=0.05, abs=slack)


def test_the_vector_is_as_long_as_the_stream_after_every_step_so_that_the_direction_is_a_unit(opened):
    lengths = []

    class Watched(ReadAndAdd):
        def loss(self, opened, asked, point, vector, drawn):
            lengths.append(float(vector.detach().norm()))
            return super().loss(opened, asked, point, vector, drawn)

    watched = Watched(TEXTS, {p: direction(p) for p in POINTS}, NORMS)
    found = train_vectors(opened, watched, NORMS, TrainingOptions(steps=4, pairs=4, rate=0.5))
    assert lengths == pytest.approx([3.0] * 8, rel=1e-5)
    for point, vector in found.items():
        assert float(vector.norm()) == pytest.approx(3.0, rel=1e-5)
        assert float(vector @ direction(point)) < 2.9


@pytest.mark.slow
def test_training_makes_the_answers_likelier(opened):
    given = objective(examples=TEXTS, penalty=0.1)
    vectors = train_vectors(opened, given, {POINT: NORMS[POINT]}, TrainingOptions(steps=12, pairs=4, rate=0.3))
    with torch.no_grad():
        assert float(loss_of(opened, vectors[POINT], penalty=0.1).mean()) < -0.1 + float(
            loss_of(opened, direction(), penalty=0.1).mean()
        )


def by_plain_passes(opened, prompt, answer):
    """Activations where each of the answer's tokens is predicted."""
    seen = []
    handle = tiny.hook(opened.model, "llama", POINT, lambda h: seen.append(h[0, len(prompt) - 1 :].clone()) or h)
    try:
        opened.model(input_ids=torch.tensor([prompt + answer[:-1]]))
    finally:
        handle.remove()
    return seen[0]


@torch.no_grad()
def test_means_and_largest_latents_are_those_of_the_tokens_that_predict_answers(opened):
    pairs = [Taught(t.prompt, (*t.answers, (40, 41, 42))) for t in TEXTS]
    sides = [[by_plain_passes(opened, t.prompt, t.answers[k]) for t in pairs] for k in range(2)]
    means = means_of_answers(opened, pairs, [POINT], 3)[POINT]
    torch.testing.assert_close(means, torch.stack([torch.cat(side).mean(0) for side in sides]), atol=1e-3, rtol=1e-3)
    w = direction()
    read = largest_latents(opened, pairs, {POINT: w}, 3)[POINT]
    expected = [[float((h @ w).relu().max()) for h in side] for side in sides]
    torch.testing.assert_close(read, torch.tensor(expected).T, atol=1e-3, rtol=1e-3)


def test_the_vector_is_as_long_as_the_largest_latent_of_a_wanted_answer(opened):
    there = replace(lesson(opened, n=4, kind="preference"), points=(POINT,))
    steering = REFT.fit(there)
    vector = steering.directions[POINT]
    assert torch.equal(vector, REFT.fit(there).directions[POINT])
    wanted = [Taught(t.prompt, t.answers[:1]) for t in there.preferences("")]
    read = largest_latents(opened, wanted, {POINT: vector / vector.norm()}, 4)[POINT]
    assert float(read.max()) > 0 and steering.norm(POINT) == pytest.approx(float(read.max()), rel=1e-4)
    (line,) = REFT.report(steering.provenance.found)
    assert line.startswith("largest latent of a wanted answer, in the mean and the largest of all")
    for changed in (replace(REFT, start="random"), replace(REFT, largest=3), replace(REFT, penalty=50.0)):
        assert not torch.allclose(changed.fit(there).directions[POINT], vector, atol=1e-3)


def test_a_start_has_no_component_against_what_it_reads():
    way, mean = tiny.vector(POINT, seed=1).directions[POINT], tiny.vector(POINT, seed=2).directions[POINT]
    way = way if float(way @ mean) > 0 else -way
    assert torch.equal(not_against(way, mean), way)
    turned = not_against(-way, mean)
    assert abs(float(turned @ mean)) < 1e-5
    torch.testing.assert_close(turned + way, float(way @ mean) / float(mean @ mean) * mean)


def test_answers_of_one_token_which_no_difference_tells_begin_at_random(opened):
    there = replace(lesson(opened, n=3), points=(POINT,))
    assert all(len(answer) == 1 for pair in there.preferences("") for answer in pair.answers)
    one, same, other = (
        replace(REFT, start=start).fit(replace(there, seed=seed)).directions[POINT]
        for start, seed in (("difference", 0), ("random", 0), ("difference", 1))
    )
    assert torch.equal(one, same) and not torch.allclose(one, other, atol=1e-2)


def test_where_nothing_is_read_the_vector_is_as_long_as_the_stream():
    read = torch.tensor([[0.0], [2.5], [1.0]])
    assert torch.equal(as_long_as_read(direction(), read, 3.0), 2.5 * direction())
    assert torch.equal(as_long_as_read(direction(), 0 * read, 3.0), 3.0 * direction())


def test_labelled_texts_are_refused_with_the_remedy(opened):
    with pytest.raises(FitError, match=r"ReFT-r1 trains on answers to a prompt.*--method caa"):
        REFT.fit(lesson(opened, n=2, kind="text"))
