"""A folder of good and bad texts as labelled rows: two subfolders with a file per text, or two files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tillerman.core.errors import DataError
from tillerman.data.duplicates import near_pairs
from tillerman.data.making.filters import (
    LONG,
    LOOP,
    LOOPS,
    NEAR,
    SAME,
    SHORT,
    UNTOLD,
    Limits,
    repeated,
    sorted_out,
    words,
)
from tillerman.data.reading.options import FileOptions
from tillerman.data.reading.text import TextFile
from tillerman.data.splits import normalised
from tillerman.data.texts import LabelledText

SIDES = (  # names of the wanted side and of the other, as folders or files
    ("good", "bad"),
    ("positive", "negative"),
    ("pos", "neg"),
    ("wanted", "unwanted"),
    ("chosen", "rejected"),
)
TEXT_FILES = (".txt", ".md", ".text", "")


@dataclass(frozen=True)
class SiftedTexts:
    """``kept`` in the order given; ``dropped``: how many by each fault; ``examples``: the first text of each."""

    kept: tuple[LabelledText, ...]
    dropped: dict[str, int] = field(default_factory=dict)
    examples: dict[str, LabelledText] = field(default_factory=dict)


def read_sides(folder: Path) -> tuple[LabelledText, ...]:
    """The texts of both sides, the wanted ones first. A side is a subfolder, of which each file is a text, or a file,
    of which each paragraph is one, or each line where no blank line parts paragraphs. ``DataError`` without two."""
    if not folder.is_dir():
        raise DataError(f"expected a folder with {_expected()}", file=folder)
    found = {place.stem.casefold(): place for place in sorted(folder.iterdir()) if _is_side(place)}
    for wanted, other in SIDES:
        if wanted in found and other in found:
            sides = [(_texts(found[name]), label) for name, label in ((wanted, True), (other, False))]
            return tuple(LabelledText(text, label) for texts, label in sides for text in texts)
    named = ", ".join(place.name for place in found.values()) or "nothing of the kind"
    raise DataError(f"expected {_expected()}; found {named[:200]}", file=folder)


def sift_texts(
    texts: Sequence[LabelledText],
    limits: Limits,
    told_apart: Callable[[Sequence[LabelledText]], Sequence[bool]] | None = None,
) -> SiftedTexts:
    """As ``filters.sift``, of single texts: those on both sides, and near-duplicates of one side, count as one."""
    both = {normalised(t.text) for t in texts if t.label} & {normalised(t.text) for t in texts if not t.label}
    faults = [_fault(one, both, limits) for one in texts]
    clean = [i for i, fault in enumerate(faults) if fault is None]
    for _, later in near_pairs([texts[i].text for i in clean]):
        faults[clean[later]] = NEAR
    clean = [i for i, fault in enumerate(faults) if fault is None]
    if told_apart is not None:
        for i, told in zip(clean, told_apart([texts[i] for i in clean]), strict=True):
            faults[i] = None if told else UNTOLD
    return SiftedTexts(*sorted_out(texts, faults))


def _fault(one: LabelledText, both: set[str], limits: Limits) -> str | None:
    count = len(words(one.text))
    if count < limits.least:
        return SHORT
    if count > limits.most:
        return LONG
    if repeated(one.text) > LOOPS:
        return LOOP
    return SAME if normalised(one.text) in both else None


def _is_side(place: Path) -> bool:
    return not place.name.startswith(".") and (place.is_dir() or place.suffix.lower() in TEXT_FILES)


def _texts(side: Path) -> list[str]:
    if side.is_file():
        whole = _read(side)
        parts = whole.split("\n\n") if "\n\n" in whole.strip() else whole.split("\n")
    else:
        files = sorted(p for p in side.iterdir() if p.is_file() and _is_side(p))
        parts = [_read(file) for file in files]
    texts = [part.strip() for part in parts if part.strip()]
    if not texts:
        raise DataError("no text on this side; expected files of text, or a file with a text per line", file=side)
    return texts


def _read(file: Path) -> str:
    return "".join(TextFile(file, FileOptions()).pieces())


def _expected() -> str:
    return "two subfolders or two text files, named " + ", ".join(f"{a} and {b}" for a, b in SIDES[:3])
