"""COLD-Steer: what its theory says of a step of gradient descent holds, in every mode and kernel."""

from __future__ import annotations

import copy
import random
from dataclasses import replace

import pytest
import torch
from torch import nn

from tillerman.core.artefact import Artefact, load, save
from tillerman.core.cell import Cell
from tillerman.core.errors import FitError, MismatchError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.core.steerings.gated import GatedSteering
from tillerman.core.steerings.lookahead import LookaheadSteering
from tillerman.core.steerings.vector import SteeringVector
from tillerman.data.examples import Example
from tillerman.data.presenting import present
from tillerman.data.writing import make_writer
from tillerman.methods.base import Context
from tillerman.methods.cold import ColdFd, ColdJvp, ColdKernel
from tillerman.methods.registry import METHODS
from tillerman.models.gradients import BETA, Taught, activation_gradients, parameter_gradient, parameters_below
from tillerman.models.lookahead import run_to
from tillerman.models.opened import OpenModel
from tillerman.steering.steer import steer, steer_rows

from .. import tiny
from ..steering.watch import equal_bits

FAMILIES = ["llama", "gpt2", "gemma2", "qwen3_moe"]
NAMES = ["cold-kernel", "cold-kernel-single", "cold-kernel-linear", "cold-kernel-projection", "cold-fd", "cold-jvp"]
AHEAD = {"fd": ColdFd, "jvp": ColdJvp}
POINT = HookPoint(1)
POINTS = (HookPoint(0), POINT)
ROWS = tiny.random_rows([5, 9, 3, 6])
EXAMPLES = [
    *(Taught(row, ((20,), (30,))) for row in ROWS[:2]),
    *(Taught(row, ((20, 21), (30, 31, 32))) for row in ROWS[2:]),
]


def lesson(opened: OpenModel, n: int = 6, points=POINTS, kind: str = "choice") -> Context:
    draw = random.Random(3)
    words = ["apple", "stone", "river", "cat", "dog", "mat"]
    items = present(
        [Example(kind, f"Which {draw.choice(words)} {i}?", tuple(draw.sample(words, 2)), i % 2) for i in range(n)]
    )
    writer = make_writer(opened.tokenizer)
    return Context(opened, items, tuple(map(writer.write, items)), writer, tuple(points), tiny.provenance())


def fitted(name: str, opened: OpenModel, **more):
    return METHODS[name]().fit(lesson(opened, **more))


def logits(model, rows=ROWS, side="left"):
    ids, mask = tiny.padded(rows, side)
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)).logits
    return [out[i][mask[i].bool()] for i in range(len(rows))]


def stream(model, rows=ROWS, point=POINT):
    """What a hook point holds, row by row, by a plain hook."""
    seen = []
    handle = tiny.hook(model, model.config.model_type, point, lambda h: seen.append(h.detach().clone()) or None)
    try:
        for row in rows:
            model(input_ids=torch.tensor([row]))
    finally:
        handle.remove()
    return torch.cat([h[0] for h in seen])


def changed(model, steering, strength, rows=ROWS, point=POINT):
    """The change that steering makes at the hook point."""
    before = stream(model, rows, point)
    with steer(model, Intervention(steering, strength)):
        return stream(model, rows, point) - before


def stepped(opened: OpenModel, examples, point, eta, loss="pair"):
    """A copy of the model after one real step of gradient descent on the parameters up to the hook point."""
    causal = copy.deepcopy(opened.model)
    other = OpenModel(
        causal,
        opened.tokenizer,
        "copy",
        type(opened.parts)(
            causal,
            causal.base_model,
            tuple(causal.base_model.get_submodule(opened.parts.family.blocks)),
            opened.parts.family,
        ),
    )
    own = parameters_below(other.parts, point)
    gradient = parameter_gradient(other, examples, point, loss)
    with torch.no_grad():
        for name, g in gradient.items():
            own[name] -= eta * g
    return other


# gradients


