"""A vector at the layer that the prompt chooses: row by row, over any cache, and never a half-read prompt."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

import tillerman
from tillerman.core.choices import ChoiceGate, LayerChoice
from tillerman.core.errors import FitError, MismatchError, UnknownNameError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.monitors import Monitor
from tillerman.core.plan import Intervention, Scope
from tillerman.core.rows import Row
from tillerman.core.steerings.routed import RoutedSteering
from tillerman.core.steerings.vector import SteeringVector
from tillerman.evaluation.side_effects import _border
from tillerman.models.capture import capture
from tillerman.models.logits import answer_logprobs
from tillerman.serving.lanes import problem
from tillerman.steering.steer import steer, steer_rows

from .. import tiny
from .watch import equal_bits

ROWS = tiny.random_rows([5, 9, 3, 6], seed=2)
POINTS = (HookPoint(1), HookPoint(2))
READ = HookPoint(0)


def routed(read: str = "mean", at: HookPoint = READ, size: float = 2.0) -> tuple[RoutedSteering, list[int]]:
    """For two of the rows the first layer is chosen, and the second for the others."""
    h = capture(tiny.opened(), [Row(row) for row in ROWS], [at], read=read)[at]
    key = tiny.vector(at, seed=9).directions[at]
    along = h @ key
    middle = float(along.sort().values[1:3].mean())
    vectors = {p: size * tiny.vector(p, seed=p.layer).directions[p] for p in POINTS}
    made = tiny.provenance()
    choice = LayerChoice(torch.stack([key, -key]), torch.tensor([-middle, middle]), at, read)
    return RoutedSteering.of(vectors, dict.fromkeys(POINTS, 2.0), made, choice), (along <= middle).long().tolist()


def single(steering: RoutedSteering, place: int) -> SteeringVector:
    point = POINTS[place]
    return SteeringVector({point: steering.vectors[point]}, {point: 2.0}, steering.provenance)


def generate(model, rows=ROWS, side="left", cache="dynamic", **more):
    ids, mask = tiny.padded(rows, side)
    out = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=4,
        min_new_tokens=4,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        **({"use_cache": False} if cache == "none" else {"cache_implementation": cache}),
        **more,
    )
    return torch.stack(out.logits, 1)


@pytest.mark.parametrize(
    ("read", "at", "cache"), [("mean", READ, "dynamic"), ("last", POINTS[0], "none"), ("mean", POINTS[0], "static")]
)
def test_each_row_is_steered_at_the_layer_that_its_prompt_chooses_as_if_by_that_vector(read, at, cache):
    steering, chosen = routed(read, at)
    assert sorted(chosen) == [0, 0, 1, 1]
    model = tiny.model()
    with steer(model, Intervention(steering, 1.5)) as steered:
        together = generate(model, cache=cache)
    for place in (0, 1):
        with steer(model, Intervention(single(steering, place), 1.5)):
            fixed = generate(model, cache=cache)
        for i, mine in enumerate(chosen):
            assert equal_bits(together[i], fixed[i]) == (mine == place)
    (record,) = steered.receipt.applied
    assert all(count > 0 for count in record.tokens.values())
    assert f"layer chosen by the prompt's {read} at {at}" in str(steered.receipt)


def test_a_row_alone_is_what_it_is_in_the_batch():
    steering, chosen = routed()
    model = tiny.model()
    with steer_rows(model, [(Intervention(steering, 1.5),)] * 4):
        together = generate(model)
    for i, row in enumerate(ROWS):
        with steer(model, Intervention(steering, 1.5)) as steered:
            torch.testing.assert_close(generate(model, [row])[0], together[i], atol=2e-4, rtol=1e-3)
        counts = [steered.receipt.applied[0].tokens[str(p)] for p in POINTS]
        assert counts[chosen[i]] > 0 == counts[1 - chosen[i]]


def test_beams_and_answers_go_on_at_their_prompts_layer():
    steering, chosen = routed()
    model, ids = tiny.model(), torch.tensor([ROWS[0]])
    with torch.no_grad(), steer(model, Intervention(steering, 1.5)) as steered:
        model.generate(input_ids=ids, num_beams=3, max_new_tokens=3, min_new_tokens=3, do_sample=False)
    counts = [steered.receipt.applied[0].tokens[str(p)] for p in POINTS]
    assert counts[chosen[0]] > len(ROWS[0]) and counts[1 - chosen[0]] == 0
    rows = [Row((*row, 7, 8 + k), len(row)) for row in ROWS for k in range(2)]
    opened = tiny.opened()
    with steer(opened, Intervention(steering, 1.5), allow_mismatch=True):
        scores = answer_logprobs(opened, rows)
    for i, place in enumerate(chosen):
        with steer(opened, Intervention(single(steering, place), 1.5), allow_mismatch=True):
            mine = answer_logprobs(opened, rows[2 * i : 2 * i + 2])
        torch.testing.assert_close(scores[2 * i : 2 * i + 2], mine, atol=1e-4, rtol=1e-4)


def test_a_prompt_in_pieces_or_outside_the_block_is_refused():
    steering, _ = routed()
    model, ids = tiny.model(), torch.tensor([ROWS[1]])
    plan = Intervention(steering, 1.5)
    with torch.no_grad(), steer(model, plan, must_apply=False), pytest.raises(UsageError, match="in one pass"):
        model.generate(input_ids=ids, max_new_tokens=2, prefill_chunk_size=3, do_sample=False)
    cache = DynamicCache()
    with torch.no_grad():
        model(input_ids=ids, past_key_values=cache)
        with steer(model, plan, must_apply=False), pytest.raises(UsageError, match="has read no prompt"):
            model(input_ids=torch.tensor([[5]]), past_key_values=cache)


def test_a_scope_that_means_no_token_is_an_error_though_a_layer_not_chosen_is_none():
    steering, _ = routed()
    model = tiny.model()
    away = Intervention(steering, 1.5, scope=Scope("positions", (99,)))
    with pytest.raises(tillerman.NotAppliedError, match="nothing was steered"), steer(model, away):
        model(input_ids=torch.tensor([ROWS[0]]))


def test_a_gate_or_a_monitor_beside_the_choice_is_refused_and_other_engines_say_no():
    steering, _ = routed()
    gate = tillerman.SimilarityGate(torch.ones(tiny.WIDTH), READ, 0.1)
    monitor = Monitor(torch.ones(tiny.WIDTH), READ, 0.1)
    for other in (gate, monitor):
        with pytest.raises(UsageError, match="gated by its own choice of a layer"):
            Intervention(steering, 1.0, gate=other)
    assert "depends on what the model reads is not served by this engine" in problem((Intervention(steering),))


def test_the_first_block_that_counts_is_one_that_the_choice_reads():
    steering, _ = routed()
    assert _border((Intervention(steering),)) == 1  # layers.0.resid_post is handed on from there
    assert _border((Intervention(single(steering, 0)),)) == 2


def test_among_fewer_layers_each_text_gets_the_better_of_these():
    steering, _ = routed()
    only = steering.at(POINTS[1])
    model = tiny.model()
    with steer(model, Intervention(only, 1.5)):
        one = generate(model)
    with steer(model, Intervention(single(steering, 1), 1.5)):
        assert equal_bits(one, generate(model))


def test_choices_refuse_what_they_cannot_read():
    steering, _ = routed()
    keys, offsets = torch.ones(2, tiny.WIDTH), torch.zeros(2)
    for given, error in (
        ((keys, torch.zeros(3), READ), FitError),
        ((keys[0], offsets, READ), FitError),
        ((float("nan") * keys, offsets, READ), FitError),
        ((keys, offsets, READ, "first"), UnknownNameError),
    ):
        with pytest.raises(error):
            LayerChoice(*given)
    norms = dict.fromkeys(POINTS, 2.0)
    with pytest.raises(FitError, match=r"reads layers\.2\.resid_post, after layers\.1\.resid_post is steered"):
        RoutedSteering.of(steering.vectors, norms, steering.provenance, LayerChoice(keys, offsets, POINTS[1]))
    with pytest.raises(FitError, match="a choice among 3 places for 2 hook points"):
        three = LayerChoice(torch.ones(3, tiny.WIDTH), torch.zeros(3), READ)
        RoutedSteering.of(steering.vectors, norms, steering.provenance, three)
    narrow = RoutedSteering.of(
        steering.vectors, norms, steering.provenance, LayerChoice(torch.ones(2, 5), offsets, READ)
    )
    with pytest.raises(MismatchError, match="has width 5, the model 32"), steer(tiny.model(), Intervention(narrow)):
        pass


def test_activations_that_are_no_numbers_choose_the_first_place_and_only_that():
    choice = LayerChoice(torch.eye(3), torch.zeros(3), READ)
    h = torch.tensor([[float("nan")] * 3, [0.0, 2.0, 1.0], [1.0, 1.0, 1.0]])
    assert choice.chosen(h).tolist() == [0, 1, 0]
    opened = torch.stack([ChoiceGate(choice, k).opens(h) for k in range(3)])
    assert opened.sum(0).tolist() == [1, 1, 1]
