"""Neutral text, for measuring what steering does where it should do nothing."""

from __future__ import annotations

import re

from tillerman.core.errors import DataError
from tillerman.data.loading import SAMPLE_PREFIX
from tillerman.data.readers import read_texts
from tillerman.data.reading.folders import SUFFIXES, suffix_of
from tillerman.data.reading.options import exists, file_and_reading
from tillerman.data.reading.rows import SourceRow, kind_of
from tillerman.data.reading.text import TextFile
from tillerman.data.samples import sample_texts


def load_texts(source: str) -> tuple[str, ...]:
    """``sample:wikitext``, ``sample:tinystories``, a text file (blank lines part the texts), a JSON list of texts,
    or a file of rows with ``text``."""
    if source.startswith(SAMPLE_PREFIX):
        return sample_texts(source.removeprefix(SAMPLE_PREFIX))
    path, reading = file_and_reading(source)
    if not exists(path):
        raise DataError("no such neutral text; give a text file or sample:wikitext", file=source)
    if suffix_of(path) in SUFFIXES:
        texts = tuple(map(_text, read_texts(source, "text")))
    else:
        whole = "".join(TextFile(path, reading).pieces())
        texts = tuple(part.strip() for part in re.split(r"\n\s*\n", whole) if part.strip())
    if not texts:
        raise DataError("the file of neutral text is empty", file=source)
    return texts


def _text(row: SourceRow) -> str:
    found = row.fields.get("text")
    if not isinstance(found, str) or not found.strip():
        raise row.error(f"expected rows with a text, got {kind_of(found)}", "text")
    return found.strip()