@pytest.mark.parametrize("family", FAMILIES)
def test_batched_gradients_are_those_of_one_example_at_a_time_by_hand(family):
    opened = tiny.opened(family)
    points = [HookPoint(0), HookPoint(1, "mlp_out"), HookPoint(2)]
    found = activation_gradients(opened, EXAMPLES, points)
    mean = {}
    for i, example in enumerate(EXAMPLES):
        kept = {p: [] for p in points}

        def keep(h, p, kept=kept):
            h.requires_grad_()
            h.retain_grad()
            kept[p].append(h)

        handles = [tiny.hook(opened.model, family, p, lambda h, p=p: keep(h, p)) for p in points]
        opened.model.zero_grad()
        scores = []
        for answer in example.answers:
            row = torch.tensor([example.prompt + answer])
            said = opened.model(input_ids=row).logits.log_softmax(-1)[0, len(example.prompt) - 1 : -1]
            scores.append(said.gather(1, torch.tensor(answer)[:, None]).mean())
        loss = -torch.nn.functional.logsigmoid(BETA * (scores[0] - scores[1]))
        loss.backward()
        for handle in handles:
            handle.remove()
        last = len(example.prompt) - 1
        for point in points:
            by_hand = sum(h.grad[0, last] for h in kept[point])
            torch.testing.assert_close(found.gradients[point][i], by_hand, atol=1e-5, rtol=1e-3)
            seen = kept[point][0][0, last].detach()
            torch.testing.assert_close(found.activations[point][i], seen, atol=1e-4, rtol=1e-4)
        assert found.losses[i].item() == pytest.approx(loss.item(), rel=1e-4)
        for name, p in opened.parts.decoder.named_parameters():
            if p.grad is not None:
                mean[name] = mean.get(name, 0) + p.grad / len(EXAMPLES)
    opened.model.zero_grad()
    ours = parameter_gradient(opened, EXAMPLES, HookPoint(2), budget=20)
    assert set(ours) == {n for n in mean if n in parameters_below(opened.parts, HookPoint(2))}
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, mean[name], atol=1e-5, rtol=1e-3)


def test_gradients_leave_the_parameters_as_they_were_and_work_under_any_grad_mode():
    opened = tiny.fresh_opened()
    parameters = list(opened.model.parameters())
    parameters[0].requires_grad_(False)
    parameters[1].grad = torch.ones_like(parameters[1])
    flags = [p.requires_grad for p in parameters]
    values = [p.detach().clone() for p in parameters]
    plain = activation_gradients(opened, EXAMPLES, [POINT]).gradients[POINT]
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            inside = activation_gradients(opened, EXAMPLES, [POINT]).gradients[POINT]
            parameter_gradient(opened, EXAMPLES, POINT)
        assert torch.equal(inside, plain)
    assert [p.requires_grad for p in parameters] == flags
    assert [p.grad is not None for p in parameters] == [i == 1 for i in range(len(parameters))]
    assert torch.equal(parameters[1].grad, torch.ones_like(parameters[1]))
    assert all(torch.equal(p, v) for p, v in zip(parameters, values, strict=True))


def test_parameters_above_the_hook_point_have_no_part_in_it(opened):
    names = parameters_below(opened.parts, HookPoint(1, "resid_pre"))
    assert {n.split(".")[1] for n in names if n.startswith("layers")} == {"0"}
    assert "embed_tokens.weight" in names
    assert "norm.weight" not in parameters_below(opened.parts, HookPoint(2))


def test_the_authors_variant_has_the_rejected_branchs_gradient_alone(opened):
    def slope(loss):
        return activation_gradients(opened, EXAMPLES, [POINT], loss).gradients[POINT]

    found = activation_gradients(opened, EXAMPLES, [POINT])
    # d(-log sigmoid(beta m))/dm = -beta sigmoid(-beta m), and the loss itself gives sigmoid
    weight = BETA * (1 - torch.exp(-found.losses))[:, None]
    assert torch.allclose(found.gradients[POINT], weight * (slope("positive") + slope("negative")), atol=1e-6)
    assert torch.allclose(slope("rejected"), weight * slope("negative"), atol=1e-6)


