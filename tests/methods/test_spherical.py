"""'spherical': the gate that is fitted with the direction, and what is said of it."""

from __future__ import annotations

import pytest
import torch

from tillerman.core.errors import FitError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.operators import slerp
from tillerman.data.writing import make_writer
from tillerman.methods.activations import Reading
from tillerman.methods.base import Context, Fitted
from tillerman.methods.fit import Activations, shuffled
from tillerman.methods.registry import method
from tillerman.methods.spherical import Spherical
from tillerman.pipeline.vectors import alike

from .. import tiny

P, Q = HookPoint(0), HookPoint(2)
D = 10


def sides(common: float = 0.0, seed: int = 0, n: int = 60) -> Activations:
    """Rows apart along one direction, around ``common`` times it; at Q twice as long."""
    drawn = torch.Generator().manual_seed(seed)
    u = torch.nn.functional.normalize(torch.randn(D, generator=drawn), dim=0)
    positive, negative = (torch.randn(n, D, generator=drawn) + (2 * sign + common) * u for sign in (1, -1))
    return Activations({P: positive, Q: 2 * positive}, {P: negative, Q: 2 * negative}, {P: 3.0, Q: 6.0}, paired=True)


def fitted(one: Spherical, given: Activations):
    return one.vector(given, tiny.provenance(width=D, method=str(one)))


def test_it_turns_along_the_direction_of_caa_and_unwanted_rows_by_more_of_it():
    one, given = Spherical(), sides()
    steering = fitted(one, given)
    for point in (P, Q):
        v = given.positive[point].mean(0) - given.negative[point].mean(0)
        torch.testing.assert_close(steering.directions[point], v, atol=1e-5, rtol=1e-4)
        wanted, other = (steering.confidences[point].gate(side[point]) for side in (given.positive, given.negative))
        assert float(other.mean()) > 0.8 > 0.1 > float(wanted.mean())
        turned = slerp(given.negative[point], steering.operand(point, "slerp"), 1.0)
        assert float((turned @ v > 0).double().mean()) > 0.8
    assert steering.operator == "slerp"
    (line,) = one.report(steering.provenance.found)
    assert line.startswith("mean share of the strength that the gate gives wanted and other training rows: layers.0.")


def test_options_travel_in_the_spec_and_reach_the_gate():
    one = method("spherical+pca:kappa=3,threshold=-0.5,prior=equal")
    gate = fitted(one, sides()).confidences[P]
    assert (gate.kappa, gate.threshold, gate.even) == (3.0, -0.5, 0.0)
    assert str(one) == "spherical+pca:kappa=3,threshold=-0.5,prior=equal"


def test_without_concentration_there_is_no_gate_and_nothing_said_of_one():
    one = Spherical(kappa=0.0)
    steering = fitted(one, sides())
    assert not steering.confidences and one.report(steering.provenance.found) == ()
    assert (one.needs_rows, Spherical().needs_rows) == (False, True)


def test_a_gate_that_is_shut_at_every_unwanted_row_is_refused_with_the_remedies():
    far = sides(common=100.0)  # the stream's common part leans to the wanted prototype, as in a real model
    opened = tiny.opened()
    writer = make_writer(opened.tokenizer)
    given = Context(opened, (), (), writer, (P, Q), tiny.provenance(width=D), sides=Reading(far, {}))
    with pytest.raises(FitError, match=r"shut at every unwanted training row.*prior=fitted.*kappa=0"):
        Spherical(prior="equal").fit(given)
    assert Spherical(kappa=0.0).fit(given).operator == "slerp"


@pytest.mark.parametrize("common", [-8.0, 0.0, 8.0])
def test_fitted_weights_open_the_gate_for_the_unwanted_side_wherever_the_stream_leans(common):
    given, steering = sides(common), fitted(Spherical(), sides(common))
    for point in (P, Q):
        gate = steering.confidences[point]
        wanted, other = (gate.gate(side[point]).mean() for side in (given.positive, given.negative))
        assert float(other) > float(wanted) + 0.1
        cosines = [
            torch.cosine_similarity(side[point], gate.prototype, dim=1).mean()
            for side in (given.positive, given.negative)
        ]
        assert gate.even == pytest.approx(float(sum(cosines) / 2), abs=1e-4)


def test_the_null_of_shuffled_labels_has_its_own_gate_and_never_fails_for_it():
    for common in (0.0, 100.0):
        given = sides(common)
        real, null = fitted(Spherical(), given), fitted(Spherical(), shuffled(given, 3))
        assert not torch.equal(real.confidences[P].prototype, null.confidences[P].prototype)


def test_gates_that_differ_make_vectors_that_differ():
    made = {
        spec: Fitted(method(spec), fitted(method(spec), sides()), lambda seed: None, lambda seed: None)
        for spec in ("spherical", "spherical:threshold=-0.9", "angular", "angular+pca")
    }
    assert not any(name.startswith("spherical") for name in alike(made))
