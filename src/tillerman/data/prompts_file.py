"""Prompts to be answered freely, and what is known of their answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tillerman.core.errors import DataError
from tillerman.data.readers import read_texts
from tillerman.data.reading.folders import SUFFIXES, suffix_of
from tillerman.data.reading.options import exists, file_and_reading
from tillerman.data.reading.rows import SourceRow, kind_of

SAMPLE = "sample"
_STORY = "Tell me a story."
# The first words of 32 stories, without a mood: what comes next is the model's.
_STARTS = (
    "Once upon a time, there was a girl named",
    "One day, a boy went to the",
    "There was a small dog who",
    "Tom and his mom were",
    "The old man looked at",
    "Lily opened the door and",
    "In the morning, the bird",
    "A cat sat on the",
    "The children came to the house and",
    "Ben found a box. He",
    "Anna and her dad walked to",
    "One evening, the farmer",
    "Max had a red ball. He",
    "The teacher asked the class to",
    "A little fish lived in",
    "Sam woke up and",
    "On the way to the park, Mia",
    "The train stopped and",
    "Under the tree there was",
    "Grandma made some soup. Then",
    "The two friends met at",
    "A bear came out of the",
    "When the rain began, Jack",
    "Sue looked in the mirror and",
    "The mouse ran to the",
    "At school, Leo",
    "The king called his",
    "Emma went to the lake with",
    "The baby heard a sound and",
    "A man in a hat said",
    "In the garden, the rabbit",
    "That night, the moon",
)


@dataclass(frozen=True)
class Ask:
    """One prompt. The reply continues from ``start``, words put into the model's mouth, which are not scored;
    ``reference`` is the right reply, where there is one."""

    prompt: str
    start: str = ""
    reference: str | None = None

    @property
    def shown(self) -> str:
        """What a scorer is told was asked."""
        return f"{self.prompt}\n(The reply continues from: {self.start})" if self.start else self.prompt


def load_asks(source: str) -> tuple[Ask, ...]:
    """``sample`` (32 beginnings of stories), a text file with a prompt on each line, a JSON list of prompts, or a file
    of rows (JSON, CSV, Parquet) with ``prompt`` and, as wanted, ``start`` and ``reference``."""
    if source == SAMPLE:
        return tuple(Ask(_STORY, start) for start in _STARTS)
    path, _ = file_and_reading(source)
    if not exists(path):
        raise DataError(
            f"cannot read prompts: no such file; give a text file with a prompt per line, or {SAMPLE!r}", file=source
        )
    asks = [_ask(row) for row in read_texts(source, "prompt") if any(map(_filled, row.fields.values()))]
    if not asks:
        raise DataError("the file holds no prompt", file=source)
    shown = [ask.shown for ask in asks]
    if len(set(shown)) < len(shown):
        twice = next(text for i, text in enumerate(shown) if text in shown[:i])
        raise DataError(
            f"the prompt {twice[:60]!r} occurs twice; intervals need different prompts, and "
            "`samples` asks each prompt several times",
            file=source,
        )
    return tuple(asks)


def _filled(value: object) -> bool:
    return not isinstance(value, str) or bool(value.strip())


def _ask(row: SourceRow) -> Ask:
    fields = ("prompt", "start", "reference")
    found = {name: value for name, value in row.fields.items() if value is not None}
    if not isinstance(found.get("prompt"), str):
        raise row.error("expected an object with a text 'prompt'", "prompt")
    for name in fields:
        if not isinstance(found.get(name, ""), str):
            raise row.error(f"expected text, got {kind_of(found[name])}", name)
    if unknown := sorted(map(str, set(found) - set(fields))):
        raise row.error(f"unknown fields {', '.join(unknown)[:200]}; known: {', '.join(fields)}")
    line = suffix_of(Path(row.file)) not in SUFFIXES  # of a text file: blanks around it are no part of the prompt
    return Ask(
        found["prompt"].strip() if line else found["prompt"], found.get("start", ""), found.get("reference") or None
    )