def test_the_loss_over_shares_is_lowest_where_the_model_says_what_people_say(opened):
    options = ((20,), (30,), (40,))
    plain = torch.stack([row[-1, [20, 30, 40]] for row in logits(opened.model, ROWS[:1])]).softmax(1)
    met = Taught(ROWS[0], options, tuple(plain[0].tolist()))
    missed = Taught(ROWS[0], options, (1.0, 0.0, 0.0))
    found = activation_gradients(opened, [met, missed], [POINT], "shares")
    assert found.gradients[POINT][0].norm() < 1e-5 < found.gradients[POINT][1].norm()
    assert found.losses[1].item() == pytest.approx(-plain[0, 0].log().item(), rel=1e-4)


# the unit kernel


def test_the_unit_kernel_with_the_squared_distance_of_the_sides_is_the_difference_of_means():
    """For L = -|Z+ - Z-|^2 the mean gradient is the difference of the means, up to a constant: the derivation that
    ties COLD to DiffMean."""
    plus, minus = (torch.randn(7, 5, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    gap = plus.mean(0) - minus.mean(0)
    z = torch.cat([plus, minus]).requires_grad_()
    loss = -(z[:7].mean(0) - z[7:].mean(0)).square().sum()
    (gradient,) = torch.autograd.grad(loss, z)
    direction = -gradient[:7].mean(0)
    assert torch.cosine_similarity(direction, gap, dim=0).item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("loss", ["pair", "positive", "negative"])
def test_a_small_step_lowers_the_loss_on_the_fit_examples(family, loss):
    opened = tiny.opened(family)
    small = Intervention(_unit(opened, loss), 1.0, scope=Scope("positions", (-1,)))
    before = activation_gradients(opened, EXAMPLES[:2], [HookPoint(2)], loss).losses
    dose = 1e-3 / small.steering.dose(POINT, 1.0)
    with steer(opened.model, Intervention(small.steering, dose)):
        after = activation_gradients(opened, EXAMPLES[:2], [HookPoint(2)], loss).losses
    assert after.mean() < before.mean()


def _unit(opened, loss):
    return ColdKernel(loss=loss).fit_taught(lesson(opened, points=[POINT]), list(EXAMPLES[:2]))


# looking ahead


@pytest.mark.parametrize("mode", ["fd", "jvp"])
def test_on_a_linear_model_looking_ahead_is_the_real_step_whatever_its_length(mode):
    """Z = E[x]: linear in the parameters."""
    opened, point = tiny.opened("llama"), HookPoint(0, "resid_pre")
    steering = AHEAD[mode]().fit_taught(lesson(opened, points=[point]), EXAMPLES)
    assert list(steering.displacement) == ["embed_tokens.weight"]
    real = stream(stepped(opened, EXAMPLES, point, 3.0).model, point=point) - stream(opened.model, point=point)
    found = changed(opened.model, steering, 3.0, point=point)
    assert torch.allclose(found, real, atol=1e-4 * float(real.abs().max()) + (1e-5 if mode == "fd" else 0))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", ["fd", "jvp"])
def test_a_short_real_step_changes_the_stream_as_looking_ahead_says(family, mode):
    opened = tiny.opened(family)
    steering = AHEAD[mode]().fit_taught(lesson(opened), EXAMPLES).at(POINT)
    eta = 1e-3
    real = stream(stepped(opened, EXAMPLES, POINT, eta).model) - stream(opened.model)
    found = changed(opened.model, steering, eta)
    # Of most tokens: a longer step may send one to another expert, which the shorter one does not.
    assert torch.cosine_similarity(found, real, dim=1).median() > 0.99
    assert float((found.norm(dim=1) / real.norm(dim=1)).median()) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_finite_difference_comes_close_to_the_derivative(family):
    opened = tiny.opened(family)
    ahead = [
        changed(opened.model, fitted(name, opened).at(HookPoint(0)), 1.0, point=HookPoint(0))
        for name in ("cold-fd", "cold-jvp")
    ]
    assert torch.cosine_similarity(*(a.flatten() for a in ahead), dim=0) > 0.99


@pytest.mark.parametrize("name", ["cold-fd", "cold-jvp"])
def test_looking_ahead_a_little_lowers_the_loss_on_the_fit_examples(name, opened):
    steering = METHODS[name]().fit_taught(lesson(opened), EXAMPLES).at(POINT)
    before = activation_gradients(opened, EXAMPLES, [HookPoint(2)]).losses
    with steer(opened.model, Intervention(steering, steering.strength(POINT, 0.01))):
        after = activation_gradients(opened, EXAMPLES, [HookPoint(2)]).losses
    assert after.mean() < before.mean()


@pytest.mark.parametrize("name", ["cold-fd", "cold-jvp"])
@pytest.mark.parametrize("n", [2, 12])
def test_an_input_costs_two_passes_whatever_the_number_of_examples_and_none_above_the_hook_point(name, n, opened):
    steering = fitted(name, opened, n=n).at(POINT)
    runs = []
    forward = type(tiny.blocks(opened.model, "llama")[0]).forward

    def counted(block, *args, **kwargs):
        runs.append(block.self_attn.layer_idx)
        return forward(block, *args, **kwargs)

    patch = pytest.MonkeyPatch()
    patch.setattr(type(tiny.blocks(opened.model, "llama")[0]), "forward", counted)
    try:
        with steer(opened.model, Intervention(steering, 1.0)):
            opened.model(input_ids=torch.tensor([ROWS[0]]))
    finally:
        patch.undo()
    assert sorted(runs) == [0, 0, 1, 1, 2]


def test_a_prompt_scope_costs_no_second_stream_while_decoding(opened, monkeypatch):
    from tillerman.models import lookahead as module

    steering, calls, real = fitted("cold-fd", opened).at(POINT), [], module.SecondStream.run
    monkeypatch.setattr(module.SecondStream, "run", lambda *a, **k: calls.append(1) or real(*a, **k))
    ids, mask = tiny.padded(ROWS, "left")
    with steer(opened.model, Intervention(steering, 1.0, scope=Scope("prompt"))) as steered:
        opened.model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    assert len(calls) == 1
    assert steered.receipt.applied[0].tokens == {str(POINT): sum(map(len, ROWS))}


# on a live model


def generated(model, rows, plans, cache="dynamic", **options):
    ids, mask = tiny.padded(rows, "left")
    with steer_rows(model, plans):
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=4,
            min_new_tokens=4,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            **({"use_cache": False} if cache == "none" else {"cache_implementation": cache}),
            **options,
        )
    return torch.stack(out.logits, 1), out.sequences[:, ids.shape[1] :]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", NAMES)
def test_strength_0_is_bit_equal_and_another_strength_is_not(name, family):
    opened = tiny.opened(family)
    steering = fitted(name, opened).at(POINT)
    plain = logits(opened.model)
    with steer(opened.model, Intervention(steering, 0.0)):
        same = logits(opened.model)
    with steer(opened.model, Intervention(steering, steering.strength(POINT, 0.5))) as steered:
        other = logits(opened.model)
    assert all(equal_bits(a, b) for a, b in zip(plain, same, strict=True))
    assert not any(torch.allclose(a, b, atol=1e-3) for a, b in zip(plain, other, strict=True))
    (applied,) = steered.receipt.applied
    assert applied.tokens == {str(POINT): sum(map(len, ROWS))}
    assert applied.doses[str(POINT)] == pytest.approx(0.5)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["cold-kernel-linear", "cold-fd", "cold-jvp"])
