"""What every kind of steering owes, over the registry of kinds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import pytest
import torch

import tillerman
from tillerman.core.artefact import Artefact, load, save
from tillerman.core.atoms import Atom
from tillerman.core.cell import Cell
from tillerman.core.errors import ArtefactError, HookPointError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.steerings.base import Steering
from tillerman.core.steerings.files import KINDS, put_together, taken_apart
from tillerman.core.steerings.gated import GatedSteering
from tillerman.core.steerings.lookahead import LookaheadSteering
from tillerman.core.steerings.routed import RoutedSteering
from tillerman.core.steerings.sequence import SequenceSteering
from tillerman.core.steerings.transport import TransportSteering
from tillerman.core.steerings.vector import SteeringVector

from .. import tiny

POINTS = (HookPoint(0), HookPoint(1))
NORMS = dict.fromkeys(POINTS, 2.0)


def table(rows: int, seed: int) -> dict[HookPoint, torch.Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    return {point: torch.randn(rows, tiny.WIDTH, generator=drawn) for point in POINTS}


def offsets(rows: int) -> dict[HookPoint, torch.Tensor]:
    return {point: torch.linspace(-1, 1, rows) for point in POINTS}


def row(seed: int) -> dict[HookPoint, torch.Tensor]:
    return {point: rows[0] for point, rows in table(1, seed).items()}


def transport() -> TransportSteering:
    lows, highs = ({point: torch.full((tiny.WIDTH,), at) for point in POINTS} for at in (-0.5, 2.0))
    return TransportSteering(NORMS, NORMS, tiny.provenance(), row(4), row(5), lows, highs)


def routed() -> RoutedSteering:
    vectors = row(6)
    lengths = {point: float(v.norm()) for point, v in vectors.items()}
    keys = table(2, 7)[POINTS[0]]
    return RoutedSteering(lengths, NORMS, tiny.provenance(), vectors, keys, torch.tensor([0.5, -0.5]), POINTS[0])


def lookahead() -> LookaheadSteering:
    moved = {"layers.0.weight": torch.ones(3, 2), "layers.1.weight": torch.eye(5).to_sparse()}
    depths = {"layers.0.weight": 0, "layers.1.weight": 1}
    return LookaheadSteering(
        NORMS, NORMS, tiny.provenance(), moved, depths, dict.fromkeys(POINTS, tiny.WIDTH), "fd", 0.5
    )


def same(one, other) -> bool:
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, torch.Tensor):
        return one.is_sparse == other.is_sparse and torch.equal(one.to_dense(), other.to_dense())
    return one == other


EXAMPLES = {
    "SteeringVector": lambda: tiny.vector(*POINTS),
    "GatedSteering": lambda: GatedSteering(
        NORMS, NORMS, tiny.provenance(), table(4, 1), offsets(4), table(4, 2), "relu"
    ),
    "TransportSteering": transport,
    "RoutedSteering": routed,
    "SequenceSteering": lambda: SequenceSteering(NORMS, NORMS, tiny.provenance(), table(3, 3)),
    "LookaheadSteering": lookahead,
}


@pytest.fixture(params=sorted(KINDS))
def steering(request) -> Steering:
    assert request.param in EXAMPLES, f"add an example of a {request.param} to {__file__}"
    return EXAMPLES[request.param]()


def test_a_kind_is_a_steering_under_the_name_of_its_class():
    assert {name: kind.__name__ for name, kind in KINDS.items()} == {name: name for name in KINDS}
    assert all(isinstance(make(), Steering) for make in EXAMPLES.values())


def test_a_file_gives_back_every_tensor_and_number_bit_for_bit(steering, tmp_path):
    save(tmp_path / "one.safetensors", Artefact(steering, Cell.of(steering)))
    back = load(tmp_path / "one.safetensors").steering
    assert type(back) is type(steering)
    for field in fields(steering):
        assert same(getattr(steering, field.name), getattr(back, field.name)), field.name


def test_at_one_hook_point_it_keeps_its_kind_and_numbers(steering):
    one = steering.at(POINTS[1])
    assert type(one) is type(steering) and one.points == (POINTS[1],)
    assert (one.norm(POINTS[1]), one.width(POINTS[1])) == (steering.norm(POINTS[1]), tiny.WIDTH)
    with pytest.raises(HookPointError, match=r"layers\.2\.resid_post: fitted at layers\.0-1\.resid_post"):
        steering.at(HookPoint(2))


def test_the_random_null_has_its_norm_and_follows_the_seed(steering):
    null, again, other = steering.random_like(5), steering.random_like(5), steering.random_like(6)
    assert null.points == steering.points
    for point in POINTS:
        assert null.norm(point) == pytest.approx(steering.norm(point), rel=1e-5)
        assert null.width(point) == tiny.WIDTH
    first, second, third = (taken_apart(one)[0] for one in (null, again, other))
    assert all(torch.equal(first[name], second[name]) for name in first)
    drawn = [name for name in first if not name.startswith(("keys", "offsets"))]  # a gate stays
    assert drawn and not any(torch.equal(first[name], third[name]) for name in drawn)


def test_only_a_constant_one_has_directions_and_takes_every_operator(steering):
    assert steering.is_constant == bool(steering.directions)
    if steering.is_constant:
        assert tillerman.Intervention(steering, 1.0, "ablate").operand(POINTS[0]).shape == (tiny.WIDTH,)
        return
    with pytest.raises(UsageError, match=f"'ablate' wants one vector, not a {type(steering).__name__}"):
        tillerman.Intervention(steering, 1.0, "ablate")
    with pytest.raises(UsageError, match=f"a {type(steering).__name__} has no one vector"):
        tillerman.Intervention(steering).operand(POINTS[0])


@dataclass(frozen=True)
class Given:
    """A pass that is known beforehand."""

    positions: torch.Tensor
    moved: torch.Tensor

    def ahead(self, steering, point, h):
        assert steering.looks_ahead and point == POINTS[0] and h.shape == self.moved.shape
        return self.moved


@pytest.mark.parametrize("kind", sorted(name for name, make in EXAMPLES.items() if not make().looks_ahead))
def test_steering_adds_strength_times_the_change(kind):
    """The live model does what ``change`` says, here at the first hook point."""
    steering = EXAMPLES[kind]()
    causal, ids = tiny.model(), torch.tensor([[5, 6, 7, 8, 9]])
    seen = []

    def states(plan):
        with tiny.hook(causal, "llama", HookPoint(1, "resid_pre"), lambda h: seen.append(h) or None):
            if not plan:
                return causal(ids)
            with tillerman.steer(causal, plan):
                return causal(ids)

    one = steering.at(POINTS[0])
    states(())
    states((tillerman.Intervention(one, 0.25),))
    plain, steered = seen
    reading = Given(torch.arange(5)[None], plain)
    torch.testing.assert_close(steered, plain + 0.25 * one.change(POINTS[0], plain, reading))


def test_the_change_of_what_looks_ahead_is_that_of_the_second_stream():
    h, moved = torch.zeros(1, 2, tiny.WIDTH), torch.ones(1, 2, tiny.WIDTH)
    assert torch.equal(lookahead().change(POINTS[0], h, Given(torch.arange(2)[None], moved)), moved)


def test_an_atom_survives_the_file_and_says_which_operator_it_wants(tmp_path):
    atom = Atom(torch.randn(tiny.WIDTH), 0.5, -1.0)
    vector = tiny.vector(1)
    held = SteeringVector(vector.directions, vector.stream_norms, vector.provenance, {HookPoint(1): atom})
    save(tmp_path / "one.safetensors", Artefact(held, Cell.of(held)))
    back = load(tmp_path / "one.safetensors").steering
    assert back.operator == "clamp_atom"
    assert torch.equal(back.operand(HookPoint(1), "clamp_atom"), held.operand(HookPoint(1), "clamp_atom"))
    with pytest.raises(UsageError, match=r"names no atom at layers.1.resid_post"):
        vector.check_operator("clamp_atom")


def test_a_kind_without_a_form_in_a_file_is_an_error_that_lists_those_with_one():
    class Mine(SteeringVector):
        pass

    vector = tiny.vector(1)
    with pytest.raises(ArtefactError, match="a Mine has no form in a file; known: SteeringVector"):
        taken_apart(Mine(vector.directions, vector.stream_norms, vector.provenance))
    with pytest.raises(ArtefactError, match="unknown kind of steering 'Mine'"):
        put_together({}, {"kind": "Mine"})
