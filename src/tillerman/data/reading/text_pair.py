"""Two text files of a folder, ``positive.txt`` and ``negative.txt``, with a text on each line.

As llama.cpp's cvector-generator takes them: where both have as many texts, the first of one belongs to the first of
the other; otherwise they are texts of two classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tillerman.core.errors import DataError
from tillerman.data.reading.dialects import delimiters_of
from tillerman.data.reading.options import FileOptions, with_option
from tillerman.data.reading.rows import SourceRow
from tillerman.data.reading.text import TextFile

_NAMES = (("positive", "negative"), ("pos", "neg"))
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'"}
_ESCAPE = re.compile(r"\\(.)")

Texts = list[tuple[int, str]]


def pair_in(folder: Path) -> tuple[Path, Path] | None:
    """The file of the wanted texts and that of the others, if the folder holds such a pair."""
    for suffix in (".txt", ".txt.gz"):
        for names in _NAMES:
            positive, negative = (folder / f"{name}{suffix}" for name in names)
            if positive.is_file() and negative.is_file():
                return positive, negative
    return None


def pair_rows(pair: tuple[Path, Path], reading: FileOptions) -> Iterator[SourceRow]:
    """Rows of ``positive`` and ``negative``, or, where the files have unlike numbers of texts, ``text`` and ``label``.

    ``DataError`` where a text holds an escape such as ``\\n``, which may mean itself or a line break.
    """
    sides = [_texts(TextFile(path, reading)) for path in pair]
    if len(sides[0]) == len(sides[1]):
        for (line, positive), (_, negative) in zip(*sides, strict=True):
            yield SourceRow({"positive": positive, "negative": negative}, str(pair[0]), line)
        return
    for path, label, texts in zip(pair, ("positive", "negative"), sides, strict=True):
        for line, text in texts:
            yield SourceRow({"text": text, "label": label}, str(path), line)


def _texts(file: TextFile) -> Texts:
    file.head()  # an empty file is an error
    texts = [(number, line) for number, line in file.lines() if line.strip()]
    escaped = next(((number, line) for number, line in texts if re.search(r"\\[ntr]", line)), None)
    if file.reading.escapes:
        return [(number, _ESCAPE.sub(lambda m: _ESCAPES.get(m[1], m[0]), line)) for number, line in texts]
    if escaped is not None and file.reading.escapes is None:
        number, line = escaped
        found = re.search(r"\\[ntr]", line)
        shown = found[0] if found else ""
        folder = file.path.parent
        message = (
            f"{shown} may be a line break, as llama.cpp reads it, or the two characters that stand there; choose "
            f"{with_option(folder, escapes='true')} or {with_option(folder, escapes='false')}"
        )
        raise DataError(message, file=file.path, line=number)
    return texts


def plain_text(file: TextFile) -> str:
    """What to do with a text file where labelled rows are wanted; whether it may be a table is looked at."""
    parted = delimiters_of(file)
    if parted:
        name, first = next(iter(parted.items()))
        return (
            f"a text file: its lines may be texts, or cells parted by a {name} ({first}). For a table give "
            f"{with_option(file.path, delimiter=name)}, and header=text+label (its columns, joined by +) after a comma "
            "if the first line holds no names; texts need a class: put positive.txt and negative.txt into a folder"
        )
    return (
        "a text file has no labels. For a contrast of texts, one per line, put positive.txt and negative.txt into a "
        "folder and give the folder; prompts to be answered, one per line, are for `tillerman score --prompts`"
    )
