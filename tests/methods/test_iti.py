"""ITI: its probes against scipy, its vector against the definition by hand, and a planted head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import optimize

from tillerman.core.errors import FitError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.data.examples import Example
from tillerman.data.pairings import caa
from tillerman.data.presenting import present
from tillerman.data.writing import make_writer
from tillerman.methods import iti
from tillerman.methods.base import Context
from tillerman.methods.iti import Iti, held_out_accuracy
from tillerman.methods.registry import METHODS
from tillerman.models.capture import capture

from .. import tiny

HEADS = 4
POINTS = tuple(HookPoint(layer, "heads") for layer in range(tiny.LAYERS))
FEW = Iti(share=0.25, least=2, folds=3)


def lesson(opened, n=12, points=POINTS, kind="choice") -> Context:
    words = ["apple", "stone", "river", "cat", "dog", "mat"]
    items = present(
        [
            Example(kind, f"Which {words[i % 5]} {i}?", (words[i % 6], words[(i + 1 + i % 3) % 6]), i % 2)
            for i in range(n)
        ]
    )
    writer = make_writer(opened.tokenizer)
    return Context(opened, items, tuple(map(writer.write, items)), writer, points, tiny.provenance())


def test_iti_steers_the_heads_of_all_layers_at_once():
    assert (METHODS["iti"].habits.site, METHODS["iti"].habits.joint) == ("heads", True)


@settings(max_examples=15)
@given(st.integers(0, 1000), st.floats(0.0, 6.0))
def test_the_probes_are_scipys_logistic_regressions_separable_or_not(seed, gap):
    rng = np.random.default_rng(seed)
    scales = np.array([1.0, 10.0, 0.1])
    a, b = (rng.normal(size=(2, 20, 3)) + gap) * scales + 5, rng.normal(size=(2, 20, 3)) * scales + 5
    ours = iti._probes(torch.tensor(a), torch.tensor(b)).numpy()
    for head in range(2):
        both = np.concatenate([a[head], b[head]])
        x = (both - both.mean(0)) / both.std(0, ddof=1)
        sign = np.array([1.0] * 20 + [-1.0] * 20)

        def loss(w, x=x, sign=sign):
            return np.logaddexp(0, -sign * (x @ w[:-1] + w[-1])).mean() + 1e-2 * (w[:-1] ** 2).sum()

        found = optimize.minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-9}).x
        theirs = (both - both.mean(0)) / both.std(0, ddof=1) @ found[:-1] + found[-1]
        np.testing.assert_allclose(both @ ours[head, :-1] + ours[head, -1], theirs, rtol=5e-3, atol=5e-3)


def test_accuracy_is_that_of_pairs_held_out():
    """Noise that a probe could learn by heart is worth a coin; a gap of three deviations is worth 93 %."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(2, 2, 300, 40, generator=generator).double()
    noise[0, 1] += 3 / 40**0.5
    blind, telling = held_out_accuracy(noise[0], noise[1], 5, 0).tolist()
    assert 0.42 < blind < 0.58
    assert 0.86 < telling < 0.97


def test_a_pair_is_never_on_both_sides_of_a_fold():
    """Rows of one pair are alike but for the gap; were they split, a probe could know the one by the other."""
    asked = []
    real = iti._probes
    patch = pytest.MonkeyPatch()
    patch.setattr(iti, "_probes", lambda plus, minus: asked.append((plus, minus)) or real(plus, minus))
    marks = torch.arange(7.0).double()[None, :, None]
    try:
        held_out_accuracy(marks, marks + 100, 3, 0)
    finally:
        patch.undo()
    assert len(asked) == 3
    for plus, minus in asked:
        assert torch.equal(plus + 100, minus)
    assert sorted(len(plus[0]) for plus, _ in asked) == [4, 5, 5]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "qwen3_next", "deepseek_v3"])
