"""A strength that leaves no numbers is an error when the block opens, and one that does not is left alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tillerman.core.errors import UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention
from tillerman.steering.overflow import ensure_finite
from tillerman.steering.steer import steer, steer_rows

from .. import tiny

IDS = torch.tensor([[5, 6, 7, 8]])
OPERATORS = sorted(set(tiny.DIRECTED) - {"replace"})  # which takes no strength beyond 1
TYPES = {str(kind): kind for kind in (torch.float16, torch.bfloat16, torch.float32)}


@pytest.mark.parametrize(
    ("kind", "operator", "strength"),
    [
        (torch.float16, "add", 3e4),
        (torch.bfloat16, "add", 1e39),
        (torch.float32, "add", 1e30),
        (torch.float32, "clamp", -1e25),
        (torch.float16, "ablate", 1e6),
        (torch.float32, "scale", 1e38),
    ],
)
def test_a_strength_that_overflows_is_refused_before_the_first_pass_with_the_strength_of_dose_1(
    kind, operator, strength
):
    model = tiny.new_model().to(kind)
    plan = (Intervention(tiny.vector(1), 1.0), Intervention(tiny.vector(0, 2), strength, operator))
    for block in (lambda: steer(model, plan), lambda: steer_rows(model, [(), plan])):
        with pytest.raises(UsageError, match=r"layers\.0\.resid_post: strength .*too far.*is dose 1"), block():
            raise AssertionError("the block began")


@pytest.mark.slow
@settings(max_examples=60)
@given(
    st.sampled_from(sorted(TYPES)),
    st.sampled_from(OPERATORS),
    st.floats(-44, 39),
    st.booleans(),
)
def test_whatever_is_let_through_gives_logits_that_are_numbers(name, operator, exponent, minus):
    """Random models, any operator, strengths over all magnitudes: never a NaN without an error."""
    model = MODELS[name]
    plan = Intervention(tiny.vector(HookPoint(0), HookPoint(2)), (-1.0 if minus else 1.0) * 10.0**exponent, operator)
    try:
        with torch.no_grad(), steer(model, plan):
            assert bool(torch.isfinite(model(input_ids=IDS).logits).all())
    except UsageError as error:
        assert "too far" in str(error)
        assert exponent > 3


MODELS = {name: tiny.new_model().to(kind) for name, kind in TYPES.items()}


def test_the_check_costs_nothing_where_nothing_is_steered():
    ensure_finite((Intervention(tiny.vector(1, size=1e38), 0.0),), torch.float16)
