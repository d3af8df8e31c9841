"""What is done to a token in one step is what the operators do one after the other."""

from __future__ import annotations

import torch
from hypothesis import given, settings, strategies as st

from tillerman.core.atoms import Atom
from tillerman.core.hookpoint import HookPoint
from tillerman.core.operators import applied, prepared
from tillerman.serving.changes import change_of, written
from tillerman.serving.pulls import OPERATORS, READING, Pull, in_order

WIDTH, TOKENS = 6, 5
HERE, NEXT = "layers.1.resid_post", "layers.2.resid_pre"  # of one block


def _operand(pull):
    """Two vectors that are not orthogonal, and an atom of each."""
    v = torch.randn(WIDTH, generator=torch.Generator().manual_seed(int(pull.digest)))
    atom = Atom(v.flip(0), -0.1, 0.2)
    return atom.packed(v) if pull.operator == "clamp_atom" else v


pulls = st.builds(
    Pull,
    st.just(1),
    st.sampled_from("12"),
    st.sampled_from((HERE, NEXT)),
    st.sampled_from((0.5, -1.0, 2.0)),
    st.sampled_from(OPERATORS),
)
streams = st.integers(0, 99).map(
    lambda seed: torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
)


def _in_turn(h, asked):
    for pull in sorted(asked, key=lambda pull: HookPoint.parse(pull.point).order):
        vectors, strengths = prepared(pull.operator, [_operand(pull)], [pull.strength], h)
        h = applied(pull.operator, h, vectors[0], strengths)
    return h


def _at_once(h, change):
    each = [
        one.float().expand(len(h), *one.shape) for one in (change.readers, change.writers, change.numbers, change.mix)
    ]
    return h.float() + change.sum.float() + (written(h, *each) if len(change.readers) else 0)


@settings(max_examples=80)
@given(st.lists(pulls, max_size=4), streams, st.integers(0, 2))
def test_one_map_does_what_the_operators_do_in_turn(asked, h, spare):
    reads = sum(pull.operator in READING for pull in asked)
    found = _at_once(h, change_of(in_order(asked), _operand, WIDTH, reads + spare))
    wanted = _in_turn(h, asked)
    assert torch.allclose(found.double(), wanted, atol=2e-5 * (1 + float(wanted.abs().max())), rtol=0)


@settings(max_examples=80)
@given(st.lists(pulls, max_size=4), st.randoms(use_true_random=False))
def test_additions_that_nothing_stands_between_may_come_in_any_order(asked, random):
    adding = [pull for pull in asked if pull.operator == "add"]
    mixed = random.sample(adding, len(adding))
    assert in_order(adding) == in_order(mixed)
    assert in_order(in_order(asked)) == in_order(asked)


def test_an_operator_that_reads_keeps_its_place_among_the_others():
    add, ablate = Pull(1, "1", HERE, 1.0), Pull(1, "2", HERE, 1.0, "ablate")
    assert in_order((add, ablate)) != in_order((ablate, add))
    late = Pull(1, "2", NEXT, 1.0, "ablate")
    assert in_order((late, add)) == (add, late)  # the next block's input comes after this one's output
    assert in_order((ablate, add, add)) == (ablate, Pull(1, "1", HERE, 2.0))