@pytest.mark.parametrize("scope", [Scope("all"), Scope("prompt"), Scope("generated")], ids=str)
def test_each_row_generates_under_its_own_plan_what_it_generates_alone_with_any_cache(name, family, scope):
    opened = tiny.opened(family)
    one = fitted(name, opened).at(POINT)
    plans = [(Intervention(one, one.strength(POINT, d), scope=scope),) if d else () for d in (0.1, 0.0, 0.3, -0.2)]
    said, tokens = generated(opened.model, ROWS, plans)
    for cache in ("static", "none"):
        other, also = generated(opened.model, ROWS, plans, cache)
        assert torch.equal(tokens, also)
        torch.testing.assert_close(said, other, atol=2e-2, rtol=1e-2)
    for i in (0, 2, 3):
        alone, own = generated(opened.model, [ROWS[i]], [plans[i]])
        assert torch.equal(tokens[i], own[0])
        torch.testing.assert_close(said[i], alone[0], atol=2e-2, rtol=1e-2)


def test_a_row_without_a_plan_is_bit_equal(opened):
    steering = fitted("cold-fd", opened).at(POINT)
    plain, _ = generated(opened.model, ROWS, [(Intervention(steering, 0.0),), (), (), ()])
    said, _ = generated(opened.model, ROWS, [(Intervention(steering, 1.0),), (), (), ()])
    assert equal_bits(plain[1:], said[1:])
    assert not torch.allclose(plain[0], said[0], atol=1e-3)


