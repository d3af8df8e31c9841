"""Gates are decided on the prompt, row by row, and kept for what follows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st
from transformers import DynamicCache

from tillerman.core.errors import FitError, HookPointError, MismatchError, UnknownNameError, UsageError
from tillerman.core.gates import ProbeGate, SimilarityGate
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.core.rows import Row
from tillerman.methods.gates import fit_gate
from tillerman.models.capture import capture
from tillerman.steering.steer import steer, steer_rows

from .. import tiny
from .watch import equal_bits

ROWS = tiny.random_rows([5, 9, 3, 6], seed=2)
READ, STEERED = HookPoint(1), HookPoint(2)


def _prompts(read, point=READ):
    """What capture gives for the prompts alone: [n, d]."""
    rows = [Row(row) for row in ROWS]
    return capture(tiny.opened(), rows, [point], read=read)[point]


def _gates(read, point=READ):
    """A gate of each kind that opens for two of the four rows, and the rows."""
    h = _prompts(read, point)
    direction = tiny.vector(point, seed=9).directions[point]
    cosines = torch.nn.functional.cosine_similarity(h, direction[None], dim=-1)
    dots = h @ direction
    middle = float(cosines.sort().values[1:3].mean())
    bias = -float(dots.sort().values[1:3].mean())
    return [
        (SimilarityGate(direction, point, middle, read=read), cosines > middle),
        (SimilarityGate(direction, point, middle, above=False, read=read), cosines <= middle),
        (ProbeGate(direction, bias, point, read=read), dots + bias > 0),
    ]


def _generate(model, cache="dynamic", side="left", rows=ROWS):
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
    )
    return torch.stack(out.logits, 1)


@pytest.mark.parametrize("cache", ["dynamic", "static", "none"])
@pytest.mark.parametrize("read", ["mean", "last"])
@pytest.mark.parametrize("kind", [0, 1, 2])
def test_rows_whose_gate_is_shut_are_bit_equal_and_the_others_steered_as_without_a_gate(kind, read, cache):
    gate, opened = _gates(read)[kind]
    assert opened.sum() == 2
    model, vector = tiny.model(), tiny.vector(STEERED)
    plain = _generate(model, cache)
    with steer(model, Intervention(vector, 2.0)) as free:
        always = _generate(model, cache)
    with steer(model, Intervention(vector, 2.0, gate=gate)) as steered:
        gated = _generate(model, cache)
    for i in range(4):
        assert equal_bits(gated[i], always[i] if opened[i] else plain[i])
    (record,), (all_,) = steered.receipt.applied, free.receipt.applied
    assert 0 < record.tokens[str(STEERED)] < all_.tokens[str(STEERED)]
    assert record.gate == str(gate) and f"gate {gate}" in str(steered.receipt)


def test_a_gate_reads_before_its_own_hook_point_is_steered():
    gate, opened = _gates("mean", STEERED)[0]
    model, plan = tiny.model(), (Intervention(tiny.vector(STEERED, size=1e3), 1.0),)
    both = (*plan, Intervention(tiny.vector(STEERED, seed=3), 2.0, gate=gate))
    with steer(model, both) as steered:
        model(**dict(zip(("input_ids", "attention_mask"), tiny.padded(ROWS, "right"), strict=True)))
    lengths = torch.tensor([len(row) for row in ROWS])
    assert steered.receipt.applied[1].tokens == {str(STEERED): int(lengths[opened].sum())}


def test_the_decision_is_kept_when_what_is_generated_would_change_it():
    """Steered with a huge vector from the first token on, without a cache: the prompt is read again each step."""
    model, direction = tiny.model(), tiny.vector(READ, seed=9).directions[READ]
    gate, opened = _gates("last")[0]
    plan = Intervention(tiny.vector(STEERED), 2.0, "add", Scope("generated"), gate)
    with steer(model, plan) as steered:
        _generate(model, "none")
    assert steered.receipt.applied[0].tokens == {str(STEERED): int(opened.sum()) * (1 + 2 + 3 + 4)}
    cache = DynamicCache()
    with torch.no_grad(), steer(model, plan) as steered:
        model(input_ids=torch.tensor([ROWS[int(opened.nonzero()[0])]]), past_key_values=cache)
        for _ in range(3):
            model(inputs_embeds=-1e3 * direction[None, None], past_key_values=cache)
    assert steered.receipt.applied[0].tokens == {str(STEERED): 1 + 3}


def test_a_new_prompt_is_decided_anew():
    gate, opened = _gates("mean")[0]
    model, plan = tiny.model(), Intervention(tiny.vector(STEERED), 2.0, gate=gate)
    with steer(model, plan) as steered:
        counts = []
        for row in ROWS:
            model(input_ids=torch.tensor([row]))
            counts.append(steered.receipt.applied[0].tokens[str(STEERED)])
    assert counts == torch.tensor([len(r) if o else 0 for r, o in zip(ROWS, opened, strict=True)]).cumsum(0).tolist()


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_and_neighbours_do_not_move_a_gate(side):
    gate, opened = _gates("mean")[0]
    model, plan = tiny.model(), Intervention(tiny.vector(STEERED), 2.0, gate=gate)
    ids, mask = tiny.padded(ROWS, side, pad=77)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad(), steer(model, plan) as steered:
        model(input_ids=ids, attention_mask=mask, position_ids=positions)
    expected = sum(len(row) for row, o in zip(ROWS, opened, strict=True) if o)
    assert steered.receipt.applied[0].tokens == {str(STEERED): expected}


def test_rows_may_have_gates_of_their_own():
    (up, opened), (down, _), _ = _gates("mean")
    model, vector = tiny.model(), tiny.vector(STEERED)
    plans = [(Intervention(vector, 2.0, gate=up if i % 2 else down),) for i in range(4)]
    plain = _generate(model)
    with steer_rows(model, plans):
        steered = _generate(model)
    for i in range(4):
        assert equal_bits(plain[i], steered[i]) != (bool(opened[i]) == bool(i % 2))


def test_a_gate_that_stays_shut_is_no_error():
    gate = SimilarityGate(torch.ones(tiny.WIDTH), READ, 1.5)
    with steer(tiny.model(), Intervention(tiny.vector(STEERED), 1.0, gate=gate)) as steered:
        tiny.model()(input_ids=torch.tensor([[5, 6]]))
    assert not steered.receipt.applied[0].touched


@pytest.mark.parametrize(
    "read, steered",
    [
        (HookPoint(2), HookPoint(1)),
        (HookPoint(1, "resid_post"), HookPoint(1, "resid_pre")),
        (HookPoint(1, "mlp_out"), HookPoint(1, "attn_out")),
    ],
    ids=str,
)
def test_a_gate_that_reads_after_what_it_gates_is_refused(read, steered):
    gate = ProbeGate(torch.ones(tiny.WIDTH), 0.0, read)
    with pytest.raises(UsageError, match=rf"the gate reads {read}, after {steered} is steered"):
        Intervention(tiny.vector(steered, 2), 1.0, gate=gate)


def test_a_prompt_cached_before_the_block_or_cut_in_parts_cannot_be_gated():
    model, ids = tiny.model(), ROWS[1]
    plan = Intervention(tiny.vector(STEERED), 2.0, gate=_gates("mean")[0][0])
    cache = DynamicCache()
    with torch.no_grad():
        model(input_ids=torch.tensor([ids[:4]]), past_key_values=cache)
    with pytest.raises(UsageError, match="has read no prompt"), torch.no_grad(), steer(model, plan):
        model(input_ids=torch.tensor([ids[4:]]), past_key_values=cache)
    cache = DynamicCache()
    with torch.no_grad():
        model(input_ids=torch.tensor([ids[:4]]), past_key_values=cache)
    with pytest.raises(UsageError, match="holds a part of it"), steer(model, plan):
        model.generate(input_ids=torch.tensor([ids]), past_key_values=cache, max_new_tokens=2)


def test_gates_that_cannot_work_are_refused():
    wide = torch.ones(tiny.WIDTH)
    with pytest.raises(FitError, match="length 0"):
        SimilarityGate(torch.zeros(4), READ, 0.0)
    with pytest.raises(FitError, match=r"expected a finite vector of shape \[d\]"):
        ProbeGate(torch.tensor([float("nan")]), 0.0, READ)
    with pytest.raises(UsageError, match="expected a finite number"):
        SimilarityGate(wide, READ, float("nan"))
    with pytest.raises(UnknownNameError, match="no gate read named 'first'"):
        ProbeGate(wide, 0.0, READ, read="first")
    for gate, error in (
        (ProbeGate(torch.ones(5), 0.0, READ), MismatchError),
        (ProbeGate(wide, 0.0, HookPoint(9)), HookPointError),
    ):
        with (
            pytest.raises(error),
            steer(tiny.model(), Intervention(tiny.vector(9 if error is HookPointError else 2), 1.0, gate=gate)),
        ):
            pass


def test_a_gates_numbers_are_its_own():
    given = torch.ones(4)
    gate = ProbeGate(given, 0.0, READ)
    given.zero_()
    assert gate.weights.tolist() == [1.0] * 4


def _brute(scores, wanted):
    """The best F1 of any threshold, either side."""
    best = 0.0
    for cut in torch.linspace(-1.01, 1.01, 2001).tolist():
        for picked in (scores > cut, scores <= cut):
            if 0 < int(picked.sum()) < len(picked):
                best = max(best, 2 * float((picked & wanted).sum()) / float(picked.sum() + wanted.sum()))
    return best


@pytest.mark.slow
@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(3, 12))
def test_the_fitted_gate_has_the_best_f1_of_all_thresholds(seed, n):
    generator = torch.Generator().manual_seed(seed)
    vector = tiny.vector(0, 1, width=4)
    activations = {p: torch.randn(n, 4, generator=generator) for p in vector.points}
    wanted = torch.rand(n, generator=generator) > 0.5
    wanted[0], wanted[1] = True, False
    fitted = fit_gate(vector, activations, wanted)
    cosines = {
        p: torch.nn.functional.cosine_similarity(activations[p], vector.directions[p][None]) for p in vector.points
    }
    assert fitted.f1 >= max(_brute(c, wanted) for c in cosines.values()) - 1e-9
    given_ = fitted.gate.opens(activations[fitted.gate.point])
    assert fitted.f1 == pytest.approx(2 * float((given_ & wanted).sum()) / float(given_.sum() + wanted.sum()))


def test_the_fitted_gate_takes_the_point_that_tells_the_prompts_apart_and_the_middle_of_the_gap():
    vector = tiny.vector(0, 1, width=2)
    d = vector.directions[HookPoint(1)] / vector.norm(HookPoint(1))
    side = torch.stack([-d[1], d[0]])
    wanted = torch.tensor([True, True, False, False])
    tilted = torch.stack([c * d + (1 - c * c) ** 0.5 * side for c in (-0.8, -0.6, 0.2, 0.4)])
    noise = {HookPoint(0): torch.tensor([[1.0, 0], [0, 1.0], [1.0, 0.1], [0.1, 1.0]])}
    fitted = fit_gate(vector, {**noise, HookPoint(1): tilted}, wanted, read="last")
    assert fitted.f1 == 1.0
    assert fitted.gate.point == HookPoint(1)
    assert not fitted.gate.above
    assert fitted.gate.threshold == pytest.approx(-0.2, abs=1e-5)
    assert fitted.gate.read == "last"


def test_prompts_that_give_no_gate_are_refused():
    vector, same = tiny.vector(0, width=4), torch.ones(3, 4)
    point, wanted = HookPoint(0), torch.tensor([True, False, True])
    with pytest.raises(FitError, match="no hook point in common"):
        fit_gate(vector, {HookPoint(5): same}, wanted)
    with pytest.raises(FitError, match="opens for and prompts"):
        fit_gate(vector, {point: same}, torch.ones(3, dtype=torch.bool))
    with pytest.raises(FitError, match="3 activations for 2 labels"):
        fit_gate(vector, {point: same}, wanted[:2])
    with pytest.raises(FitError, match="same similarity"):
        fit_gate(vector, {point: same}, wanted)
    with pytest.raises(FitError, match="not finite"):
        fit_gate(vector, {point: same * float("nan")}, wanted)
