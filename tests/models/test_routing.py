"""Routers of mixtures of experts: what is read, what an edit does to the choice and the weights, by hand."""

from __future__ import annotations

import pytest
import torch

from tillerman.core.artefact import Artefact, load, save
from tillerman.core.cell import Cell
from tillerman.core.errors import HookPointError, MismatchError, ModelError, UsageError
from tillerman.core.gates import ProbeGate
from tillerman.core.hookpoint import ROUTER_SITES, HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.core.rows import Row
from tillerman.core.steerings.vector import SteeringVector
from tillerman.models.capture import capture
from tillerman.models.edit import edit_forward
from tillerman.models.routing import with_weights
from tillerman.steering.steer import steer, steer_rows

from .. import mixture, tiny
from ..steering.watch import equal_bits

ROWS = tiny.random_rows([5, 9, 3, 6])
mixtures = pytest.mark.parametrize("family", tiny.MIXTURES)
both = pytest.mark.parametrize("site", ROUTER_SITES)
EXPERTS, CHOSEN = 4, 2


def _item(site, strength=1.0, seed=1, operator="add", scope="all", layers=(1, 2)):
    vector = tiny.vector(*(HookPoint(layer, site) for layer in layers), seed=seed, width=EXPERTS)
    return Intervention(vector, strength, operator, Scope(scope))


def _experts(values, site="router_weights", layer=1):
    """A vector with these values per expert."""
    point = HookPoint(layer, site)
    return SteeringVector({point: torch.tensor(values)}, {point: 1.0}, tiny.provenance())


def _varied(family):
    """A model whose biases, which start at 0, have their say; DeepSeek with groups to choose among."""
    import transformers as tf

    config = tiny.CONFIGS[family]()
    if family == "deepseek_v3":
        config.num_local_experts, config.n_routed_experts, config.n_group, config.topk_group = 12, 12, 4, 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = tf.AutoModelForCausalLM.from_config(config).eval()
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith(("bias", "e_score_correction_bias")):
                torch.nn.init.normal_(tensor, std=0.3)
    return model


def _through(model, family, plan=None):
    """What goes into the layer of block 1 and what comes out, in one pass over padded rows: ``[n, d]`` each."""
    mlp, seen = tiny.blocks(model, family)[1].mlp, []
    ids, mask = tiny.padded(ROWS, "right")

    def keep(_, args, output):
        seen[:] = [args[0].flatten(0, 1), (output[0] if isinstance(output, tuple) else output).flatten(0, 1)]

    handle = mlp.register_forward_hook(keep)
    with torch.no_grad():
        if plan is None:
            model(input_ids=ids, attention_mask=mask)
        else:
            with steer(model, plan):
                model(input_ids=ids, attention_mask=mask)
    handle.remove()
    real = mask.flatten().bool()
    return mlp, seen[0][real], seen[1][real]


@mixtures
def test_a_layer_written_by_hand_gives_what_the_models_layer_gives(family):
    mlp, x, out = _through(_varied(family), family)
    with torch.no_grad():
        torch.testing.assert_close(out, mixture.output(family, mlp, x), atol=1e-5, rtol=1e-5)