@pytest.mark.parametrize("mode", ["fd", "jvp"])
def test_beams_take_their_second_stream_with_them(opened, mode):
    """With a cache beams change rows between steps; without one every step runs the whole text anew."""
    one = fitted(f"cold-{mode}", opened).at(POINT)
    plans = [(Intervention(one, one.strength(POINT, 0.3)),)] * len(ROWS)
    cached, tokens = generated(opened.model, ROWS, plans, num_beams=3)
    alone, also = generated(opened.model, ROWS, plans, "none", num_beams=3)
    assert torch.equal(tokens, also)
    torch.testing.assert_close(cached, alone, atol=2e-2, rtol=1e-2)


def test_the_users_hooks_see_one_pass_and_the_model_keeps_its_parts(opened):
    seen, parts = [], {n: id(p) for n, p in opened.model.named_parameters()}
    block = tiny.blocks(opened.model, "llama")[0]
    handle = block.register_forward_hook(lambda *_: seen.append(1))
    with steer(opened.model, Intervention(fitted("cold-jvp", opened).at(POINT), 1.0)):
        seen.clear()
        logits(opened.model)
    handle.remove()
    assert len(seen) == 1
    assert {n: id(p) for n, p in opened.model.named_parameters()} == parts
    assert all(type(p) is nn.Parameter for p in opened.model.parameters())


def test_a_look_ahead_wants_one_point_that_nothing_has_steered_before(opened):
    steering = fitted("cold-fd", opened)
    with pytest.raises(UsageError, match=r"choose with \.at\(point\)"), steer(opened.model, Intervention(steering)):
        pass
    plan = (Intervention(tiny.vector(0)), Intervention(steering.at(POINT)))
    with pytest.raises(UsageError, match="reads the unsteered stream"), steer(opened.model, plan):
        pass
    with steer(opened.model, (Intervention(steering.at(POINT)), Intervention(tiny.vector(2)))):
        logits(opened.model)


def test_embeddings_instead_of_tokens_are_refused(opened):
    with (
        pytest.raises(UsageError, match="reads token ids"),
        steer(opened.model, Intervention(fitted("cold-fd", opened).at(POINT))),
    ):
        opened.model(inputs_embeds=torch.randn(1, 3, tiny.WIDTH))


def test_another_models_displacement_is_refused(opened):
    other = fitted("cold-fd", tiny.opened("gpt2")).at(POINT)
    with pytest.raises(MismatchError, match="and this model has none"), steer(opened.model, Intervention(other)):
        pass


# as methods


@pytest.mark.parametrize("name", NAMES)
def test_a_method_gives_the_same_twice_and_leaves_the_model_as_it_was(name, opened):
    values = [p.detach().clone() for p in opened.model.parameters()]
    one, two = fitted(name, opened).at(POINT), fitted(name, opened).at(POINT)
    rows = ROWS[:2]
    assert torch.equal(changed(opened.model, one, 1.0, rows), changed(opened.model, two, 1.0, rows))
    assert all(torch.equal(p, v) for p, v in zip(opened.model.parameters(), values, strict=True))
    assert one.dose(POINT, one.strength(POINT, 0.3)) == pytest.approx(0.3)
    null = one.random_like(5)
    assert null.norm(POINT) == pytest.approx(one.norm(POINT), rel=1e-5)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "cold-kernel-single"])
