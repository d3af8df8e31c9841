"""Two different things never share a digest; what a thing is called plays no part."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from tillerman.core.facts import NO_FACT, digest_of
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.core.provenance import Provenance
from tillerman.core.steerings.vector import SteeringVector

MADE = Provenance("model", "feedbeef", 4, 2, "t", "c", "chat", "caa", date="today", data_name="one name")


def vector(value=1.0, made=MADE, layer=1):
    return SteeringVector({HookPoint(layer): torch.full((4,), value)}, {HookPoint(layer): 1.0}, made)


@dataclass(frozen=True)
class Named:
    size: int
    title: str = field(default="", metadata=NO_FACT)


@dataclass(frozen=True)
class Other:
    size: int


facts = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def told_apart(value):
    """A text that differs wherever the values do: ``1``, ``1.0`` and ``True`` are three facts."""
    if isinstance(value, dict):
        return f"map {sorted((k, told_apart(v)) for k, v in value.items())}"
    return f"list {[told_apart(v) for v in value]}" if isinstance(value, list) else f"{type(value)} {value!r}"


@given(facts, facts)
def test_digests_are_equal_exactly_where_the_facts_are(one, other):
    assert (digest_of(one) == digest_of(other)) == (told_apart(one) == told_apart(other))


DIFFERENT = [
    ("ab", "c"),
    ("a", "bc"),
    ("abc",),
    (("a",), "bc"),
    (1, 2),
    ((1, 2),),
    ([1], [2]),
    (1, 2.0),
    (True, 2),
    (None, 2),
    ({"a": 1},),
    ({"a": 1.0},),
    ({1},),
    (torch.zeros(2, 2),),
    (torch.zeros(4),),
    (torch.zeros(4, dtype=torch.float64),),
    (torch.tensor([0.0, 0, 0, -0.0]),),
    (np.zeros(4, dtype=np.float32),),
    (Named(1),),
    (Other(1),),
    (vector(),),
    (vector(2.0),),
    (vector(layer=0),),
    ((Intervention(vector()),),),
    ((Intervention(vector(), 2.0),),),
    ((Intervention(vector(), scope=Scope("last")),),),
    ((Intervention(vector(), operator="ablate"),),),
]


def test_no_two_of_these_share_a_digest():
    assert len({digest_of(*one) for one in DIFFERENT}) == len(DIFFERENT)


def test_how_a_vector_came_about_is_no_part_of_what_it_is():
    renamed = replace(MADE, date="tomorrow", data_name="another title", method="other")
    assert digest_of(vector()) == digest_of(vector(made=renamed))


def test_a_title_is_no_fact_where_its_field_says_so():
    assert digest_of(Named(1, "one title")) == digest_of(Named(1, "another"))


def test_the_same_bits_in_another_layout_are_the_same_tensor():
    tensor = torch.arange(6.0).reshape(2, 3)
    assert digest_of(tensor) == digest_of(tensor.T.contiguous().T)


def test_what_is_no_plain_fact_is_refused():
    with pytest.raises(TypeError, match="generator: no plain fact"):
        digest_of(x for x in ())


@pytest.mark.parametrize("size", [3, 70_000])
def test_a_sparse_tensor_is_known_by_its_shape_places_and_entries(size):
    places, entries = torch.tensor([[0, 2]]), torch.tensor([1.0, 2.0])

    def sparse(places, entries, size=size):
        return torch.sparse_coo_tensor(places, entries, (size,), check_invariants=True)

    assert digest_of(sparse(places, entries)) == digest_of(sparse(places.flip(1), entries.flip(0)))
    others = (
        sparse(places, 2 * entries),
        sparse(places - torch.tensor([[0, 1]]), entries),
        sparse(places, entries, size + 1),
    )
    assert len({digest_of(one) for one in (sparse(places, entries), *others)}) == 4


def test_a_large_tensor_that_was_changed_in_place_is_another_fact():
    """The digest of a large tensor is kept; what is kept must not outlive what it says."""
    large = torch.zeros(70_000)
    before = digest_of(large)
    assert digest_of(large) == before == digest_of(torch.zeros(70_000))
    large[69_999] = 1.0
    assert digest_of(large) != before
    assert digest_of(torch.zeros(70_000, 1)) != before
