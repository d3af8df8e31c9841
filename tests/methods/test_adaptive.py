"""Strengths by a rule: what each promises of planted sides."""

from __future__ import annotations

import pytest
import torch

from tillerman.core.errors import FitError
from tillerman.core.hookpoint import HookPoint
from tillerman.methods.adaptive import Dsas, Ids
from tillerman.methods.fit import Activations, shuffled
from tillerman.methods.registry import METHODS

from .. import tiny

P, Q = HookPoint(0), HookPoint(2)
D = 10
KINDS = pytest.mark.parametrize("method", [METHODS["dsas"](), METHODS["ids"]()], ids=lambda method: method.name)


def sides(seed: int = 0, n: int = 60, gap: float = 4.0) -> Activations:
    """Rows apart by ``gap`` along one direction; at Q twice as long."""
    drawn = torch.Generator().manual_seed(seed)
    u = torch.randn(D, generator=drawn)
    u = u / u.norm()
    positive, negative = (torch.randn(n, D, generator=drawn) + sign * gap / 2 * u for sign in (1, -1))
    return Activations({P: positive, Q: 2 * positive}, {P: negative, Q: 2 * negative}, {P: 3.0, Q: 6.0}, paired=True)


def fitted(method, seed: int = 0):
    return method.vector(sides(seed), tiny.provenance(width=D, method=method.name))


@KINDS
@pytest.mark.parametrize("seed", range(3))
def test_the_vector_is_the_difference_of_means_and_unwanted_rows_get_more_of_it(method, seed):
    given, steering = sides(seed), fitted(method, seed)
    for point in (P, Q):
        gap = given.positive[point].mean(0) - given.negative[point].mean(0)
        torch.testing.assert_close(steering.values[point][0], gap, atol=1e-5, rtol=1e-4)
        wanted, other = (steering.weights(point, side[point]).mean() for side in (given.positive, given.negative))
        assert float(other) > 2 * float(wanted)
        assert steering.norm(point) == pytest.approx(float((wanted + other) / 2 * gap.norm()), rel=1e-3)
    (line,) = method.report(steering.provenance.found)
    assert line.startswith("mean strength at wanted and at other training rows: layers.0.resid_post 0.")


def test_the_strength_of_dsas_is_a_probability_that_tells_rows_it_has_not_seen():
    steering, others = fitted(Dsas()), sides(0, n=400)
    wanted, other = (steering.weights(P, side[P][60:])[:, 0] for side in (others.positive, others.negative))
    assert float(wanted.min()) >= 0 and float(other.max()) <= 1
    assert float((other > 0.5).double().mean()) > 0.85 > 0.15 > float((wanted > 0.5).double().mean())


@pytest.mark.parametrize(("level", "share"), [(0.5, 0.4), (0.95, 0.4), (0.95, 1.0)])
def test_ids_stays_within_the_bound_that_so_many_wanted_rows_keep_to(level, share):
    given, steering = sides(), fitted(Ids(level=level, share=share))

    def distance(h: torch.Tensor) -> torch.Tensor:
        return (h @ steering.keys[P].T + steering.offsets[P]).norm(dim=1)

    inside = distance(given.positive[P]) <= 1 + 1e-5
    assert float(inside.double().mean()) == pytest.approx(level, abs=0.03)
    steered = given.negative[P] + steering.change(P, given.negative[P])
    moved = steering.weights(P, given.negative[P])[:, 0] > 0
    assert bool(moved.any())
    torch.testing.assert_close(distance(steered)[moved], torch.ones(int(moved.sum())), atol=1e-3, rtol=1e-3)
    assert torch.equal(steered[~moved], given.negative[P][~moved])
    axes = {1.0: D}.get(share, 2)  # the gap holds a third of the variance
    assert len(steering.keys[P]) == axes


def test_a_lower_bound_gives_every_token_less():
    h = sides(5).negative[P]
    low, high = (fitted(Ids(level=level)).weights(P, h) for level in (0.5, 1.0))
    assert bool((low <= high + 1e-5).all()) and float(low.mean()) < float(high.mean())


@KINDS
def test_with_labels_shuffled_it_points_elsewhere(method):
    given = sides()
    null = method.vector(shuffled(given, 3), tiny.provenance(width=D))
    real = fitted(method)
    assert float(null.values[P].norm()) < 0.5 * float(real.values[P].norm())


@KINDS
def test_the_same_rows_give_the_same_steering_and_the_same_sides_none(method):
    one, two = fitted(method), fitted(method)
    assert all(torch.equal(one.keys[p], two.keys[p]) for p in (P, Q))
    given = sides()
    with pytest.raises(FitError, match="check that the labels differ"):
        method.vector(
            Activations(given.positive, given.positive, given.stream_norms, paired=True), tiny.provenance(width=D)
        )


def test_options_change_what_the_gate_reads():
    x = sides(9).negative[P]
    assert not torch.allclose(fitted(Dsas(axes=2)).weights(P, x), fitted(Dsas()).weights(P, x), atol=1e-3)
    soft, hard = (fitted(Dsas(ridge=ridge)).weights(P, x) for ridge in (10.0, 0.001))
    assert float((soft - 0.5).abs().mean()) < 0.2 < float((hard - 0.5).abs().mean())