def test_the_vector_is_the_definition_by_hand(family):
    opened = tiny.opened(family)
    given_ = lesson(opened)
    vector = FEW.fit(given_)
    contrast = caa(given_.items, given_.writer)
    seen = {p: [] for p in POINTS}
    handles = [
        tiny.hook(opened.model, family, p, lambda h, p=p: seen[p].append(h[0, -1].clone()) or None) for p in POINTS
    ]
    try:
        with torch.no_grad():
            for row in contrast.positive + contrast.negative:
                opened.model(input_ids=torch.tensor([row.tokens]))
    finally:
        for handle in handles:
            handle.remove()
    n = len(given_.items)
    table = {}
    # A random head may look at another token only; a layer of such heads tells nothing apart.
    tables = {p: torch.stack(h) for p, h in seen.items()}
    telling = {p for p, h in tables.items() if (h[:n].mean(0) - h[n:].mean(0)).norm() > 1e-6 * h.norm(dim=1).mean()}
    assert set(vector.points) == telling
    for point in vector.points:
        h = tables[point].double().reshape(2 * n, HEADS, -1).transpose(0, 1)
        accuracy = held_out_accuracy(h[:, :n], h[:, n:], FEW.folds, 0)
        gap = h[:, :n].mean(1) - h[:, n:].mean(1)
        unit = gap / gap.norm(dim=1, keepdim=True)
        sd = torch.einsum("hnk,hk->hn", h, unit).std(1, correction=0)
        table |= {(point.layer, k): (float(accuracy[k]), sd[k] * unit[k]) for k in range(HEADS)}
    best = sorted(table, key=lambda key: -table[key][0])[: len(table) // 4]
    assert [tuple(row[:2]) for row in vector.provenance.found["heads"]] == best
    for point in vector.points:
        expected = [table[point.layer, k][1] * ((point.layer, k) in best) for k in range(HEADS)]
        torch.testing.assert_close(vector.directions[point].double(), torch.cat(expected), atol=1e-4, rtol=1e-3)


def test_linear_attention_has_its_own_number_of_heads():
    opened = tiny.fresh_opened("qwen3_next")
    opened.model.config.linear_num_value_heads = 2
    assert [opened.parts.heads_at(p) for p in POINTS] == [2, HEADS, 2]


@pytest.mark.parametrize(("share", "least", "count"), [(1 / 8, 4, 4), (0.5, 4, 6), (1.0, 1, 12), (0.01, 100, 12)])
def test_as_many_heads_are_steered_as_asked_for(opened, share, least, count):
    vector = Iti(share, least).fit(lesson(opened))
    assert len(vector.provenance.found["heads"]) == count
    moved = sum(int((v.reshape(HEADS, -1).norm(dim=1) > 0).sum()) for v in vector.directions.values())
    assert moved == count


def test_a_planted_head_is_found(opened, monkeypatch):
    """Head 2 of layer 1 is made to tell the sides apart; all else is noise."""
    given_ = lesson(opened, n=80)
    generator = torch.Generator().manual_seed(1)

    def planted(_, rows, points, **more):
        seen = {p: torch.randn(len(rows), tiny.WIDTH, generator=generator) for p in points}
        seen[POINTS[1]][: len(rows) // 2, 16:24] += 1.5
        return seen

    monkeypatch.setattr(iti, "capture", planted)
    vector = Iti(share=0.01, least=1).fit(given_)
    assert vector.provenance.found["heads"][0][:2] == [1, 2]
    assert vector.provenance.found["heads"][0][2] > 0.95
    direction = vector.directions[POINTS[1]]
    assert float(direction[16:24].min()) > 0
    assert float(direction.abs().sum() - direction[16:24].abs().sum()) == 0
    # along a gap of 1.5 * sqrt(8): half of it, and the noise
    assert vector.norm(POINTS[1]) == pytest.approx((1 + (1.5 * 8**0.5 / 2) ** 2) ** 0.5, rel=0.1)


def test_the_random_null_moves_the_same_heads_as_far(opened):
    vector = FEW.fit(lesson(opened))
    null = vector.random_like(5)
    for point in POINTS:
        assert torch.equal(null.directions[point] != 0, vector.directions[point] != 0)
        assert null.norm(point) == pytest.approx(vector.norm(point), rel=1e-5)
    assert not torch.allclose(null.directions[POINTS[0]], vector.directions[POINTS[0]])


def test_the_heads_are_told_to_people(opened):
    (line,) = FEW.report(FEW.fit(lesson(opened)).provenance.found)
    assert line.startswith("heads steered (accuracy of their probes on pairs held out): layer ")
    assert line.count("head ") == 3


def test_labelled_texts_are_read_over_the_whole_text(opened, monkeypatch):
    asked = []
    monkeypatch.setattr(iti, "capture", lambda *a, **more: asked.append(more["read"]) or capture(*a, **more))
    for kind in ("choice", "text"):
        FEW.fit(lesson(opened, kind=kind))
    assert asked == ["last", "mean"]


def test_what_it_cannot_do_is_refused_with_the_remedy(opened):
    with pytest.raises(UsageError, match="heads, not resid_post"):
        FEW.fit(lesson(opened, points=(HookPoint(1),)))
    with pytest.raises(FitError, match=r"1 pair of answers: .* give more items"):
        FEW.fit(lesson(opened, n=1))
    for bad in ({"share": 0.0}, {"share": 1.5}, {"least": 0}, {"folds": 1}):
        with pytest.raises(UsageError, match="expected"):
            replace(FEW, **bad)
