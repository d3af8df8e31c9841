"""Prompt steering replacement: what is read, what is recovered, and what its null is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tillerman.core.errors import FitError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention
from tillerman.core.steerings.gated import GatedSteering
from tillerman.core.steerings.vector import SteeringVector
from tillerman.data.examples import Example
from tillerman.data.presenting import present
from tillerman.data.writing import make_writer
from tillerman.methods.base import Context
from tillerman.methods.psr import Psr, _found
from tillerman.methods.readers import spread
from tillerman.steering.steer import steer

from .. import tiny

P, Q = HookPoint(1), HookPoint(2)
PROMPT = "the dog lay in the sun"
WORDS = ("apple", "stone", "river", "cat", "dog", "mat")


@pytest.fixture(scope="module")
def opened():
    return tiny.opened()


def lesson(opened, kind: str = "preference", points=(P, Q), n: int = 6) -> Context:
    answers = [(f"the {WORDS[i % 6]} sat on the mat", f"the {WORDS[i % 5]}") for i in range(n)]
    items = present([Example(kind, f"Which {WORDS[i % 6]} {i}?", answers[i], 0) for i in range(n)])
    writer = make_writer(opened.tokenizer)
    written = tuple(map(writer.write, items))
    return Context(opened, items, written, writer, tuple(points), tiny.provenance(), prompt=lambda: PROMPT)


def planted(n: int = 600, d: int = 12, seed: int = 0, noise: float = 0.1):
    """Tokens whose change has one direction and a strength that they show, of ``n / 6`` items."""
    drawn = torch.Generator().manual_seed(seed)
    h = torch.randn(n, d, generator=drawn) + 2
    w, z = torch.randn(d, generator=drawn) / d**0.5, torch.randn(d, generator=drawn)
    z = z / z.norm()
    strength = (h @ w + 0.2 - 2 * w.sum()).relu() * 3
    return h, strength[:, None] * z + noise * torch.randn(n, d, generator=drawn), torch.arange(n) // 6, strength, z


@pytest.mark.parametrize("seed", range(3))
def test_a_planted_direction_and_its_strengths_are_recovered(seed):
    h, change, items, strength, z = planted(seed=seed)
    found = _found(h, change, items, 0)
    assert float(found.direction[0] @ z.double()) > 0.99
    given = (h.double() @ found.keys[0] + found.offsets).relu()
    assert float(torch.corrcoef(torch.stack([given, strength.double()]))[0, 1]) > 0.99
    assert found.size == pytest.approx(float(strength.mean()), rel=0.05)
    assert found.gated > 0.9 > found.constant + 0.2  # of items held out
    assert found.silent == pytest.approx(float((strength == 0).double().mean()), abs=0.15)


def test_where_every_token_gets_the_same_the_gate_says_no_more_than_one_vector():
    h, _, items, _, z = planted()
    change = 2 * z + 0.1 * torch.randn(h.shape, generator=torch.Generator().manual_seed(5))
    found = _found(h, change, items, 0)
    assert found.gated == pytest.approx(found.constant, abs=0.02) and found.size == pytest.approx(2, rel=0.02)


def test_strengths_that_tokens_do_not_show_are_not_learned():
    h, change, items, _, _ = planted()
    found = _found(h, change[torch.randperm(len(h), generator=torch.Generator().manual_seed(1))], items, 0)
    assert found.gated < found.constant + 0.05


def test_it_reads_the_answer_tokens_and_the_prompts_end_with_and_without_the_prompt(opened):
    context = lesson(opened)
    steering = Psr(strength="constant").fit(context)
    told, plain = context.writer.with_system(PROMPT), context.writer
    differences, norms = [], []
    for item in context.items:
        states = []
        for writer in (told, plain):
            written = writer.write(item)
            with torch.no_grad():
                h = tiny.hidden_states(opened.model, torch.tensor([written.row(item.right).tokens]))[P.layer + 1][0]
            states.append(h[len(written.prompt) - 1 :])
        differences.append(states[0] - states[1])
        norms.append(states[1].norm(dim=1))
    assert isinstance(steering, SteeringVector)
    torch.testing.assert_close(steering.directions[P], torch.cat(differences).mean(0), atol=1e-4, rtol=1e-3)
    assert steering.stream_norms[P] == pytest.approx(float(torch.cat(norms).mean()), rel=1e-4)
    assert steering.provenance.found["tokens"] == len(torch.cat(norms))


def test_strength_one_adds_what_the_gate_says_and_no_more(opened):
    context = lesson(opened)
    steering = Psr().fit(context)
    assert isinstance(steering, GatedSteering) and steering.rule == "relu"
    seen = []
    ids = torch.tensor([context.written[0].row(0).tokens])
    plain = tiny.hidden_states(opened.model, ids)[P.layer + 1].detach()
    after = HookPoint(Q.layer, "resid_pre")
    with tiny.hook(opened.model, "llama", after, lambda h: seen.append(h.detach()) or None):
        with_it = steer(opened.model, Intervention(steering.at(P), 1.0))
        with with_it, torch.no_grad():
            opened.model(ids)
    keys, offset, z = steering.keys[P][0], steering.offsets[P], steering.values[P][0]
    torch.testing.assert_close(seen[0], plain + (plain @ keys + offset).relu()[..., None] * z, atol=1e-4, rtol=1e-4)
    assert float(z.norm()) == pytest.approx(1)


@pytest.mark.slow
def test_the_null_turns_what_the_prompt_adds_by_a_coin_for_each_item(opened):
    context = lesson(opened, n=12)
    real = Psr(strength="constant").fit(context)
    nulls = [Psr(strength="constant").fit(replace(context, dealt=seed)) for seed in range(6)]
    assert sum(null.norm(P) for null in nulls) / 6 < 0.6 * real.norm(P)
    signs = {float(null.directions[P] @ real.directions[P]) > 0 for null in nulls}
    assert signs == {True, False}


def test_no_more_tokens_than_asked_for_are_read_evenly_from_every_answer(opened):
    assert spread(3, 5) == [0, 1, 2] and spread(9, 3) == [0, 4, 8]
    assert Psr(tokens=12).fit(lesson(opened)).provenance.found["tokens"] == 12


def test_several_passes_give_what_one_does(opened, monkeypatch):
    whole = Psr().fit(lesson(opened))
    monkeypatch.setattr("tillerman.models.capture.AT_ONCE", 1)
    apart = Psr().fit(lesson(opened))
    assert all(torch.equal(whole.keys[p], apart.keys[p]) for p in (P, Q))


def test_what_it_cannot_be_fitted_on_is_named(opened):
    with pytest.raises(FitError, match=r"give --prompt TEXT .and --method psr:negative=TEXT"):
        Psr().fit(replace(lesson(opened), prompt=lambda: ""))
    with pytest.raises(FitError, match="labelled texts have none: use prompt-vector"):
        Psr().fit(lesson(opened, kind="text"))
    with pytest.raises(FitError, match="the prompt changes no activation"):
        _found(torch.randn(8, 3), torch.zeros(8, 3), torch.arange(8), 0)
    with pytest.raises(UsageError, match="psr: strength=loud: expected one of token, constant"):
        Psr(strength="loud")


def test_a_fit_says_what_the_gate_explains_beside_one_vector(opened):
    steering = Psr().fit(lesson(opened))
    (line,) = Psr().report(steering.provenance.found)
    assert line.startswith("what the prompt adds at") and "layers.1.resid_post" in line
