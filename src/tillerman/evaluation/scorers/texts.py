"""Scorers of replies that only read them: no model, no network, no random numbers.

What a reasoning model thinks is not what it says: all but ``thought-length`` read what follows the thought.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tillerman.core.errors import UsageError
from tillerman.data.splits import normalised
from tillerman.data.thoughts import parted
from tillerman.evaluation.scorers.base import ScoreRange, ScorerEntry
from tillerman.statistics.scores import Value

HAPPY = "happy+happily+joy+joyful+smile+smiled+laugh+laughed+fun+glad+love+loved+excited+hug+hugged+proud+wonderful"
SAD = "sad+sadly+cry+cried+tears+scared+afraid+hurt+lost+angry+alone+lonely+upset+sorry+pain+broke+broken+miserable"
_RIGHT = ScoreRange("share", 0.0, 1.0, "more")
_THOUGHT = ScoreRange("words", 0.0, math.inf, "less")
LISTS = {"happy": HAPPY, "sad": SAD}
RUN = 4  # words; a run of so many that comes again is repetition
_WORDS = re.compile(r"\w+(?:['\u2019-]\w+)*")
_WHOLE = r"(?:(?<!\w)|(?!\w))"  # no place between two letters of a word
_EDGES = ".,;:!?\"'()[] \n\t"


@dataclass(frozen=True)
class Reader:
    """A scorer that reads one reply at a time; ``measure`` gives None where there is nothing to measure."""

    name: str
    scale: ScoreRange
    measure: Callable[[str], Value]
    note: str = ""

    def score(self, prompts: Sequence[str], replies: Sequence[str]) -> list[Value]:
        del prompts
        return [self.measure(parted(reply)[1]) for reply in replies]


@dataclass(frozen=True)
class Exact:
    """1 where the reply is the reference of its prompt but for case, blanks and punctuation at its ends, else 0.
    One ``reference`` for all prompts, or one for each in ``references``."""

    reference: str | None = None
    references: Mapping[str, str] | None = None
    name: str = "exact"
    scale: ScoreRange = _RIGHT
    note: str = ""

    def score(self, prompts: Sequence[str], replies: Sequence[str]) -> list[Value]:
        return [float(_bare(parted(reply)[1]) == _bare(self._of(p))) for p, reply in zip(prompts, replies, strict=True)]

    def _of(self, prompt: str) -> str:
        known = self.reference if self.reference is not None else (self.references or {}).get(prompt)
        if known is None:
            raise UsageError(
                f"scorer 'exact': no reference for the prompt {prompt[:60]!r}; write exact:TEXT, or give "
                "every prompt a 'reference'"
            )
        return known


@dataclass(frozen=True)
class ThoughtLength:
    """Words between the thinking tags; None for a reply without a thought. ``tillerman eval --metric thought-length``
    counts tokens, and knows whether the thought ended."""

    name: str = "thought-length"
    scale: ScoreRange = _THOUGHT
    note: str = ""

    def score(self, prompts: Sequence[str], replies: Sequence[str]) -> list[Value]:
        del prompts
        thoughts = [parted(reply)[0] for reply in replies]
        return [None if thought is None else float(len(words(thought))) for thought in thoughts]


def pattern(expression: str) -> Reader:
    """1 where the regular expression is found, else 0. What it finds may not cut a word: ``A`` is not in ``All``."""
    try:
        re.compile(expression)
        found = re.compile(rf"{_WHOLE}(?:{expression}){_WHOLE}")
    except re.error as error:
        raise UsageError(
            f"scorer 'pattern': {expression!r} is not a regular expression: {error}; flags are written (?i:...)"
        ) from None
    return Reader(
        f"pattern:{expression}", ScoreRange("share", 0.0, 1.0), lambda reply: float(found.search(reply) is not None)
    )


def keywords(listed: str) -> Reader:
    """Share of the reply's words that are on a list: ``happy``, ``sad``, or words joined by ``+``. Whole words, any
    case. None for an empty reply."""
    wanted = {word.casefold() for word in LISTS.get(listed, listed).split("+") if word}
    if not wanted:
        raise UsageError(f"scorer 'keywords': write keywords:word+word, or one of the lists {', '.join(LISTS)}")

    def share(reply: str) -> Value:
        said = words(reply)
        return sum(word in wanted for word in said) / len(said) if said else None

    return Reader(f"keywords:{listed}", ScoreRange("share of words", 0.0, 1.0), share)


def any_keyword(listed: str) -> Reader:
    """1 where the reply has a word of the list (as for ``keywords``), else 0."""
    counted = keywords(listed)
    return Reader(
        f"any:{listed}", ScoreRange("share", 0.0, 1.0), lambda reply: float((counted.measure(reply) or 0.0) > 0)
    )


def length() -> Reader:
    return Reader("length", ScoreRange("words", 0.0, math.inf), lambda reply: float(len(words(reply))))


def distinct(n: str) -> Reader:
    """Distinct runs of n words over all runs of n words (Li et al. 2016, arXiv 1510.03055)."""
    if not n.isdecimal() or int(n) < 1:
        raise UsageError(f"scorer 'distinct': {n!r} is not a number of words; write e.g. distinct:2")

    def share(reply: str) -> Value:
        found = _runs(words(reply), int(n))
        return len(set(found)) / len(found) if found else None

    return Reader(f"distinct:{n}", ScoreRange("share", 0.0, 1.0, "more"), share)


def repetition() -> Reader:
    """Share of the runs of four words that were there before."""

    def share(reply: str) -> Value:
        found = _runs(words(reply), RUN)
        return 1 - len(set(found)) / len(found) if found else None

    return Reader("repetition", ScoreRange("share", 0.0, 1.0, "less"), share)


def fluency() -> Reader:
    """Entropy of n-grams, ``mean(2/3 H2, 4/3 H3)`` in bits, as in STA and ROME (Meng et al. 2022, arXiv 2202.05262).

    It sees repetition only: word salad has high entropy, and longer replies have more. None below three words."""

    def entropy(reply: str) -> Value:
        said = words(reply)
        if len(said) < 3:
            return None
        return (2 / 3 * _entropy(_runs(said, 2)) + 4 / 3 * _entropy(_runs(said, 3))) / 2

    return Reader("fluency", ScoreRange("bits", 0.0, math.inf, "more"), entropy)


def words(text: str) -> list[str]:
    return _WORDS.findall(text.casefold())


def _bare(text: str) -> str:
    return normalised(text).strip(_EDGES)


def _runs(said: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(said[i : i + n]) for i in range(len(said) - n + 1)]


def _entropy(runs: Sequence[tuple[str, ...]]) -> float:
    shares = [count / len(runs) for count in Counter(runs).values()]
    return max(0.0, -sum(share * math.log2(share) for share in shares))


SCORERS: Mapping[str, ScorerEntry] = {
    "any": ScorerEntry(any_keyword, "words joined by +, or happy, or sad"),
    "distinct": ScorerEntry(distinct, "a number of words", "2"),
    "exact": ScorerEntry(Exact, "the reference"),
    "fluency": ScorerEntry(lambda _: fluency()),
    "keywords": ScorerEntry(keywords, "words joined by +, or happy, or sad"),
    "length": ScorerEntry(lambda _: length()),
    "pattern": ScorerEntry(pattern, "a regular expression"),
    "repetition": ScorerEntry(lambda _: repetition()),
    "thought-length": ScorerEntry(lambda _: ThoughtLength()),
}
