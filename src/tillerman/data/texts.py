"""Texts with a label of two classes, made into examples by pairing each positive with a negative.

Replies with a label are paired under their own prompt. Of texts without one, both of a pair lie in the same
share of ``split_of(text)`` and every text is used once, so no text stands on both sides of a border;
``tillerman.data.duplicates`` splits a pair by its positive text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tillerman.data.examples import Example
from tillerman.data.splits import SPLITS, hash_fraction, normalised, split_of
from tillerman.data.turns import Turn


@dataclass(frozen=True)
class LabelledText:
    """One text and whether it belongs to the class steered towards."""

    text: str
    label: bool


@dataclass(frozen=True)
class LabelledReply:
    """A reply to a question, with the turns before it, and whether it is of the class steered towards."""

    history: tuple[Turn, ...]
    question: str
    text: str
    label: bool


@dataclass(frozen=True)
class TextPairs:
    """The pairs, and what could not be paired: too many of one class, repeated or contradictory texts."""

    examples: tuple[Example, ...]
    leftover: int  # texts without a partner in their share
    repeated: int  # the same text with the same label again
    contradictory: int  # texts that carry both labels; none of their rows is used


def pair_texts(items: Iterable[LabelledText]) -> TextPairs:
    """Pairs (positive, negative), made share by share in the order of the texts' hashes.

    Deterministic and independent of the order of the rows.
    """
    read = _Sides.of([(item.text, item.label) for item in items])
    examples: list[Example] = []
    for share in SPLITS:
        here = [key for key in read.clear if split_of(key) == share]
        examples += [Example("text", "", pair, 0) for pair in read.pairs(here)]
    return read.told(examples)


def pair_replies(items: Iterable[LabelledReply]) -> TextPairs:
    """Preferences: under each prompt a wanted reply with one that is not, in the order of the replies' hashes."""
    prompts: dict[tuple[tuple[Turn, ...], str], list[LabelledReply]] = defaultdict(list)
    for item in items:
        prompts[item.history, item.question].append(item)
    told = []
    for (history, question), replies in prompts.items():
        read = _Sides.of([(reply.text, reply.label) for reply in replies])
        pairs = read.pairs(read.clear)
        told.append(read.told([Example("preference", question, pair, 0, history=history) for pair in pairs]))
    return TextPairs(
        examples=tuple(example for one in told for example in one.examples),
        leftover=sum(one.leftover for one in told),
        repeated=sum(one.repeated for one in told),
        contradictory=sum(one.contradictory for one in told),
    )


@dataclass(frozen=True)
class _Sides:
    """Texts by their normalised form, with the labels that each of them carries."""

    first: dict[str, str]
    labels: dict[str, set[bool]]
    count: int

    @classmethod
    def of(cls, items: Sequence[tuple[str, bool]]) -> _Sides:
        first: dict[str, str] = {}
        labels: dict[str, set[bool]] = {}
        for text, label in items:
            key = normalised(text)
            labels.setdefault(key, set()).add(label)
            first.setdefault(key, text)
        return cls(first, labels, len(items))

    @property
    def clear(self) -> list[str]:
        """Texts with one label."""
        return [key for key, found in self.labels.items() if len(found) == 1]

    def pairs(self, keys: Iterable[str]) -> list[tuple[str, str]]:
        """(Positive, negative) in the order of the hashes, as many as there are of the rarer side."""
        here = sorted(keys, key=lambda key: (hash_fraction(key), key))
        sides = [[self.first[key] for key in here if side in self.labels[key]] for side in (True, False)]
        return list(zip(*sides, strict=False))

    def told(self, examples: Sequence[Example]) -> TextPairs:
        clear = len(self.clear)
        return TextPairs(
            examples=tuple(examples),
            leftover=clear - 2 * len(examples),
            repeated=self.count - len(self.labels),
            contradictory=len(self.labels) - clear,
        )
