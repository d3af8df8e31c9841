"""Neutral text, for measuring what steering does where it should do nothing."""

from __future__ import annotations

import re
from pathlib import Path

from tillerman.core.errors import DataError
from tillerman.data.loading import SAMPLE_PREFIX
from tillerman.data.samples import sample_texts


def load_texts(source: str) -> tuple[str, ...]:
    """``sample:wikitext``, ``sample:tinystories``, or a UTF-8 text file (blank lines part the texts)."""
    if source.startswith(SAMPLE_PREFIX):
        return sample_texts(source.removeprefix(SAMPLE_PREFIX))
    try:
        text = Path(source).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"expected UTF-8 text: {error}", file=source) from None
    except OSError as error:
        raise DataError(
            f"cannot read neutral text: {error.strerror}; give a text file or sample:wikitext", file=source
        ) from None
    texts = tuple(part.strip() for part in re.split(r"\n\s*\n", text) if part.strip())
    if not texts:
        raise DataError("the file of neutral text is empty", file=source)
    return texts
