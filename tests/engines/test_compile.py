"""A compiled model is steered as the plain one is, follows a change of plan, and is never silently unsteered."""

from __future__ import annotations

import shutil

import pytest
import torch

from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.steering.steer import steer

from .. import tiny

IDS = torch.tensor([[5, 6, 7, 8]])
compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="inductor wants a C++ compiler")


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def _plan(layer, strength, scope="all"):
    return Intervention(tiny.vector(HookPoint(layer)), strength, scope=Scope(scope))


def _close(a, b):
    return torch.allclose(a, b, atol=2e-4, rtol=1e-4)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(
    ("how", "backend"),
    [
        ("module", "aot_eager"),
        ("method", "aot_eager"),
        ("forward", "aot_eager"),
        pytest.param("module", "inductor", marks=compiler),
    ],
)
def test_a_compiled_model_follows_every_change_of_plan(how, backend):
    plain, model = tiny.new_model(), tiny.new_model()
    compiled = model
    if how == "module":
        compiled = torch.compile(model, backend=backend)
    elif how == "method":
        model.compile(backend=backend)
    else:
        model.forward = torch.compile(model.forward, backend=backend)
    unsteered = plain(input_ids=IDS).logits
    assert _close(compiled(input_ids=IDS).logits, unsteered)  # compiled without hooks first
    for plan in (_plan(1, 1.0), _plan(1, -2.0), _plan(2, 1.0, "last")):
        with steer(plain, plan):
            expected = plain(input_ids=IDS).logits
        with steer(compiled, plan) as steered:
            assert _close(compiled(input_ids=IDS).logits, expected)
        assert steered.receipt.forwards == 1
        assert sum(steered.receipt.applied[0].tokens.values()) == (1 if plan.scope.name == "last" else 4)
        assert _close(compiled(input_ids=IDS).logits, unsteered)


@pytest.mark.slow
@torch.no_grad()
def test_a_model_compiled_inside_the_block_is_steered_there_and_not_afterwards():
    plain, model = tiny.new_model(), tiny.new_model()
    with steer(plain, _plan(1, 1.0)):
        expected = plain(input_ids=IDS).logits
    with steer(model, _plan(1, 1.0)):
        compiled = torch.compile(model, backend="aot_eager")
        assert _close(compiled(input_ids=IDS).logits, expected)
    assert _close(compiled(input_ids=IDS).logits, plain(input_ids=IDS).logits)


@pytest.mark.slow
@torch.no_grad()
def test_generation_by_a_compiled_model_is_that_of_the_plain_one():
    plain, model = tiny.new_model(), tiny.new_model()
    model.forward = torch.compile(model.forward, backend="aot_eager")
    said = []
    for one in (plain, model):
        with steer(one, _plan(1, 1.0, "generated")):
            out = one.generate(input_ids=IDS, max_new_tokens=5, min_new_tokens=5, do_sample=False, pad_token_id=0)
        said.append(out.tolist())
    assert said[0] == said[1]
