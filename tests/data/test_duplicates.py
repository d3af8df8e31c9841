"""Splits: stable, complete, and without the same or nearly the same item on two sides."""

from __future__ import annotations

import random
import time
from itertools import combinations

import pytest
from hypothesis import given, settings, strategies as st

from tillerman.core.errors import UsageError
from tillerman.data.duplicates import Split, clean_split, near_items, near_pairs
from tillerman.data.examples import Example
from tillerman.data.splits import SPLITS, split_of

WORDS = [f"word{i}" for i in range(400)]


def item(question: str, answer: int = 0) -> Example:
    return Example("yes_no", question, ("Yes", "No"), answer)


def sentence(seed: int, words: int = 30) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def near(text: str, change: str) -> str:
    """One more word at the end: 28 of 29 shingles of 30 words stay."""
    return f"{text} {change}"


def shares_of(split: Split) -> dict[str, str]:
    return {e.id: name for name in SPLITS for e in split.part(name)}


def jaccard(one: str, other: str) -> float:
    a, b = ({tuple(t.split()[i : i + 3]) for i in range(len(t.split()) - 2)} for t in (one, other))
    return len(a & b) / len(a | b)


numbers = st.lists(st.integers(0, 60), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(first=numbers, more=numbers, seed=st.integers(-5, 5))
def test_adding_items_never_moves_the_others(first: list[int], more: list[int], seed: int) -> None:
    def items(values: list[int]) -> list[Example]:
        return [item(near(sentence(v // 3), WORDS[v % 3])) for v in values]

    before = shares_of(clean_split(items(first), seed=seed))
    after = shares_of(clean_split(items(first + more), seed=seed))
    assert all(before[key] == after[key] for key in before.keys() & after.keys())
    # What is protected best cannot be lost.
    assert {key for key, share in before.items() if share == "test"} <= after.keys()


@settings(max_examples=40, deadline=None)
@given(values=numbers, sizes=st.tuples(*[st.one_of(st.none(), st.integers(1, 9))] * 3))
def test_every_item_is_somewhere_or_counted(
    values: list[int], sizes: tuple[int | None, int | None, int | None]
) -> None:
    examples = [item(near(sentence(v // 3), WORDS[v % 3])) for v in values]
    split = clean_split(examples, sizes=sizes)
    placed = [e for name in SPLITS for e in split.part(name)]
    assert len(placed) + split.dropped + split.repeated + split.cut == len(examples)
    assert len({e.id for e in placed}) == len(placed)
    for name in SPLITS:
        assert all(split_of(e.key) == name for e in split.part(name))


@settings(max_examples=30, deadline=None)
@given(values=numbers)
def test_near_duplicates_never_straddle_a_border(values: list[int]) -> None:
    split = clean_split([item(near(sentence(v // 3), WORDS[v % 3])) for v in values])
    for one, other in combinations(SPLITS, 2):
        for a in split.part(one):
            assert all(jaccard(a.question, b.question) < 0.9 for b in split.part(other))


def straddling(better: str, worse: str) -> tuple[Example, Example]:
    for seed in range(10_000):
        one, other = sentence(seed), near(sentence(seed), "more")
        if (split_of(one), split_of(other)) == (better, worse):
            return item(one), item(other)
    raise AssertionError


@pytest.mark.parametrize(("better", "worse"), [("test", "validation"), ("test", "train"), ("validation", "train")])
def test_the_less_protected_side_loses_its_near_duplicate(better: str, worse: str) -> None:
    one, other = straddling(better, worse)
    split = clean_split([other, one])
    assert shares_of(split) == {one.id: better}
    assert split.dropped == 1


@pytest.mark.slow
def test_the_pairs_found_are_exactly_those_of_a_plain_comparison() -> None:
    texts = [near(sentence(i // 4, words=12 + i % 40), WORDS[i % 2] * (i % 3 > 0)).strip() for i in range(160)]
    plain = {(i, j) for i, j in combinations(range(len(texts)), 2) if jaccard(texts[i], texts[j]) >= 0.9}
    assert len(plain) > 5
    assert set(near_pairs(texts)) == plain


def test_case_and_punctuation_do_not_hide_a_duplicate() -> None:
    assert list(near_pairs(["It is so, is it not?", "other words here", "it IS so - is it not"])) == [(0, 2)]


def test_questions_on_one_passage_are_no_duplicates() -> None:
    passage = sentence(1, 80)
    one = Example("choice", f"{passage}\nWho?", (sentence(2, 12), sentence(3, 12)), 0)
    other = Example("choice", f"{passage}\nWhy?", (sentence(4, 12), sentence(5, 12)), 0)
    assert near_items([one, other]) == set()


def test_both_texts_of_a_pair_are_compared() -> None:
    one = Example("text", "", (sentence(1), sentence(2)), 0)
    other = Example("text", "", (sentence(3), near(sentence(2), "more")), 0)
    assert near_items([one, other]) == {(0, 1)}


def test_the_same_item_stays_once() -> None:
    split = clean_split([item("Is it so?"), item("is  it SO?"), item("Is it?")])
    assert (split.repeated, len(shares_of(split))) == (1, 2)


def test_the_sizes_keep_the_same_items_when_more_come() -> None:
    examples = [item(sentence(i)) for i in range(300)]
    small = clean_split(examples[:200], sizes=(10, 5, 5))
    large = clean_split(examples, sizes=(10, 5, 5))
    assert (len(small.train), len(small.validation), len(small.test)) == (10, 5, 5)
    kept = [e for e in large.train if e in examples[:200]]
    assert kept and all(e in small.train for e in kept)


def test_other_shares_and_seeds_give_other_splits() -> None:
    examples = [item(sentence(i)) for i in range(300)]
    half = clean_split(examples, (0.5, 0.0, 0.5))
    assert not half.validation and 100 < len(half.train) < 200
    assert {e.id for e in clean_split(examples, seed=1).train} != {e.id for e in clean_split(examples).train}


@pytest.mark.parametrize("shares", [(0.6, 0.2, 0.3), (1.2, -0.1, -0.1), (0.5, 0.5), (float("nan"), 0.5, 0.5)])
def test_shares_that_are_no_shares_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="sum 1"):
        clean_split([item("Is it?")], shares)


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        clean_split([item("Is it?")], sizes=(0, None, None))


def test_five_thousand_items_take_less_than_five_seconds() -> None:
    header = "Is the following statement something you would say?"
    examples = [item(f'{header}\n"{sentence(i, 40)} {WORDS[i % 50]}"') for i in range(5000)]
    start = time.process_time()
    clean_split(examples)
    assert time.process_time() - start < 5