@mixtures
def test_edited_logits_make_choice_and_weights_as_the_family_does(family):
    model = _varied(family)
    count = len(mixture.router_of(tiny.blocks(model, family)[1].mlp, family).weight)
    shift = torch.randn(count, generator=torch.Generator().manual_seed(3)) * 2
    mlp, x, out = _through(model, family, Intervention(_experts(shift.tolist(), "router"), 1.5))
    with torch.no_grad():
        wanted = mixture.output(family, mlp, x, on_logits=lambda logits: logits + 1.5 * shift)
        plain = mixture.output(family, mlp, x)
    torch.testing.assert_close(out, wanted, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(out, plain, atol=1e-2)


@mixtures
def test_scaled_weights_reach_the_experts_output_and_nothing_is_normalised_anew(family):
    """RICE: the weight of the chosen target experts times beta, here 64."""
    model = _varied(family)
    count = len(mixture.router_of(tiny.blocks(model, family)[1].mlp, family).weight)
    targets = [1.0, 0.0, 1.0, 0.0, *[0.0] * (count - 4)]
    mlp, x, out = _through(model, family, Intervention(_experts(targets), 63.0, "scale"))
    with torch.no_grad():
        wanted = mixture.output(family, mlp, x, on_weight=lambda e, w: w * (64.0 if e in (0, 2) else 1.0))
    scale = float(wanted.abs().max())
    torch.testing.assert_close(out / scale, wanted / scale, atol=1e-5, rtol=1e-5)


@mixtures
def test_reweighed_experts_take_from_the_others_what_they_gain(family):
    """The renormalised variant of RICE."""
    model = _varied(family)
    count = len(mixture.router_of(tiny.blocks(model, family)[1].mlp, family).weight)
    targets = [1.0, 0.0, 1.0, 0.0, *[0.0] * (count - 4)]
    mlp, x, out = _through(model, family, Intervention(_experts(targets), 3.0, "reweigh"))
    with torch.no_grad():
        wanted = mixture.output(family, mlp, x, on_weight=lambda e, w: w * (4.0 if e in (0, 2) else 1.0), sum_kept=True)
    torch.testing.assert_close(out, wanted, atol=1e-5, rtol=1e-5)


@mixtures
def test_an_expert_that_was_not_chosen_gets_no_weight(family):
    """The dense weights of the others are 0, and whatever is added to them is dropped."""
    model = tiny.model(family)
    point = HookPoint(1, "router_weights")
    k = mixture.router_of(tiny.blocks(model, family)[1].mlp, family).top_k
    seen = capture(tiny.opened(family), [Row(row) for row in ROWS], [point])[point]
    assert ((seen != 0).sum(1) == k).all()
    mlp, x, out = _through(model, family, Intervention(_experts([0.5] * EXPERTS), 1.0))
    with torch.no_grad():
        wanted = mixture.output(family, mlp, x, on_weight=lambda e, w: w + 0.5)
    torch.testing.assert_close(out, wanted, atol=1e-5, rtol=1e-5)


@mixtures
def test_an_expert_may_be_banned_by_a_logit_far_below_the_others(family):
    model, point = tiny.model(family), HookPoint(1, "router")
    with steer(model, Intervention(_experts([-1e30, 0.0, 0.0, 0.0], "router"), 1.0)):
        weights = capture(tiny.opened(family), [Row(row) for row in ROWS], [HookPoint(1, "router_weights"), point])
    chosen = weights[HookPoint(1, "router_weights")]
    if family != "deepseek_v3":  # there the banned expert's group may win by its other member
        assert (chosen[:, 0] == 0).all()
    assert (weights[point][:, 0] < -1e29).all()
    assert (chosen[:, 1:] != 0).any()


@mixtures
def test_capture_reads_logits_and_the_weights_of_the_chosen(family):
    points = [HookPoint(1, site) for site in ROUTER_SITES]
    got = capture(tiny.opened(family), [Row(t) for t in ROWS], points)
    model = tiny.model(family)
    for i, row in enumerate(ROWS):
        seen = []
        router = tiny.part(model, family, points[0])
        handle = router.register_forward_hook(lambda _, __, out, seen=seen: seen.append(out))
        with torch.no_grad():
            model(input_ids=torch.tensor([row]), use_cache=False)
        handle.remove()
        logits, weights, places = (part[-1] for part in seen[0])
        assert torch.allclose(got[points[0]][i], logits.float(), atol=1e-4)
        dense = torch.zeros(EXPERTS).scatter(0, places, weights.float())
        assert torch.allclose(got[points[1]][i], dense, atol=1e-4)
        assert int((got[points[1]][i] != 0).sum()) == CHOSEN


@mixtures
@both
def test_an_edit_that_gives_what_it_got_is_bit_equal(family, site):
    model, ids = tiny.model(family), torch.tensor([ROWS[0]])
    plain = model(input_ids=ids).logits
    with edit_forward(tiny.opened(family).parts, {HookPoint(1, site): torch.clone}, lambda _: None):
        assert equal_bits(model(input_ids=ids).logits, plain)


@mixtures
@both
def test_strength_0_is_bit_equal_and_a_pass_that_only_reads_too(family, site):
    model = tiny.model(family)
    ids, mask = tiny.padded(ROWS, "left")
    plain = model(input_ids=ids, attention_mask=mask).logits
    gate = ProbeGate(torch.zeros(EXPERTS), -1.0, HookPoint(1, site))
    shut = Intervention(tiny.vector(2), 5.0, gate=gate)
    for item in (_item(site, 0.0), _item(site, 0.0, operator="scale"), shut):
        with steer(model, item):
            assert equal_bits(model(input_ids=ids, attention_mask=mask).logits, plain)


def _logits(model, side, rows, plans):
    ids, mask = tiny.padded(rows, side)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad(), steer_rows(model, plans):
        logits = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
    return [logits[i][mask[i].bool()] for i in range(len(rows))]


@mixtures
@both
@pytest.mark.parametrize("side", ["left", "right"])
def test_each_row_is_what_it_is_alone_under_its_plan_whatever_the_padding(family, site, side):
    model = tiny.model(family)
    plans = [
        (_item(site),),
        (_item(site, 0.7, 2, "scale"), _item(site, 1.0, 4)),
        (),
        (_item(site, 2.0, 3, "add", "last"),),
    ]
    together = _logits(model, side, ROWS, plans)
    for i, row in enumerate(ROWS):
        ids = torch.tensor([row])
        with torch.no_grad():
            plain = model(input_ids=ids).logits[0]
            if plans[i]:
                with steer(model, plans[i]):
                    alone = model(input_ids=ids).logits[0]
                assert not torch.allclose(plain, alone, atol=1e-2)
            else:
                alone = plain
        torch.testing.assert_close(together[i], alone, atol=2e-4, rtol=1e-4)


@mixtures
@both
def test_the_cache_changes_nothing_and_rows_generate_as_alone(family, site):
    model = tiny.model(family)
    plans = [(_item(site, scope="generated"),), (_item(site, 0.5, 3, "scale"),), (), (_item(site, 2.0),)]

    def generated(rows, plans, **cache):
        ids, mask = tiny.padded(rows, "left")
        with steer_rows(model, plans, must_apply=False) as steered:
            out = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=4,
                min_new_tokens=4,
                do_sample=False,
                output_logits=True,
                return_dict_in_generate=True,
                **cache,
            )
        return torch.stack(out.logits, 1), steered.receipt

    cached, receipt = generated(ROWS, plans)
    uncached, _ = generated(ROWS, plans, use_cache=False)
    torch.testing.assert_close(cached, uncached, atol=5e-4, rtol=1e-3)
    assert receipt.applied[0].tokens == {f"layers.{layer}.{site}": 4 for layer in (1, 2)}
    assert receipt.applied[1].tokens == {f"layers.{layer}.{site}": 9 + 3 for layer in (1, 2)}
    assert bool(receipt.applied[0].doses) and not receipt.applied[1].doses
    for i, plan in enumerate(plans):
        if plan:
            alone, _ = generated([ROWS[i]], [plan])
            torch.testing.assert_close(cached[i], alone[0], atol=5e-4, rtol=1e-3)


