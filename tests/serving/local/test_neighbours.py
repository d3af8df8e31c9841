"""A row's answer is its own: the same tokens alone and beside any neighbours, whenever they come and go."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from tillerman.core.plan import Scope

from ... import tiny
from .driving import NO_END, drive, job, vector

PROMPTS = tiny.random_rows([5, 14, 3, 9, 6, 21], seed=8)
PLANS = (
    (),
    (vector(0, 2.0, seed=3),),
    (vector(1, 1.0, "rotate", Scope("generated"), seed=4), vector(0, 0.5, seed=5)),
    (vector(2, 1.0, "ablate", Scope("prompt"), seed=6),),
)
JOBS = st.builds(
    job,
    st.sampled_from(PROMPTS),
    st.sampled_from(PLANS),
    max_tokens=st.integers(1, 10),
    temperature=st.sampled_from([0.0, 0.7, 1.0, 1.5]),
    seed=st.integers(0, 5),
    top_p=st.sampled_from([1.0, 0.8]),
    top_k=st.sampled_from([0, 20]),
    presence_penalty=st.sampled_from([0.0, 1.0]),
    logit_bias=st.sampled_from([NO_END, {**NO_END, 40: 3.0, 41: -100.0}, {}]),
    stop=st.sampled_from([(), ("t",)]),
)


def ensure_alike(opened, jobs, begins, at_once):
    together = drive(opened, jobs, begins, at_once=at_once)
    for one, answer in zip(jobs, together, strict=True):
        (alone,) = drive(opened, [one])
        assert answer.ids == alone.ids
        assert answer.text == alone.text
        assert (answer.ended.ending, answer.ended.touched) == (alone.ended.ending, alone.ended.touched)
        assert answer.logprobs == pytest.approx(alone.logprobs, abs=1e-4)


MANY = given(st.lists(st.tuples(JOBS, st.integers(0, 8)), min_size=2, max_size=6), st.sampled_from([1, 7, 256]))


@settings(max_examples=2)
@MANY
def test_neighbours_that_come_and_go_change_nothing(drawn, at_once):
    ensure_alike(tiny.opened(), [one for one, _ in drawn], [begin for _, begin in drawn], at_once)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gemma3_text", "mixtral", "gpt2"])
@settings(max_examples=12)
@MANY
def test_neighbours_change_nothing_in_many_draws(family, drawn, at_once):
    ensure_alike(tiny.opened(family), [one for one, _ in drawn], [begin for _, begin in drawn], at_once)


@pytest.mark.slow
@settings(max_examples=15)
@MANY
def test_neighbours_in_a_closed_batch_change_nothing(drawn, at_once):
    ensure_alike(tiny.opened("qwen3_next"), [one for one, _ in drawn], [begin for _, begin in drawn], at_once)


def test_an_unsteered_row_has_the_same_bits_whether_its_neighbour_is_steered_or_not(opened):
    own = job(PROMPTS[0], max_tokens=8)
    plain = drive(opened, [own, job(PROMPTS[1], max_tokens=8)])[0]
    beside = drive(opened, [own, job(PROMPTS[1], (vector(0, 3.0),), max_tokens=8)])[0]
    assert plain.tokens == beside.tokens  # log-probabilities among them, not rounded
