"""Scorers that read: each on texts whose value is known by hand."""

from __future__ import annotations

import math

import pytest

from tillerman.core.errors import UnknownNameError, UsageError
from tillerman.data.thoughts import parted
from tillerman.evaluation.scorers.base import TextScorer
from tillerman.evaluation.scorers.registry import TEXT_SCORERS, text_scorer, text_scorers

USUAL = {"pattern": "[AB]", "keywords": "happy", "any": "happy", "exact": "yes"}


def one(name: str, reply: str, prompt: str = "?"):
    (value,) = text_scorer(name).score([prompt], [reply])
    return value


@pytest.mark.parametrize("name", sorted(set(TEXT_SCORERS) - {"labels", "classifier", "function"}))  # of files
def test_every_scorer_says_what_it_is_and_stays_in_its_range(name):
    scorer = text_scorer(f"{name}:{USUAL[name]}" if name in USUAL else name)
    assert isinstance(scorer, TextScorer) and scorer.name.startswith(name) and scorer.scale.unit
    texts = [
        "",
        "   ",
        "?!",
        "A",
        "one two three four five one two three four five",
        "<think>a b</think>c",
        "\u00e9" * 9,
    ]
    values = scorer.score(["?"] * len(texts), texts)
    assert len(values) == len(texts)
    for value in values:
        assert value is None or (math.isfinite(value) and scorer.scale.low <= value <= scorer.scale.high)


@pytest.mark.parametrize(
    ("reply", "value"), [("The answer is A.", 1), ("All of them", 0), ("(A)", 1), ("BANANA", 0), ("xA", 0), ("A1", 0)]
)
def test_a_pattern_does_not_cut_words(reply, value):
    assert one("pattern:A", reply) == value


def test_a_pattern_may_begin_and_end_with_signs_and_tries_every_alternative():
    assert one("pattern:\\$5", "US$5 each") == 1
    assert one("pattern:A|All", "All") == 1
    assert one("pattern:(?i:yes)", "YES!") == 1


def test_a_bad_pattern_is_a_clear_error():
    with pytest.raises(UsageError, match=r"'\[A' is not a regular expression: unterminated character set"):
        text_scorer("pattern:[A")
    with pytest.raises(UsageError, match=r"flags are written \(\?i:"):
        text_scorer("pattern:(?i)yes")


def test_keywords_are_whole_words_of_any_case():
    assert one("keywords:sun+rain", "Sun and RAIN, but sunny rainbows") == pytest.approx(2 / 6)
    assert one("any:sun", "sunny") == 0 and one("any:sun", "The sun.") == 1 and one("any:sun", "") == 0
    assert one("keywords:happy", "a happy boy cried") == 0.25 and one("keywords:sad", "a happy boy cried") == 0.25
    assert one("keywords:happy", "") is None


def test_exact_passes_over_case_blanks_and_punctuation_at_the_ends():
    assert one("exact:Paris", ' "PARIS. "\n') == 1 and one("exact:Paris", "Paris, France") == 0
    own = text_scorer("exact", {"capital?": "Paris", "one?": "1"})
    assert own.score(["one?", "capital?"], ["1", "Rome"]) == [1, 0]
    with pytest.raises(UsageError, match="no reference for the prompt 'three"):
        own.score(["three?"], ["3"])


def test_length_distinct_and_repetition_count_words():
    assert one("length", "It's a well-known fact, isn't it?") == 6
    assert one("distinct", "a b a b") == pytest.approx(2 / 3)  # ab, ba, ab
    assert one("distinct:1", "a b a b") == 0.5
    assert one("distinct", "a") is None
    assert one("repetition", "a b c d a b c d") == pytest.approx(1 / 5)  # the fifth run of four is the first again
    assert one("repetition", "a b c d e f") == 0


def test_fluency_is_the_weighted_entropy_of_pairs_and_triples():
    # "a b a b a": pairs ab, ba twice each: 1 bit; triples aba twice, bab once: 0.918 bits.
    triples = -(2 / 3 * math.log2(2 / 3) + 1 / 3 * math.log2(1 / 3))
    assert one("fluency", "a b a b a") == pytest.approx((2 / 3 * 1 + 4 / 3 * triples) / 2)
    assert one("fluency", "no no no no") == 0
    assert one("fluency", "two words") is None


def test_a_thought_is_measured_apart_from_what_is_said():
    reply = "<think>let me see, 4</think>Four."
    assert one("thought-length", reply) == 4 and one("length", reply) == 1
    assert one("thought-length", "Four.") is None
    assert one("length", "<think>on and on") == 0  # it never came to say anything
    assert parted("so it is</think>4") == ("so it is", "4")  # the prompt opened the thought


def test_names_are_read_with_commas_and_a_colon_takes_the_rest():
    names = [scorer.name for scorer in text_scorers(["sentiment, fluency,pattern:a,b", "length"])]
    assert names == ["sentiment", "fluency", "pattern:a,b", "length"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["length", "length"], "name each once"),
        (["fluency:3"], "takes nothing after a colon"),
        (["keywords"], "needs words joined by"),
        (["keywords:+"], "write keywords:word"),
        (["distinct:0"], "'0' is not a number of words"),
        (["exact"], "needs the reference"),
    ],
)
def test_what_a_scorer_cannot_be_is_said(asked, message):
    with pytest.raises(UsageError, match=message):
        text_scorers(asked)


def test_an_unknown_scorer_is_named_with_the_known_ones():
    with pytest.raises(UnknownNameError, match="Did you mean 'sentiment'"):
        text_scorer("sentimant")
