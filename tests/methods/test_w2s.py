"""'w2s': inputs that need different layers get them, and what the choice is fitted on."""

from __future__ import annotations

from functools import cache

import pytest
import torch
import transformers as tf
from hypothesis import given, settings, strategies as st

import tillerman
from tillerman.core.errors import FitError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.core.steerings.routed import RoutedSteering
from tillerman.core.steerings.vector import SteeringVector
from tillerman.core.store import Store
from tillerman.data.examples import Example
from tillerman.data.loading import LoadedData
from tillerman.evaluation.exam import Exam
from tillerman.methods import w2s
from tillerman.methods.choosing import fit_chooser
from tillerman.models.families import anatomy
from tillerman.pipeline.run import Unwatched
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.vectors import fit_methods

from .. import planted, tiny

FIRST, SECOND = HookPoint(0), HookPoint(1)


@cache
def switched() -> tillerman.OpenModel:
    """A model made by hand. A push along ``PUSH`` before block 1 makes it say yes where the question has "cat" and no
    where it has "mat"; the same push after block 1 does the opposite. Block 0 gathers the mean sign of the words."""
    sign, gathered, push, says = 1, 5, 2, 3
    tokenizer = tiny.tokenizer()
    causal = tf.LlamaForCausalLM(tiny.CONFIGS["llama"]()).eval()
    with torch.no_grad():
        for name, weights in causal.named_parameters():
            weights.fill_(1.0 if "norm" in name else 0.0)
        embedding, (zeroth, first, second) = causal.model.embed_tokens.weight, causal.model.layers
        embedding[:, 0] = 10.0  # the norm hardly depends on the rest
        (cat,), (mat,), (yes,), (no,) = (tokenizer(text)["input_ids"] for text in ("cat", "mat", "Yes", "No"))
        embedding[cat, sign], embedding[mat, sign] = 10.0, -10.0
        embedding[yes, push], embedding[no, push] = 2.0, -2.0  # what a contrast of the two answers finds
        zeroth.self_attn.v_proj.weight[0, sign] = zeroth.self_attn.o_proj.weight[gathered, 0] = 1.0
        for block, size in ((first, 2.0), (second, -1.0)):
            block.mlp.gate_proj.weight[0, push] = block.mlp.up_proj.weight[0, gathered] = 3.0
            block.mlp.down_proj.weight[says, 0] = size
        causal.lm_head.weight[yes, says], causal.lm_head.weight[no, says] = 1.0, -1.0
    return tillerman.OpenModel(causal, tokenizer, "switched", anatomy(causal))


@cache
def data() -> LoadedData:
    """Yes is always right: the vector is a push along one axis, and all that differs is where it helps."""
    examples = tuple(Example("yes_no", one.question, ("Yes", "No"), 0) for one in planted.signed(3, 60).examples)
    return LoadedData(examples, "switched", "made", "switched 60", (), ("Say yes.",))


@cache
def fitted(spec: str = "w2s", layers: tuple[int, ...] = (0, 1)):
    e = tillerman.Experiment(read="mean", layers=layers, max_train=24, max_validation=4, max_test=16, method=spec)
    run = set_up(e, switched(), data(), Store(None, ""), Unwatched())
    found, reasons = fit_methods(run)
    assert not reasons
    return run, next(iter(found.values()))


def odds(exam: Exam, *plans) -> torch.Tensor:
    """Of yes over no, ``[plans, items]``."""
    scores = torch.tensor(exam.scores_under(plans, Store(None, "")))
    right = torch.tensor([item.right for item in exam.items])[None, :, None].expand(len(plans), -1, -1)
    return (scores.gather(2, right) - scores.gather(2, 1 - right))[..., 0]


def plan(steering, dose: float = 0.3):
    point = steering.points[0]
    return (Intervention(steering, steering.strength(point, dose), scope=Scope("generated")),)


