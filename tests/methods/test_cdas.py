"""CDAS: its loss against plain passes and finite differences, and that it finds a planted direction."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tillerman.core.errors import FitError
from tillerman.core.hookpoint import HookPoint
from tillerman.methods.cdas import Cdas
from tillerman.methods.registry import METHODS
from tillerman.models.objectives import Counterfactual, Exchange, gaps
from tillerman.models.training import TrainingOptions, train_vectors

from .. import tiny
from .test_bipo import lesson

POINT = HookPoint(1)
ROWS = tiny.random_rows([5, 9, 3, 6])
ASIDE = (7, 11, 13)
TEXTS = [Counterfactual(row, ASIDE + row, (20, 21), (30 + i, 31, 32)) for i, row in enumerate(ROWS)]
CDAS = METHODS["cdas"](steps=2, pairs=4, positive="Be glad.")


def loss_of(opened, examples, point, vector):
    objective = Exchange(examples)
    asked = objective.ask(opened, range(len(examples)), [point])
    return objective.loss(opened, asked, point, vector, torch.tensor([e.sign for e in examples]))


def said(opened, family, prompt, answer, point, change=lambda h: h):
    """Activations at the hook point before the change, and log-probabilities of all tokens, where each of the answer's
    is predicted."""
    start, seen = len(prompt) - 1, []

    def edit(h):
        seen.append(h[0, start:].clone())
        new = h.clone()
        new[:, start:] = change(h[:, start:])
        return new

    handle = tiny.hook(opened.model, family, point, edit)
    try:
        logits = opened.model(input_ids=torch.tensor([prompt + answer[:-1]])).logits
    finally:
        handle.remove()
    return seen[0], logits[0, start:].log_softmax(-1)


def divergence(p, q):
    mixed = ((p.exp() + q.exp()) / 2).log()
    return (p.exp() * (p - mixed) + q.exp() * (q - mixed)).sum(-1).mean() / 2


@pytest.mark.parametrize("family", ["llama", "qwen3_next"])  # one that branches and one that does not
@torch.no_grad()
def test_the_loss_is_that_of_the_paper(family):
    opened = tiny.opened(family)
    unit = tiny.vector(POINT, size=1.0).directions[POINT]
    unit = unit / unit.norm()
    expected = []
    for e in TEXTS:
        total = 0.0
        for base, source, answer in ((e.plain, e.told, e.wanted), (e.told, e.plain, e.other)):
            there, target = said(opened, family, source, answer, POINT)
            _, ours = said(
                opened, family, base, answer, POINT, lambda h, there=there: h + ((there - h) @ unit)[..., None] * unit
            )
            total += divergence(ours, target)
        expected.append(total)
    torch.testing.assert_close(loss_of(opened, TEXTS, POINT, 3 * unit), torch.stack(expected), atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_gradient_is_that_of_finite_differences(family):
    opened = tiny.opened(family)
    vector = tiny.vector(POINT, size=1.0).directions[POINT].requires_grad_()
    with torch.inference_mode(False), torch.enable_grad():
        (gradient,) = torch.autograd.grad(loss_of(opened, TEXTS, POINT, vector).sum(), vector)
    assert abs(float(gradient @ vector.detach())) < 1e-3 * float(
        gradient.norm() * vector.norm()
    )  # its length says nothing
    for way in (gradient, tiny.vector(POINT, seed=10).directions[POINT]):
        step = 0.01 * way / way.norm()
        with torch.no_grad():
            up, down = (loss_of(opened, TEXTS, POINT, vector + s * step).sum() for s in (1, -1))
        slack = 0.05 * 0.01 * float(gradient.norm())
        assert float(up - down) / 2 == pytest.approx(float(gradient @ step), rel=0.05, abs=slack)


def planted():
    """A model and questions whose last token is another under the prompt, by the same difference of embeddings."""
    opened = tiny.fresh_opened()
    gap = tiny.vector(POINT, seed=5, size=0.5).directions[POINT]
    with torch.no_grad():
        table = opened.model.get_input_embeddings().weight
        for k in range(8):
            table[200 + k] = table[100 + k] + gap
    rows = tiny.random_rows([4, 6, 5, 7] * 2, seed=2)
    examples = [Counterfactual((*r, 100 + k), (*r, 200 + k), (20 + k,), (30 + k,)) for k, r in enumerate(rows)]
    return opened, gap, examples


@pytest.mark.slow
def test_it_finds_the_one_direction_that_a_prompt_changes_and_exchanging_it_exchanges_the_predictions():
    opened, gap, examples = planted()
    point = HookPoint(0, "resid_pre")
    objective = Exchange(examples)
    found = train_vectors(opened, objective, {point: 1.5}, TrainingOptions(steps=60, pairs=8, rate=0.3))
    assert abs(float(torch.cosine_similarity(found[point], gap, dim=0))) > 0.85
    ((before, after),) = objective.divergences(opened, found, 3).values()
    assert after < 0.05 * before
    (exact,) = objective.divergences(opened, {point: gap}, 8).values()
    assert exact == (pytest.approx(before), pytest.approx(0, abs=1e-5))


def test_what_a_prompt_adds_is_the_mean_over_the_tokens_that_predict_answers():
    opened, gap, examples = planted()
    point = HookPoint(0, "resid_pre")
    torch.testing.assert_close(gaps(opened, examples, [point], 3)[point], gap, atol=1e-4, rtol=1e-4)
    turned = [replace(e, sign=-1.0 if k % 4 == 0 else 1.0) for k, e in enumerate(examples)]
    torch.testing.assert_close(gaps(opened, turned, [point], 8)[point], gap / 2, atol=1e-4, rtol=1e-4)


def test_it_begins_at_random_or_where_the_prompt_leads():
    starts = {POINT: tiny.vector(POINT).directions[POINT]}
    given, drawn = Exchange(TEXTS, starts), Exchange(TEXTS)
    begun = given.start(POINT, tiny.WIDTH, 3.0, 0)
    torch.testing.assert_close(begun, 3 * starts[POINT] / starts[POINT].norm())
    first, again, other = (drawn.start(POINT, tiny.WIDTH, 3.0, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert float(other.norm()) == pytest.approx(3, rel=1e-5)


def test_a_sign_turns_what_is_exchanged_round():
    opened, gap, examples = planted()
    point = HookPoint(0, "resid_pre")
    turned = [replace(e, sign=-1.0) for e in examples]
    with torch.no_grad():
        plain, there, back = (
            float(loss_of(opened, some, point, v).mean())
            for some, v in ((examples, 0 * gap), (examples, gap), (turned, gap))
        )
    assert there < 1e-4 < plain < back


def test_the_vector_is_what_the_prompt_adds_along_the_direction(opened):
    there = replace(lesson(opened, n=3), points=(POINT,))
    steering = CDAS.fit(there)
    assert all(torch.equal(steering.directions[POINT], CDAS.fit(there).directions[POINT]) for _ in range(1))
    vector = steering.directions[POINT]
    with_it = there.writer.with_system("Be glad.")
    examples = [
        Counterfactual(w.prompt, with_it.write(item).prompt, w.answers[w.right], w.answers[1 - w.right])
        for w, item in zip(there.written, there.items, strict=True)
    ]
    gap = gaps(opened, examples, [POINT], 2)[POINT]
    assert float(vector @ gap) > 0
    assert float(vector @ gap) == pytest.approx(float(vector @ vector), rel=1e-3)
    (line,) = CDAS.report(steering.provenance.found)
    assert line.startswith("divergence of the predictions with and without the prompt, in nats per token")
    for changed in (replace(CDAS, positive="Be sad and slow, and say so."), replace(CDAS, start="random")):
        assert not torch.allclose(changed.fit(there).directions[POINT], vector, atol=1e-3)


@pytest.mark.slow
def test_dealt_labels_leave_little_of_the_vector(opened):
    there = replace(lesson(opened, n=12), points=(POINT,))
    real, nulls = CDAS.fit(there), [CDAS.fit(there.shuffled(seed)) for seed in range(3)]
    norms = sorted(null.norm(POINT) for null in nulls)
    assert norms[1] < 0.7 * real.norm(POINT)


@pytest.mark.parametrize("given, said", [({"kind": "text"}, "labelled texts have none"), ({}, "none was given")])
def test_what_it_cannot_be_made_of_is_one_clear_error(opened, given, said):
    positive = None if not given else "Be glad."
    with pytest.raises(FitError, match=said):
        Cdas(positive=positive, steps=1).fit(lesson(opened, n=2, **given))