def test_the_change_turns_round_with_the_labels(name, opened):
    plain = lesson(opened)
    turned = replace(
        plain,
        items=tuple(replace(item, right=1 - item.right) for item in plain.items),
        written=tuple(replace(w, right=1 - w.right) for w in plain.written),
    )
    one, other = (changed(opened.model, METHODS[name]().fit(x).at(POINT), 1.0) for x in (plain, turned))
    # Not minus one: an example weighs the more, the less the model says the wanted answer.
    assert torch.cosine_similarity(one.flatten(), other.flatten(), dim=0) < -0.3


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_is_saved_and_loaded_to_the_same_change(name, opened, tmp_path):
    steering = fitted(name, opened)
    save(tmp_path / "a.safetensors", Artefact(steering, Cell.of(steering)))
    back = load(tmp_path / "a.safetensors").steering
    assert type(back) is type(steering)
    assert back.points == steering.points
    assert dict(back.stream_norms) == dict(steering.stream_norms)
    first, second = (changed(opened.model, s.at(POINT), 1.0) for s in (steering, back))
    assert torch.equal(first, second)


def test_the_kinds_are_the_ones_the_names_promise(opened):
    kinds = {name: type(fitted(name, opened)) for name in NAMES}
    ahead = dict.fromkeys(("cold-fd", "cold-jvp"), LookaheadSteering)
    kernel = dict.fromkeys(("cold-kernel-linear", "cold-kernel-projection"), GatedSteering)
    assert kinds == {"cold-kernel": SteeringVector, "cold-kernel-single": SteeringVector} | kernel | ahead
    assert not torch.equal(
        fitted("cold-kernel", opened).directions[POINT], fitted("cold-kernel-single", opened).directions[POINT]
    )


def test_the_linear_kernel_is_the_sum_over_the_examples(opened):
    steering = METHODS["cold-kernel-linear"]().fit_taught(lesson(opened), EXAMPLES)
    found = activation_gradients(opened, EXAMPLES, [POINT])
    z, g = found.activations[POINT].double(), found.gradients[POINT].double()
    h = torch.randn(3, tiny.WIDTH).double()
    by_hand = torch.stack([-sum((row @ z[i]) * g[i] for i in range(len(z))) / len(z) for row in h])
    torch.testing.assert_close(steering.change(POINT, h.float()).double(), by_hand, rtol=1e-4, atol=1e-4)
    own = torch.stack([-sum((row @ z[i]) * g[i] for i in range(len(z))) / len(z) for row in z])
    assert steering.norm(POINT) == pytest.approx(float(own.norm(dim=1).mean()), rel=1e-4)


def test_the_projected_kernel_is_the_linear_one_on_average(opened):
    def keys(name: str, seed: int) -> torch.Tensor:
        return METHODS[name]().fit(replace(lesson(opened), seed=seed)).keys[POINT]

    def error(found: torch.Tensor) -> float:
        return float((found - wanted).norm() / wanted.norm())

    wanted = keys("cold-kernel-linear", 0)
    drawn = torch.stack([keys("cold-kernel-projection", seed) for seed in range(8)])
    assert all(error(one) > 0.2 for one in drawn)  # 64 dimensions are few
    assert error(drawn.mean(0)) < 0.6 * min(map(error, drawn))


@pytest.mark.parametrize("operator", ["ablate", "clamp", "rotate", "replace", "scale"])
def test_what_is_no_vector_can_be_added_only(operator, opened):
    with pytest.raises(UsageError, match="wants one vector"):
        Intervention(fitted("cold-kernel-linear", opened), 1.0, operator)


def test_texts_are_refused_since_they_have_no_prompt(opened):
    with pytest.raises(FitError, match="use --method caa"):
        ColdKernel().fit(lesson(opened, kind="text"))


def test_a_pass_to_a_hook_point_gives_what_a_plain_hook_sees(family):
    opened = tiny.opened(family)
    point = HookPoint(1, "attn_out")
    ids, mask = tiny.padded(ROWS, "left")
    seen = []
    handle = tiny.hook(opened.model, family, point, lambda h: seen.append(h.clone()) or None)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        opened.model(input_ids=ids, attention_mask=mask, position_ids=positions)
        handle.remove()
        ours = run_to(opened.parts, [point], ids, mask.bool(), positions)[point]
    torch.testing.assert_close(ours[mask.bool()], seen[0][mask.bool()], atol=1e-5, rtol=1e-5)