@mixtures
def test_nested_blocks_and_both_sites_work_together(family):
    """The choice is made before its weights are scaled, whichever block is the outer one."""
    model, logits, weights = tiny.model(family), _item("router"), _item("router_weights", 2.0, 5, "scale")
    ids = torch.tensor([ROWS[1]])
    with torch.no_grad():
        with steer(model, (logits, weights)):
            together = model(input_ids=ids).logits
        with steer(model, logits), steer(model, weights):
            one = model(input_ids=ids).logits
        with steer(model, weights), steer(model, logits):
            other = model(input_ids=ids).logits
        with steer(model, _item("router", 0.5)), steer(model, (_item("router", 0.5), weights)):
            halves = model(input_ids=ids).logits
    assert torch.equal(together, one) and torch.equal(together, other)
    torch.testing.assert_close(halves, together, atol=1e-4, rtol=1e-4)


@mixtures
@both
def test_a_gate_may_read_a_router(family, site):
    model, point = tiny.model(family), HookPoint(1, site)
    read = capture(tiny.opened(family), [Row(row) for row in ROWS], [point], read="mean")[point]
    middle = float(read[:, 0].sort().values[1:3].mean())
    gate = ProbeGate(torch.tensor([1.0, 0, 0, 0]), -middle, point)
    ids, mask = tiny.padded(ROWS, "right")
    with torch.no_grad(), steer(model, Intervention(tiny.vector(2), 1.0, gate=gate)) as steered:
        model(input_ids=ids, attention_mask=mask)
    lengths = torch.tensor([len(row) for row in ROWS])
    assert steered.receipt.applied[0].tokens == {"layers.2.resid_post": int(lengths[read[:, 0] > middle].sum())}


def test_a_gate_of_the_streams_width_at_a_router_is_refused():
    gate = ProbeGate(torch.ones(tiny.WIDTH), 0.0, HookPoint(1, "router"))
    with (
        pytest.raises(MismatchError, match="has width 32, the model 4"),
        steer(tiny.model("mixtral"), Intervention(tiny.vector(2), 1.0, gate=gate)),
    ):
        pass


ORDER = ("resid_pre", "heads", "attn_out", "router", "router_weights", "mlp_out", "resid_post")


@pytest.mark.parametrize("early", range(len(ORDER) - 1))
def test_a_gate_may_not_read_a_later_site_of_the_block_that_it_gates(early):
    first, second = HookPoint(1, ORDER[early]), HookPoint(1, ORDER[early + 1])
    Intervention(tiny.vector(second), 1.0, gate=ProbeGate(torch.ones(4), 0.0, first))
    with pytest.raises(UsageError, match=rf"the gate reads {second}, after {first} is steered"):
        Intervention(tiny.vector(first), 1.0, gate=ProbeGate(torch.ones(4), 0.0, second))
    assert first.order < second.order < HookPoint(2, "resid_pre").order


