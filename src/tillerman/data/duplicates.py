"""Splits without leaks: exact duplicates once, near-duplicates never on both sides of a border.

Near means Jaccard >= 0.9 over word 3-shingles, found exactly (no hashing by chance) with a prefix
filter: two sets that alike must share one of their rarest shingles (Chaudhuri et al. 2006; Bayardo et
al. 2007, "Scaling Up All Pairs Similarity Search").
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tillerman.core.errors import UsageError
from tillerman.data.examples import Example
from tillerman.data.splits import DEFAULT_SHARES, SPLITS, hash_fraction, split_of

NEAR = 0.9
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Split:
    """The three shares, and what is in none of them."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    dropped: int  # near-duplicates of an item in a more protected share
    repeated: int = 0  # the same item again
    cut: int = 0  # beyond the sizes asked for
    too_long: int = 0  # for the model, and left out on request

    def part(self, name: str) -> tuple[Example, ...]:
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]


def split_text(example: Example) -> str:
    """The text that decides an item's share: its key; for two texts the wanted one, whose partner was
    chosen from the same share."""
    return example.options[example.answer] if example.kind == "text" else example.key


def clean_split(
    examples: Sequence[Example],
    shares: Sequence[float] = DEFAULT_SHARES,
    seed: int = 0,
    *,
    sizes: tuple[int | None, int | None, int | None] = (None, None, None),
) -> Split:
    """Each item into the share that its own text and the seed call for.

    Adding items never moves another one from share to share; it may only drop one, as the near-duplicate
    of a new, better protected item: test wins over validation, validation over train. ``sizes`` are the
    most items per share (train, validation, test); the ones with the smallest hash stay.
    """
    three = _checked(shares)
    if any(size is not None and size < 1 for size in sizes):
        raise UsageError(f"sizes: expected numbers of at least 1 (or None) for train, validation, test, got {sizes}")
    unique = {example.id: example for example in reversed(examples)}
    ordered = sorted(unique.values(), key=lambda e: (hash_fraction(split_text(e), seed), e.id))
    where = [split_of(split_text(example), seed, three) for example in ordered]
    stays = _clear(ordered, where)
    kept = {
        name: [e for e, share, good in zip(ordered, where, stays, strict=True) if good and share == name]
        for name in SPLITS
    }
    parts = [kept[name][:size] for name, size in zip(SPLITS, sizes, strict=True)]
    return Split(
        train=tuple(parts[0]),
        validation=tuple(parts[1]),
        test=tuple(parts[2]),
        dropped=stays.count(False),
        repeated=len(examples) - len(ordered),
        cut=stays.count(True) - sum(map(len, parts)),
    )


def folds_of(examples: Sequence[Example], count: int, seed: int = 0) -> tuple[tuple[Example, ...], ...]:
    """``count`` folds of nearly equal size, in the order of the items' hashes. Near-duplicates stay together, in the
    fold of the first of them.

    ``UsageError`` for fewer than two folds, or more than there are items that are not near-duplicates.
    """
    # The shares of the split are intervals of the hash under the same seed; folds must not follow them.
    ordered = sorted(examples, key=lambda e: (hash_fraction(split_text(e), ~seed), e.id))
    first = list(range(len(ordered)))
    for one, other in sorted(near_items(ordered)):
        first[other] = min(first[other], first[one])
    heads = sorted(set(first))
    if not 2 <= count <= len(heads):
        raise UsageError(f"{count} folds of {len(heads)} items: expected at least 2 folds and one item for each")
    place = {head: k % count for k, head in enumerate(heads)}
    return tuple(tuple(e for e, head in zip(ordered, first, strict=True) if place[head] == k) for k in range(count))


def _clear(examples: Sequence[Example], where: Sequence[str]) -> list[bool]:
    """Which items stay: those without a near-duplicate among what stays in a more protected share."""
    straddling: dict[int, list[int]] = defaultdict(list)
    for one, other in near_items(examples):
        if where[one] != where[other]:
            straddling[one].append(other)
            straddling[other].append(one)
    stays = [False] * len(examples)
    for name in reversed(SPLITS):
        here = [i for i, share in enumerate(where) if share == name]
        clear = [i for i in here if not any(stays[j] for j in straddling.get(i, ()))]
        for i in clear:
            stays[i] = True
    return stays


def _checked(shares: Sequence[float]) -> tuple[float, float, float]:
    if len(shares) != 3 or any(not 0 <= share <= 1 for share in shares) or not math.isclose(sum(shares), 1.0):
        raise UsageError(f"shares: expected three numbers in 0..1 (train, validation, test) with sum 1, got {shares}")
    return shares[0], shares[1], shares[2]


def near_items(examples: Sequence[Example]) -> set[tuple[int, int]]:
    """All pairs of positions (smaller first) whose items are near-duplicates.

    Multiple choice and preferences are compared with their options, so that several questions on one
    passage stay apart; of two texts each one is compared.
    """
    texts, owners = [], []
    for i, example in enumerate(examples):
        for text in _compared(example):
            texts.append(text)
            owners.append(i)
    pairs = {(owners[i], owners[j]) for i, j in near_pairs(texts)}
    return {(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]}


def _compared(example: Example) -> tuple[str, ...]:
    if example.kind == "text":
        return example.options
    if example.kind == "yes_no":
        return (example.key,)
    return ("\n".join((example.key, *example.options)),)


def near_pairs(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """All pairs of positions whose texts are near-duplicates (or the same), each once.

    Shingles are numbered from the commonest to the rarest; a set's prefix are its rarest ones, and a
    shingle that occurs once cannot be shared, so it is never looked up.
    """
    sets = _shingles(texts)
    counts = Counter(shingle for found in sets for shingle in found)
    order = sorted((i for i, found in enumerate(sets) if found), key=lambda i: len(sets[i]))
    index: dict[int, list[int]] = defaultdict(list)
    for i in order:
        size = len(sets[i])
        need = math.ceil(NEAR * size - 1e-9)
        rarest = sorted(sets[i], key=lambda shingle: (counts[shingle], shingle))[: size - need + 1]
        prefix = [shingle for shingle in rarest if counts[shingle] > 1]
        for j in {j for shingle in prefix for j in index[shingle] if len(sets[j]) >= need}:
            shared = len(sets[i] & sets[j])
            if shared >= NEAR * (size + len(sets[j]) - shared) - 1e-9:
                yield min(i, j), max(i, j)
        for shingle in prefix:
            index[shingle].append(i)


def _shingles(texts: Sequence[str]) -> list[set[int]]:
    """Per text the runs of three words as numbers, case and punctuation aside; a shorter text is one run."""
    number: dict[str, int] = {}
    sets = []
    for text in texts:
        words = [number.setdefault(word, len(number) + 1) for word in _WORD.findall(text.casefold())]
        runs = zip(words, words[1:], words[2:], strict=False)
        found = {(a << 64) | (b << 32) | c for a, b, c in runs}
        if words and not found:
            found = {sum(word << (32 * i) for i, word in enumerate(words)) << 96}
        sets.append(found)
    return sets
