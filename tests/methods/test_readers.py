"""What gates read: axes, a rectified regression and a logistic one, against planted truths."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tillerman.core.errors import FitError
from tillerman.methods.readers import axes, logistic_fit, relu_fit


def rows(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(3, 40), d=st.integers(2, 30), seed=st.integers(0, 99))
def test_keys_of_the_stream_read_what_the_axes_read(n, d, seed):
    h = 5 * rows(n, d, seed) + 3
    found = axes(h, most=8)
    assert len(found.axes) <= min(8, n, d)
    torch.testing.assert_close(found.axes @ found.axes.T, torch.eye(len(found.axes), dtype=torch.float64))
    x = found.of(h)
    assert float(x[:, 0].var(correction=0)) == pytest.approx(1)
    weights, offset = rows(1, len(found.axes), seed + 1), rows(1, 1, seed + 2)[0]
    keys, offsets = found.keys(weights, offset)
    torch.testing.assert_close(h @ keys.T + offsets, x @ weights.T + offset)


def test_a_share_of_the_variance_says_how_many_axes_there_are():
    h = rows(200, 4) * torch.tensor([3.0, 2.0, 1.0, 0.1])
    assert [len(axes(h, share=share).axes) for share in (0.3, 0.8, 0.99, 1.0)] == [1, 2, 3, 4]


def test_rows_that_do_not_differ_give_no_axes():
    with pytest.raises(FitError, match="the rows have the same activations"):
        axes(rows(1, 5).expand(7, 5))
    with pytest.raises(FitError, match="not finite"):
        axes(rows(5, 5) / 0)


@pytest.mark.parametrize("seed", range(4))
def test_a_planted_rectified_gate_is_recovered_and_a_line_does_worse(seed):
    x, true = rows(400, 5, seed), rows(1, 5, seed + 50)[0]
    target = (x @ true - 0.5).relu()
    found = relu_fit(x, target, 1e-6)
    torch.testing.assert_close(found, torch.cat([true, torch.tensor([-0.5], dtype=x.dtype)]), atol=2e-2, rtol=2e-2)
    wide = torch.cat([x, torch.ones(400, 1, dtype=x.dtype)], dim=1)
    line = wide @ torch.linalg.lstsq(wide, target[:, None]).solution[:, 0]
    assert float((line.relu() - target).square().mean()) > 10 * float(((wide @ found).relu() - target).square().mean())


def test_a_start_is_only_left_for_a_smaller_loss():
    x, target = rows(50, 5), rows(50, 1, 7)[:, 0]
    start = rows(1, 6, 9)[0]

    def loss(weights: torch.Tensor) -> float:
        return float(
            ((x @ weights[:-1] + weights[-1]).relu() - target).square().mean() + 0.1 * weights[:-1].square().sum()
        )

    assert loss(relu_fit(x, target, 0.1, start)) < loss(start)
    best = relu_fit(x, target, 0.1)
    assert loss(relu_fit(x, target, 0.1, best)) <= loss(best)


def test_a_logistic_reader_is_where_its_loss_has_no_slope():
    positive, negative = rows(30, 4) + 0.7, rows(80, 4, 1)
    weights = logistic_fit(positive, negative, 0.01).requires_grad_()
    sides = [(torch.cat([h, torch.ones(len(h), 1, dtype=h.dtype)], 1) @ weights) for h in (positive, negative)]
    loss = 0.5 * torch.nn.functional.softplus(-sides[0]).mean() + 0.5 * torch.nn.functional.softplus(sides[1]).mean()
    (loss + 0.01 * weights[:-1].square().sum()).backward()
    assert float(weights.grad.abs().max()) < 1e-8
    assert float((sides[0] > 0).double().mean()) > 0.65