@pytest.mark.parametrize("spec", ["w2s", "w2s:read=last", "w2s:learn=best"])
def test_inputs_that_need_different_layers_get_them_where_any_fixed_layer_fails_half(spec):
    run, one = fitted(spec)
    vector, (at_first, at_second) = one.vector, (fitted("caa")[1].vector.at(p) for p in (FIRST, SECOND))
    assert isinstance(vector, RoutedSteering) and vector.points == (FIRST, SECOND)
    plain, chosen, first, second = odds(run.test, (), plan(vector), plan(at_first), plan(at_second))
    cats = torch.tensor(["cat" in item.example.question for item in run.test.items])
    assert 0 < cats.sum() < len(cats)
    moved = chosen - plain
    assert (moved > 0.05).all()
    assert ((first - plain > 0) == cats).all() and ((second - plain > 0) == ~cats).all()
    assert moved.mean() > 2 * max((first - plain).mean(), (second - plain).mean())
    told = vector.provenance.found
    assert told["moved"] == told["ideal"] > told["fixed"] and told["low"] > 0
    rows, worth = one.method.report(told)
    assert rows.startswith("training rows by the layer that their prompt chooses: layers.0.resid_post ")
    assert "at the layer chosen" in worth and "were the best for each known" in worth


def test_of_one_layer_it_is_caa():
    one, caa = fitted("w2s", (1,))[1].vector, fitted("caa", (1,))[1].vector
    assert isinstance(one, SteeringVector) and one.points == caa.points == (SECOND,)
    assert torch.equal(one.directions[SECOND], caa.directions[SECOND])
    assert one.stream_norms[SECOND] == pytest.approx(caa.stream_norms[SECOND])
    assert fitted("w2s", (1,))[1].method.report(one.provenance.found) == ("one layer to steer: the vector of caa",)


def test_every_layer_has_the_direction_of_caa_and_the_same_dose():
    vector, caa = fitted()[1].vector, fitted("caa")[1].vector
    for point in vector.points:
        assert float(torch.cosine_similarity(vector.vectors[point], caa.directions[point], dim=0)) > 0.99999
    doses = [vector.dose(point, 1.0) for point in vector.points]
    assert doses[0] == pytest.approx(doses[1]) == pytest.approx(sum(caa.dose(p, 1.0) for p in caa.points) / 2)


def test_the_random_null_keeps_the_choice_and_the_shuffled_one_is_fitted_anew():
    one = fitted()[1]
    drawn, dealt = one.random(3), one.shuffled(3)
    assert torch.equal(drawn.keys, one.vector.keys) and torch.equal(drawn.offsets, one.vector.offsets)
    assert abs(float(torch.cosine_similarity(drawn.vectors[FIRST], one.vector.vectors[FIRST], dim=0))) < 0.6
    assert not torch.equal(dealt.vectors[FIRST], one.vector.vectors[FIRST])
    assert dealt.points == one.vector.points and not torch.equal(dealt.keys, one.vector.keys)


def test_a_row_is_tried_with_vectors_that_were_fitted_without_it(monkeypatch):
    asked = []

    def tried(opened, taught, vectors, progress):
        asked.append((taught, vectors))
        return torch.zeros(len(taught), 1 + len(vectors))

    monkeypatch.setattr(w2s, "margins", tried)
    e = tillerman.Experiment(read="mean", layers=(0, 1), max_train=24, max_validation=4, max_test=4, method="w2s")
    run = set_up(e, tiny.opened(), data(), Store(None, ""), Unwatched())
    sides = []
    made = w2s.W2s.made
    monkeypatch.setattr(w2s.W2s, "made", lambda self, c, s, *a, **k: sides.append((c, s)) or made(self, c, s, *a, **k))
    fit_methods(run)
    (context, both), *_ = sides
    every = context.preferences("")
    assert len(asked) == 5 and sorted(t for some, _ in asked for t in map(id, some)) != []
    assert sum(len(some) for some, _ in asked) == len(every) == 24
    for some, vectors in asked:
        left = torch.tensor([one not in some for one in every])
        for point, v in vectors.items():
            gap = (both.positive[point][left] - both.negative[point][left]).mean(0)
            assert float(torch.cosine_similarity(v, gap, dim=0)) > 0.9999
            assert float(v.norm()) == pytest.approx(0.2 * both.stream_norms[point], rel=1e-4)


