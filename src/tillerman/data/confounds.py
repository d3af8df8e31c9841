"""How well something that should not matter predicts the right answer: position, length, first word.

Each function gives hits, trials and the chance level; ``tillerman.data.diagnostics`` judges them. Rules
that learn from the data are cross-validated over five folds that follow from the items' hashes.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tillerman.data.examples import Example
from tillerman.data.splits import hash_fraction

FOLDS = 5
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Score:
    """What a rule reaches: ``hits`` of ``n``; a tie between options counts as its share."""

    hits: float
    n: int
    chance: float

    @property
    def accuracy(self) -> float:
        return self.hits / self.n if self.n else 0.0


def most_frequent(positions: Sequence[int], chance: float) -> tuple[int, Score]:
    """The commonest position and how often it is the right one."""
    position, hits = Counter(positions).most_common(1)[0]
    return position, Score(hits, len(positions), chance)


def chance_level(examples: Sequence[Example]) -> float:
    return sum(1 / len(example.options) for example in examples) / len(examples)


def by_option(examples: Sequence[Example], value: Callable[[str], float]) -> Score:
    """The rule 'choose the option with the largest value'."""
    hits = sum(_credit([value(option) for option in example.options], example.answer) for example in examples)
    return Score(hits, len(examples), chance_level(examples))


def option_first_word(examples: Sequence[Example]) -> Score:
    """The rule 'choose the option whose first word was right most often', learned on the other folds."""
    hits = 0.0
    for learn, judge in _folds(examples):
        right: Counter[str] = Counter()
        wrong: Counter[str] = Counter()
        for example in learn:
            for i, option in enumerate(example.options):
                (right if i == example.answer else wrong)[first_word(option)] += 1
        for example in judge:
            words = [first_word(option) for option in example.options]
            hits += _credit([math.log((right[w] + 1) / (wrong[w] + 1)) for w in words], example.answer)
    return Score(hits, len(examples), chance_level(examples))


def question_first_word(examples: Sequence[Example]) -> Score:
    """For questions with the same two options: the first word after what all questions share."""
    shared = _shared_start([example.question for example in examples])
    return _majority(examples, lambda example: first_word(example.question[shared:]))


def question_length(examples: Sequence[Example]) -> Score:
    """For questions with the same two options: the tenth of the length scale that the question is in."""
    lengths = sorted(len(example.question) for example in examples)
    borders = [lengths[len(lengths) * i // 10] for i in range(1, 10)]
    return _majority(examples, lambda example: str(sum(len(example.question) >= border for border in borders)))


def _majority(examples: Sequence[Example], feature: Callable[[Example], str]) -> Score:
    """Predict the commonest answer among the learned items with the same feature."""
    hits = 0.0
    for learn, judge in _folds(examples):
        everywhere = Counter(example.answer for example in learn)
        seen: dict[str, Counter[int]] = defaultdict(Counter)
        for example in learn:
            seen[feature(example)][example.answer] += 1
        for example in judge:
            counts = seen.get(feature(example)) or everywhere
            hits += bool(counts) and counts.most_common(1)[0][0] == example.answer
    commonest = Counter(example.answer for example in examples).most_common(1)[0][1]
    return Score(hits, len(examples), commonest / len(examples))


def first_word(text: str) -> str:
    found = _WORD.search(text.casefold())
    return found.group() if found else ""


def _shared_start(questions: Sequence[str]) -> int:
    """The length of what all questions begin with, cut back to the start of a word."""
    first, last = min(questions), max(questions)  # what these two share, all in between share
    at = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return len(re.sub(r"\w+$", "", first[:at]))


def _credit(values: Sequence[float], answer: int) -> float:
    best = max(values)
    return values.count(best) ** -1 if values[answer] == best else 0.0


def _folds(examples: Sequence[Example]) -> list[tuple[list[Example], list[Example]]]:
    fold = [int(hash_fraction(example.id) * FOLDS) for example in examples]
    pairs = [
        (
            [e for e, f in zip(examples, fold, strict=True) if f != k],
            [e for e, f in zip(examples, fold, strict=True) if f == k],
        )
        for k in range(FOLDS)
    ]
    return [pair for pair in pairs if pair[1]]
