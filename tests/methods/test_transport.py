"""'linear-act': the affine map of the optimal coupling, held to what optimal transport promises."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tillerman.core.errors import FitError
from tillerman.core.hookpoint import HookPoint
from tillerman.methods.fit import Activations, shuffled
from tillerman.methods.registry import method
from tillerman.methods.transport import LinearAct, affine_transport

from .. import tiny

P, Q = HookPoint(0), HookPoint(2)
D = 10


def sides(seed: int = 0, n: int = 40, m: int = 40) -> Activations:
    """Wanted rows shifted and of half the spread; at Q twice as long."""
    drawn = torch.Generator().manual_seed(seed)
    positive, negative = 0.5 * torch.randn(n, D, generator=drawn) + 1.0, torch.randn(m, D, generator=drawn)
    return Activations({P: positive, Q: 2 * positive}, {P: negative, Q: 2 * negative}, {P: 3.0, Q: 6.0}, n == m)


def fitted(one: LinearAct, given: Activations):
    return one.vector(given, tiny.provenance(width=D, method=str(one)))


@pytest.mark.parametrize(("m", "n"), [(25, 25), (24, 36)])
def test_a_gaussian_is_carried_onto_a_gaussian_exactly(m, n):
    """a = s1 / s0 and b = m1 - a m0. Of sizes that differ, samples that stand for the same distribution."""
    grid = torch.linspace(0, 1, 14, dtype=torch.double)[1:-1]  # 12 quantiles
    normal = torch.distributions.Normal(0.0, 1.0).icdf(grid)
    source = (
        normal.repeat(m // 12 or 1) if m != n else torch.randn(m, generator=torch.Generator().manual_seed(1)).double()
    )
    target = normal.repeat(n // 12 or 1) if m != n else source.flip(0)
    x = torch.stack([2.0 * source + 3, 0.1 * source - 1], 1)
    y = torch.stack([0.5 * target - 4, 5.0 * target + 2], 1)
    slopes, shifts = affine_transport(x, y)
    torch.testing.assert_close(slopes, torch.tensor([0.25, 50.0], dtype=torch.double))
    torch.testing.assert_close(shifts, torch.tensor([-4 - 0.25 * 3, 2 + 50.0], dtype=torch.double))
    image = slopes * x + shifts
    torch.testing.assert_close(image.std(0, correction=0), y.std(0, correction=0))
    torch.testing.assert_close(image.mean(0), y.mean(0))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(2, 9))
def test_samples_of_any_sizes_are_coupled_as_their_rows_repeated_to_one_size(seed, m, n):
    """The least squares of the sorted pairs, and no slope is below 0 or above the ratio of the spreads."""
    drawn = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(k, 3, generator=drawn).double() for k in (m, n))
    slopes, shifts = affine_transport(x, y)
    long_x, long_y = x.repeat_interleave(n, 0).sort(0).values, y.repeat_interleave(m, 0).sort(0).values
    for c in range(3):
        ones = torch.stack([long_x[:, c], torch.ones(m * n, dtype=torch.double)], 1)
        a, b = torch.linalg.lstsq(ones, long_y[:, c]).solution.tolist()
        assert (float(slopes[c]), float(shifts[c])) == pytest.approx((a, b), abs=1e-6, rel=1e-6)
    assert bool((slopes >= 0).all())
    assert bool((slopes <= y.std(0, correction=0) / x.std(0, correction=0) + 1e-9).all())
    torch.testing.assert_close((slopes * x + shifts).mean(0), y.mean(0))


def test_a_coordinate_without_spread_is_shifted_only():
    x = torch.tensor([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    y = torch.tensor([[0.0, 1.0], [4.0, 2.0], [8.0, 9.0]])
    slopes, shifts = affine_transport(x, y)
    assert slopes.tolist() == pytest.approx([4.0, 1.0]) and shifts.tolist() == pytest.approx([-4.0, -1.0])


@pytest.mark.parametrize(("n", "m"), [(40, 40), (40, 33)])
def test_unwanted_rows_get_mean_and_spread_of_the_wanted_and_the_common_part_is_caa(n, m):
    given = sides(n=n, m=m)
    one = LinearAct()
    steering = fitted(one, given)
    for point in (P, Q):
        wanted, other = given.positive[point], given.negative[point]
        change = steering.change(point, other)
        torch.testing.assert_close(change.mean(0), wanted.mean(0) - other.mean(0), atol=1e-4, rtol=1e-4)
        ratio = (other + change).std(0) / wanted.std(0)
        assert float(ratio.min()) > 0.85 and float(ratio.max()) <= 1.01
    both = torch.cat([given.positive[P], given.negative[P]])
    assert steering.norm(P) == pytest.approx(float(steering.change(P, both).norm(dim=1).mean()), rel=1e-4)
    (line,) = one.report(steering.provenance.found)
    assert "the same for all of them (the vector of caa), and the median slope: layers.0.resid_post 0." in line


def test_the_support_is_where_unwanted_rows_were_seen():
    given = sides()
    everywhere, seen = fitted(LinearAct(), given), fitted(method("linear-act:support=observed"), given)
    inside, outside = given.negative[P], given.negative[P].amax(0)[None] + 0.1
    assert torch.equal(seen.change(P, inside), everywhere.change(P, inside))
    assert torch.equal(seen.change(P, outside), torch.zeros(1, D)) and not everywhere.lows
    assert bool(everywhere.change(P, outside).any())


def test_one_row_has_no_spread_and_the_same_sides_have_nothing_to_carry():
    given = sides()
    few = Activations({P: given.positive[P][:1]}, {P: given.negative[P][:1]}, {P: 3.0}, paired=True)
    with pytest.raises(FitError, match="linear-act: one row has no spread to carry; give more examples, or use"):
        fitted(LinearAct(), few)
    with pytest.raises(FitError, match="check that the labels differ"):
        fitted(LinearAct(), Activations(given.positive, given.positive, given.stream_norms, paired=True))


def test_with_labels_shuffled_less_is_carried_and_the_same_rows_give_the_same_map():
    given, one = sides(), LinearAct()
    real, null = fitted(one, given), fitted(one, shuffled(given, 3))
    assert null.norm(P) < 0.6 * real.norm(P)
    again = fitted(one, given)
    assert all(
        torch.equal(getattr(real, name)[p], getattr(again, name)[p]) for name in ("slopes", "shifts") for p in (P, Q)
    )
