"""Which pairs of answers are worth keeping, and why the others are not. Pure.

Every fault is named, so that a data file can say how many pairs were written and what became of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from tillerman.data.duplicates import near_pairs
from tillerman.data.making.prompts import PromptPair
from tillerman.data.splits import normalised

SHORT, LONG = "too short", "too long"
LOOP = "repeats itself"
SAME = "the same on both sides"
PROMPT = "repeats its prompt"
NAMED = "names the behaviour"
NEAR = "nearly a duplicate of another pair"
UNTOLD = "not told apart by the scorer"
FAULTS = (SHORT, LONG, LOOP, SAME, PROMPT, NAMED, NEAR, UNTOLD)

RUN, LOOPS = 4, 0.3  # words of a run; share of runs that were there before, above which a text is a loop
COPIED = 6  # words of a prompt that follow each other in an answer too
ALIKE = 0.8  # share of the words of two answers that are the same: above it they are one answer
_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_SENTENCE = re.compile(r"[.!?…][\"'”»)*]*(?=\s|$)")
_ENDINGS = ("ingly", "ing", "edly", "ed", "es", "ly", "s", "e", "y")
_SMALL_WORDS = (
    "a an the and or but of to in on at by for with without from as is are was be been being it its this that "
    "these those he she they them his her their you your i my me we us our do does did not no very much more most "
    "always never every each all any some like so than then there here who what which when how if into out up "
    "down over answer answers question questions reply replies say says use uses using way style assistant"
)
_SMALL = frozenset(_SMALL_WORDS.split())
_SELF = re.compile(r"\b(?:as an?|as the|i am|i'm|i’m|i will|i'll|i’ll|i must|i always|i have to)\b", re.IGNORECASE)
T = TypeVar("T")
NEARBY = 5  # words after "as a", "I am": what an answer says that it is


@dataclass(frozen=True)
class WrittenPair:
    """One question, answered under both prompts of a pair; ``prompts`` is None where there were none."""

    question: str
    wanted: str
    unwanted: str
    prompts: PromptPair | None = None


@dataclass(frozen=True)
class Limits:
    """Words of an answer."""

    least: int = 3
    most: int = 200


@dataclass(frozen=True)
class Sifted:
    """``kept`` in the order given; ``dropped``: how many by each fault; ``examples``: the first pair of each."""

    kept: tuple[WrittenPair, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, WrittenPair] = field(default_factory=dict)

    @property
    def written(self) -> int:
        return len(self.kept) + sum(self.dropped.values())


def sift(
    pairs: Sequence[WrittenPair],
    description: str = "",
    limits: Limits = Limits(),
    told_apart: Callable[[Sequence[WrittenPair]], Sequence[bool]] | None = None,
) -> Sifted:
    """Each pair is kept, or dropped for the first of ``FAULTS`` that it has. ``told_apart`` says of the pairs that are
    left in the end which of them a scorer tells apart."""
    faults: list[str | None] = [fault_of(pair, description, limits) for pair in pairs]
    clean = [i for i, fault in enumerate(faults) if fault is None]
    for place in near_duplicates([pairs[i] for i in clean]):
        faults[clean[place]] = NEAR
    clean = [i for i, fault in enumerate(faults) if fault is None]
    if told_apart is not None:
        for i, told in zip(clean, told_apart([pairs[i] for i in clean]), strict=True):
            faults[i] = None if told else UNTOLD
    return Sifted(*sorted_out(pairs, faults))


def sorted_out(judged: Sequence[T], faults: Sequence[str | None]) -> tuple[tuple[T, ...], dict[str, int], dict[str, T]]:
    """Those without a fault in the order given; how many have each fault; the first of each."""
    found = [(fault, one) for fault, one in zip(faults, judged, strict=True) if fault is not None]
    counts = Counter(fault for fault, _ in found)
    return (
        tuple(one for fault, one in zip(faults, judged, strict=True) if fault is None),
        {fault: counts[fault] for fault in FAULTS if counts[fault]},
        dict(reversed(found)),
    )


def fault_of(pair: WrittenPair, description: str = "", limits: Limits = Limits()) -> str | None:
    """What is wrong with one pair by itself, the first of ``FAULTS``; None where nothing is."""
    both = (pair.wanted, pair.unwanted)
    counts = [len(words(text)) for text in both]
    checks: Mapping[str, Callable[[], bool]] = {
        SHORT: lambda: min(counts) < limits.least,
        LONG: lambda: max(counts) > limits.most,
        LOOP: lambda: any(repeated(text) > LOOPS for text in both),
        SAME: lambda: alike(*both),
        PROMPT: lambda: _echoes(pair),
        NAMED: lambda: names(pair.wanted, description),
    }
    return next((fault for fault, found in checks.items() if found()), None)


def _echoes(pair: WrittenPair) -> bool:
    """Whether an answer repeats its own prompt, or is nothing but the question."""
    told = (pair.prompts.positive, pair.prompts.negative) if pair.prompts else ("", "")
    both = (pair.wanted, pair.unwanted)
    asked = normalised(pair.question)
    return any(normalised(text) == asked or copies(text, prompt) for text, prompt in zip(both, told, strict=True))


def near_duplicates(pairs: Sequence[WrittenPair]) -> set[int]:
    """The later ones of pairs whose wanted answers are nearly the same, and of those whose unwanted answers to one
    question are: one answer written again teaches nothing."""
    wanted = near_pairs([pair.wanted for pair in pairs])
    others = near_pairs([f"{pair.question}\n{pair.unwanted}" for pair in pairs])
    same = {(i, j) for i, j in others if normalised(pairs[i].question) == normalised(pairs[j].question)}
    return {max(i, j) for i, j in (*wanted, *same)}


def words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def repeated(text: str) -> float:
    """The share of its runs of ``RUN`` words that were there before; 0 of a text without one."""
    runs = _runs(words(text), RUN)
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def alike(one: str, other: str) -> bool:
    """Whether two texts are the same but for case, marks and few words: the words they share (each as often as it is
    in both) are more than ``ALIKE`` of the longer one's."""
    first, second = Counter(words(one)), Counter(words(other))
    longer = max(first.total(), second.total())
    return not longer or (first & second).total() > ALIKE * longer


def copies(answer: str, prompt: str) -> bool:
    """Whether ``COPIED`` words of the prompt (all of a shorter one) stand in the answer in their order."""
    told = words(prompt)
    size = min(COPIED, len(told))
    return size > 2 and bool(set(_runs(told, size)) & set(_runs(words(answer), size)))


def names(answer: str, description: str) -> bool:
    """Whether an answer talks about the behaviour instead of showing it: all words of the description that carry its
    sense stand in it (where there are two at least), or one of them close after "as a", "I am", "I will"."""
    sense = {_stem(word) for word in words(description) if word not in _SMALL}
    if not sense:
        return False
    if len(sense) > 1 and sense <= {_stem(word) for word in words(answer)}:
        return True
    said = (words(answer[found.end() :])[:NEARBY] for found in _SELF.finditer(answer))
    return any(_stem(word) in sense for near in said for word in near)


def whole_sentences(text: str) -> str:
    """Without the half sentence at the end of a text that was cut off; as it is where it has no whole one."""
    ends = [found.end() for found in _SENTENCE.finditer(text.rstrip())]
    return text[: ends[-1]].strip() if ends else text.strip()


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word


def _runs(said: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(said[i : i + size]) for i in range(len(said) - size + 1)]
