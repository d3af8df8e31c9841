"""RICE: nPMI by hand and by its formula, planted experts found, nulls, and every refusal."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tillerman.core.errors import FitError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import Row
from tillerman.data.writing import make_writer
from tillerman.methods.base import Context
from tillerman.methods.registry import method, methods
from tillerman.methods.rice import Rice, RiceRenormalised
from tillerman.models.experts import RoutingCounts, count_routing, npmi
from tillerman.models.families import anatomy
from tillerman.models.opened import OpenModel

from .. import mixture, tiny

OPENS, CLOSES = 40, 41  # token ids that stand for the tags
POINTS = tuple(HookPoint(layer, "router_weights") for layer in range(3))
EXPERTS = 4
A, B = (tiny.tokenizer().convert_ids_to_tokens(token) for token in (OPENS, CLOSES))
MARKS = {A: 1.0, B: -1.0}


def _rows(count=12, seed=0):
    """Replies with one tag of each kind; the prompts are of five tokens."""
    rows = []
    for row in tiny.random_rows([22 + i % 5 for i in range(count)], seed):
        tokens = [t if t not in (OPENS, CLOSES) else 50 for t in row]
        tokens[6], tokens[15] = OPENS, CLOSES
        rows.append(Row(tuple(tokens), 5))
    return rows


def _planted(family="qwen3_moe"):
    """A model whose layer 1 sends the opening tag to expert 3 and whose layer 2 sends the closing one to expert 2:
    the tags' embeddings point far along directions of their own, which only these experts' routers look for. All
    tokens share a third direction, which these routers avoid; the other experts do not tell tokens apart."""
    causal = tiny.new_model(family)
    drawn = torch.linalg.qr(torch.randn(tiny.WIDTH, 3, generator=torch.Generator().manual_seed(1)))[0].T
    embeddings = causal.get_input_embeddings().weight.data
    embeddings -= embeddings @ drawn.T @ drawn
    embeddings += drawn[2]
    routers = [mixture.router_of(block.mlp, family).weight.data.zero_() for block in tiny.blocks(causal, family)]
    for token, layer, expert, direction in ((OPENS, 1, 3, drawn[0]), (CLOSES, 2, 2, drawn[1])):
        embeddings[token] = 10 * direction + drawn[2]
        routers[layer][expert] = 5 * (direction - drawn[2])
    return OpenModel(causal, tiny.tokenizer(), "planted", anatomy(causal))


def _rice(experts, marks, kind=Rice):
    return kind(experts, " ".join(f"{word}={number:g}" for word, number in marks.items()))


def _lesson(opened, rows, points=POINTS):
    return Context(opened, (), (), make_writer(opened.tokenizer), points, tiny.provenance(), replies=lambda: rows)


def test_npmi_is_the_worked_figure_of_the_paper():
    zero = torch.zeros(1, 1, dtype=torch.float64)
    counts = RoutingCounts(10_000, torch.tensor([30.0]).double(), zero + 300, zero[None] + 30, torch.ones(1))
    assert float(npmi(counts)) == pytest.approx(0.6036, abs=1e-4)
    assert float(npmi(replace(counts, both=zero[None]))) == -1.0


@settings(max_examples=30)
@given(st.integers(0, 1000))
def test_npmi_agrees_with_counting_by_hand_and_stays_between_minus_one_and_one(seed):
    generator = torch.Generator().manual_seed(seed)
    hit = torch.rand(40, 2, 3, generator=generator) < 0.4
    mark = torch.rand(2, 40, generator=generator) < 0.3
    mark[:, 0] = True
    both = torch.einsum("wt,tle->wle", mark.double(), hit.double())
    got = npmi(RoutingCounts(40, mark.sum(1).double(), hit.sum(0).double(), both, torch.ones(2)))
    assert bool((got.abs() <= 1 + 1e-12).all())
    for w in range(2):
        for layer in range(2):
            for e in range(3):
                k = sum(bool(mark[w, t] and hit[t, layer, e]) for t in range(40))
                p_both, p_w, p_e = k / 40, int(mark[w].sum()) / 40, int(hit[:, layer, e].sum()) / 40
                wanted = -1.0 if k == 0 else math.log(p_both / (p_w * p_e)) / -math.log(p_both)
                assert float(got[w, layer, e]) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("family", tiny.MIXTURES)
def test_counts_are_those_of_one_row_at_a_time_with_the_choice_made_by_hand(family):
    opened, rows = tiny.opened(family), _rows(5)
    point = HookPoint(1, "router_weights")
    marks = [torch.tensor([[t == OPENS for t in row.tokens], [t == CLOSES for t in row.tokens]]) for row in rows]
    counts = count_routing(opened, rows, marks, [point])
    mlp, seen = tiny.blocks(opened.model, family)[1].mlp, []
    router = mixture.router_of(mlp, family)
    handle = mlp.register_forward_pre_hook(lambda _, args: seen.append(args[0][0]))
    chosen, both = torch.zeros(EXPERTS), torch.zeros(2, EXPERTS)
    with torch.no_grad():
        for row, mark in zip(rows, marks, strict=True):
            opened.model(torch.tensor([row.tokens]))
            for at, x in enumerate(seen.pop()):
                for e in mixture.choice(family, router, mixture.logits_of(router, x)):
                    chosen[e] += 1
                    both[:, e] += mark[:, at]
    handle.remove()
    assert counts.tokens == sum(len(row.tokens) for row in rows)
    assert counts.marked.tolist() == [5, 5]
    assert torch.equal(counts.chosen[0], chosen.double())
    assert torch.equal(counts.both[:, 0], both.double())


def test_planted_thinking_experts_are_found_and_steered():
    lesson = _lesson(_planted(), _rows())
    opening = _rice(1, {A: 1.0}).fit(lesson)
    assert [p for p in POINTS if opening.directions[p].any()] == [POINTS[1]]
    assert opening.directions[POINTS[1]].tolist() == [0, 0, 0, 1]
    closing = _rice(1, {B: 1.0}).fit(lesson)
    assert closing.directions[POINTS[2]].tolist() == [0, 0, 1, 0]
    both = _rice(2, {A: 1.0, B: -0.5}).fit(lesson)
    assert both.directions[POINTS[1]][3] == 1 and sum(int(v.sum()) for v in both.directions.values()) == 2
    first = both.provenance.found["experts"][0]
    assert (first["layer"], first["expert"]) == (1, 3) and first["score"] > 0.5
    assert (both.operator, _rice(1, MARKS, RiceRenormalised).fit(lesson).operator) == ("scale", "reweigh")


def test_marks_in_a_prompt_do_not_count_but_its_tokens_do():
    rows = _rows()
    asked = [Row((OPENS, CLOSES, OPENS, *row.tokens[3:]), row.read_from) for row in rows]
    plain, named = (_rice(1, MARKS).fit(_lesson(tiny.opened("qwen3_moe"), r)) for r in (rows, asked))
    assert named.provenance.found["marks"] == plain.provenance.found["marks"] == {A: 12, B: 12}
    assert named.provenance.found["tokens"] == plain.provenance.found["tokens"]


def test_a_template_that_opens_the_thought_itself_is_counted():
    opened_by_template = [Row((*row.tokens[:4], OPENS, *row.tokens[7:]), 5) for row in _rows()]
    found = _rice(1, MARKS).fit(_lesson(tiny.opened("qwen3_moe"), opened_by_template)).provenance.found
    assert found["marks"][A] == 12


def test_the_shuffled_null_deals_the_marks_anew_and_the_random_one_the_experts():
    lesson = _lesson(_planted(), _rows())
    real = _rice(1, {A: 1.0}).fit(lesson)
    dealt = [_rice(1, {A: 1.0}).fit(lesson.shuffled(seed)) for seed in range(6)]
    assert all(d.provenance.found["marks"] == {A: 12} for d in dealt)
    assert any(not torch.equal(d.directions[POINTS[1]], real.directions[POINTS[1]]) for d in dealt)
    again = _rice(1, {A: 1.0}).fit(lesson.shuffled(3))
    assert all(torch.equal(again.directions[p], dealt[3].directions[p]) for p in POINTS)
    draws = [real.random_like(seed) for seed in range(20)]
    assert all(sum(float(v.sum()) for v in draw.directions.values()) == 1 for draw in draws)
    assert all(draw.operator == "scale" for draw in draws)
    places = {next((p, int(v.argmax())) for p, v in draw.directions.items() if v.any()) for draw in draws}
    assert len(places) > 4


def test_what_was_found_is_said_in_words():
    found = _rice(2, {A: 1.0, B: -0.5}).fit(_lesson(_planted(), _rows())).provenance.found
    lines = Rice().report(found)
    assert f"12 {A}, 12 {B}" in lines[0]
    assert lines[1].startswith("experts by score, the first 2 steered: layer 1 expert 3 (+")


@pytest.mark.parametrize(
    ("options", "rows", "error", "said"),
    [
        (_rice(1, {A: 1.0}), [], FitError, "no replies to count over"),
        (_rice(1, {A: 1.0}), [Row(tuple(range(50, 60)), 2)], FitError, f"none of the 1 replies holds {A!r}"),
        (_rice(1, {"stone#": 1.0}), _rows(2), FitError, r"'stone#' is \d tokens"),
        (_rice(13, {A: 1.0}), _rows(2), FitError, "13 experts asked for, the tokens chose"),
    ],
)
def test_what_rice_cannot_use_is_one_clear_error(options, rows, error, said):
    with pytest.raises(error, match=said):
        options.fit(_lesson(tiny.opened("qwen3_moe"), rows))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"experts": 0}, "at least 1"),
        ({"marks": "a=-1"}, "coefficient above 0"),
        ({"marks": "a"}, "write WORD=NUMBER"),
    ],
)
def test_options_that_make_no_sense_are_refused(values, said):
    with pytest.raises(UsageError, match=said):
        Rice(**values)


def test_the_papers_grid_is_a_group_and_its_setting_a_method():
    assert [m.experts for m in methods("rice-grid")] == [1, 2, 3, 4, 5]
    assert str(method("rice-7")) == "rice:experts=7" and method("rice-2") == method("rice")
    for name in ("rice", "rice-renormalised", "rice-7"):
        assert 63.0 in method(name).habits.doses  # beta 64