def test_layers_to_choose_among_lie_in_the_middle_where_all_may_be_steered():
    every = tuple(map(HookPoint, range(30)))
    assert [p.layer for p in w2s.candidates(every, 30, 4)] == [6, 12, 17, 23]
    some = tuple(map(HookPoint, (0, 1, 29)))
    assert w2s.candidates(some, None, 4) == some
    assert [p.layer for p in w2s.candidates(some, None, 2)] == [0, 29]
    assert w2s.candidates(every[:2], 2, 4) == every[:2]  # a model without a middle


def test_labelled_texts_and_a_single_item_are_refused_with_a_remedy():
    rows = tuple(Example("text", "", (f"the cat sat {i}", f"the dog lay {i}"), 0) for i in range(24))
    texts = LoadedData(rows, "texts", "made", "texts", (), ())
    e = tillerman.Experiment(layers=(0, 1), max_validation=4, max_test=4, method="w2s")
    with pytest.raises(FitError, match=r"w2s tries layers on the answers to training items.*caa"):
        fit_methods(set_up(e, tiny.opened(), texts, Store(None, ""), Unwatched()))
    run, _ = fitted()
    one = tillerman.Experiment(layers=(0, 1), max_train=1, max_validation=4, max_test=4, method="w2s")
    with pytest.raises(FitError, match="one training item"):
        fit_methods(set_up(one, run.opened, data(), Store(None, ""), Unwatched()))


def test_a_gate_beside_the_choice_is_refused_before_anything_is_fitted():
    with pytest.raises(tillerman.UsageError, match=r"w2s decides on the prompt.*takes no gate beside that"):
        tillerman.Experiment(method="caa,w2s", gate=tillerman.GateOptions("prompts.jsonl"))
    assert tillerman.Experiment(method="caa", gate=tillerman.GateOptions("prompts.jsonl")).gate is not None


@settings(max_examples=12)
@given(st.integers(0, 10_000), st.integers(3, 9), st.integers(1, 12), st.booleans())
def test_what_is_left_out_is_what_a_fit_without_the_row_says(seed, n, d, labels):
    drawn = torch.Generator().manual_seed(seed)
    rows, worth = torch.randn(n, d, generator=drawn), torch.randn(n, 3, generator=drawn)
    found = fit_chooser(rows, worth, labels=labels)
    value = worth.double()
    target = value - value.mean(1, keepdim=True)
    if labels:
        target = torch.nn.functional.one_hot(value.argmax(1), 3).double()
    wide = rows.double()
    spread = wide.std(0, correction=0)
    x = (wide - wide.mean(0)) / (spread + 1e-3 * spread.mean()) / d**0.5
    by_hand = []
    for i in range(n):
        rest = [k for k in range(n) if k != i]
        if found.ridge == float("inf"):
            by_hand.append(target[rest].mean(0))
            continue
        a, centre = x[rest], x[rest].mean(0)
        penalty = found.ridge * float((x @ x.T).diagonal().mean()) * torch.eye(d).double()
        w = torch.linalg.solve((a - centre).T @ (a - centre) + penalty, (a - centre).T @ target[rest])
        by_hand.append((x[i] - centre) @ w + target[rest].mean(0))
    places = torch.stack(by_hand).argmax(1)
    torch.testing.assert_close(found.chosen, value.gather(1, places[:, None])[:, 0])
    assert float(found.chosen.mean()) >= float(value.gather(1, _others(target))[:, 0].mean()) - 1e-9
    assert (found.ideal >= found.chosen - 1e-12).all()


def _others(target):
    rest = (target.sum(0) - target) / (len(target) - 1)
    return rest.argmax(1, keepdim=True)


def test_rows_that_are_alike_all_get_the_layer_that_is_best_for_all():
    worth = torch.tensor([[0.0, 1.0, 0.5]]).repeat(6, 1) + 0.1 * torch.randn(6, 3, generator=tiny_seed())
    found = fit_chooser(torch.ones(6, 4), worth)
    assert found.ridge == float("inf") and not found.keys.any() and int(found.offsets.argmax()) == 1
    torch.testing.assert_close(found.chosen, found.fixed)


def tiny_seed() -> torch.Generator:
    return torch.Generator().manual_seed(0)
