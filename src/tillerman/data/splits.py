"""Which items are for fitting, which for choosing, which for reporting.

The share an item falls into depends on its own text and the seed alone, so adding items never
moves the others. Near-duplicates on both sides of a border would leak; they are dropped from the
less protected side (see ``tillerman.data.duplicates``), never moved.
"""

from __future__ import annotations

from hashlib import blake2b

SPLITS = ("train", "validation", "test")
DEFAULT_SHARES = (0.6, 0.2, 0.2)


def normalised(text: str) -> str:
    """The text as it is compared and hashed: case folded, runs of white space made one blank."""
    return " ".join(text.split()).casefold()


def hash_fraction(text: str, seed: int = 0) -> float:
    """A number in [0, 1), uniform over texts, the same on every machine."""
    digest = blake2b(normalised(text).encode(), digest_size=8, key=b"tillerman", salt=_salt(seed))
    return int.from_bytes(digest.digest(), "big") / 2**64


def split_of(text: str, seed: int = 0, shares: tuple[float, float, float] = DEFAULT_SHARES) -> str:
    """``train``, ``validation`` or ``test`` for one item's text."""
    at = hash_fraction(text, seed)
    if at < shares[0]:
        return "train"
    return "validation" if at < shares[0] + shares[1] else "test"


def _salt(seed: int) -> bytes:
    return seed.to_bytes(8, "little", signed=True)
