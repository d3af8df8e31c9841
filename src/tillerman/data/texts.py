"""Texts with a label of two classes, made into examples by pairing each positive with a negative.

Both texts of a pair lie in the same share of ``split_of(text)`` and every text is used once, so no
text stands on both sides of a border; ``tillerman.data.duplicates`` splits a pair by its positive text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tillerman.data.examples import Example
from tillerman.data.splits import SPLITS, hash_fraction, normalised, split_of


@dataclass(frozen=True)
class LabelledText:
    """One text and whether it belongs to the class steered towards."""

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
    labels: dict[str, set[bool]] = {}
    first: dict[str, str] = {}
    count = 0
    for item in items:
        count += 1
        key = normalised(item.text)
        labels.setdefault(key, set()).add(item.label)
        first.setdefault(key, item.text)
    clear = [key for key, found in labels.items() if len(found) == 1]
    examples: list[Example] = []
    for share in SPLITS:
        here = sorted((key for key in clear if split_of(key) == share), key=lambda key: (hash_fraction(key), key))
        positive = [first[key] for key in here if True in labels[key]]
        negative = [first[key] for key in here if False in labels[key]]
        examples += [Example("text", "", pair, 0) for pair in zip(positive, negative, strict=False)]
    return TextPairs(
        examples=tuple(examples),
        leftover=len(clear) - 2 * len(examples),
        repeated=count - len(labels),
        contradictory=len(labels) - len(clear),
    )