@mixtures
def test_a_pass_meets_the_sites_in_that_order(family):
    met = []

    def note(point):
        return lambda h: met.append(point) or h

    points = [HookPoint(layer, site) for layer in (1, 2) for site in sorted(ORDER)]
    with torch.no_grad(), edit_forward(tiny.opened(family).parts, {p: note(p) for p in points}, lambda _: None):
        tiny.model(family)(input_ids=torch.tensor([[5, 6]]))
    assert met == sorted(points, key=lambda point: point.order)


@both
def test_only_layers_that_route_are_listed_and_others_are_refused_with_the_remedy(site):
    opened = tiny.opened("deepseek_v3")
    assert opened.points(site) == (HookPoint(1, site), HookPoint(2, site))
    assert opened.parts.width_at(HookPoint(1, site)) == EXPERTS
    said = rf"layers\.0\.{site}: this block of 'deepseek_v3' has no router; layers with one: 1, 2"
    with pytest.raises(HookPointError, match=said):
        capture(opened, [Row(ROWS[0])], [HookPoint(0, site)])
    with (
        pytest.raises(HookPointError, match=said),
        steer(opened.model, _item(site, layers=(0,))),
    ):
        pass


@both
def test_a_dense_model_is_refused_with_the_remedy(site):
    remedy = r"'llama' names no router and experts, as for a dense model; steer mlp_out, or add router=\.\.\. and exp"
    with pytest.raises(HookPointError, match=remedy):
        tiny.opened().points(site)
    with pytest.raises(HookPointError, match=remedy), steer(tiny.model(), _item(site)):
        pass


@both
def test_a_vector_of_another_number_of_experts_is_refused(site):
    point = HookPoint(1, site)
    with (
        pytest.raises(MismatchError, match="has width 8, the model 4"),
        steer(tiny.model("olmoe"), Intervention(tiny.vector(point, width=8))),
    ):
        pass


@both
def test_an_artefact_of_a_router_is_read_back_and_steers_as_before(site, tmp_path):
    vector, model, ids = tiny.vector(HookPoint(1, site), width=EXPERTS), tiny.model("olmoe"), torch.tensor([ROWS[0]])
    save(tmp_path / "a.safetensors", Artefact(vector, Cell.of(vector)))
    read = load(tmp_path / "a.safetensors").steering
    outputs = []
    for steering in (vector, read):
        with torch.no_grad(), steer(model, Intervention(steering, 1.5, "scale")):
            outputs.append(model(input_ids=ids).logits)
    assert equal_bits(*outputs)


@mixtures
@both
def test_a_half_precision_model_routes_in_its_own_types(family, site):
    model = tiny.new_model(family).to(torch.bfloat16)
    ids = torch.tensor([ROWS[0]])
    with torch.no_grad():
        plain = model(input_ids=ids).logits
        for item, same in ((_item(site, 0.0), True), (_item(site, 2.0, operator="scale"), False)):
            with steer(model, item):
                assert torch.equal(model(input_ids=ids).logits, plain) == same


@both
def test_gradients_flow_through_edited_routing(site):
    model = tiny.new_model("mixtral")
    with steer(model, _item(site)):
        model(input_ids=torch.tensor([ROWS[0]])).logits.square().mean().backward()
    router = tiny.blocks(model, "mixtral")[1].mlp.gate
    assert router.weight.grad.abs().max() > 0


def test_a_router_without_one_linear_map_is_refused_with_the_other_site(monkeypatch):
    model = tiny.new_model("mixtral")
    router = tiny.blocks(model, "mixtral")[1].mlp.gate

    def by_hand(hidden):
        logits = hidden.reshape(-1, tiny.WIDTH) @ router.weight.T
        weights, chosen = logits.softmax(-1).topk(2)
        return logits, weights, chosen

    monkeypatch.setattr(router, "forward", by_hand)
    item = _item("router", layers=(1,))
    with pytest.raises(ModelError, match="with 0 linear maps, expected one; steer router_weights"), steer(model, item):
        model(input_ids=torch.tensor([ROWS[0]]))


def test_arguments_after_the_weights_are_handed_on():
    hidden, chosen, weights, rest = torch.ones(2, 3), torch.tensor([[0], [2]]), torch.ones(2, 1), object()
    out = with_weights(lambda w: w * 2, (hidden, chosen, weights, rest), 1, 3)
    assert out[2].tolist() == [[2.0], [2.0]]
    assert out[0] is hidden and out[1] is chosen and out[3] is rest
