"""Prompts to be answered freely, and what is known of their answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tillerman.core.errors import DataError

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
    """``sample`` (32 beginnings of stories), a text file with a prompt on each line, or a jsonl file of objects
    with ``prompt`` and, as wanted, ``start`` and ``reference``."""
    if source == SAMPLE:
        return tuple(Ask(_STORY, start) for start in _STARTS)
    path = Path(source)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read prompts: {error}; give a UTF-8 file, or {SAMPLE!r}", file=source) from None
    numbered = [(i, line.strip()) for i, line in enumerate(lines, 1) if line.strip()]
    asks = [_row(path, i, line) if path.suffix == ".jsonl" else Ask(line) for i, line in numbered]
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


def _row(path: Path, number: int, line: str) -> Ask:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise DataError(f"not JSON: {error}", file=path, line=number) from None
    fields = ("prompt", "start", "reference")
    if not isinstance(found, dict) or not isinstance(found.get("prompt"), str):
        raise DataError("expected an object with a text 'prompt'", file=path, line=number, field="prompt")
    for name in fields:
        if not isinstance(found.get(name, ""), str):
            raise DataError(f"expected text, got {type(found[name]).__name__}", file=path, line=number, field=name)
    if unknown := sorted(set(found) - set(fields)):
        raise DataError(f"unknown fields {', '.join(unknown)}; known: {', '.join(fields)}", file=path, line=number)
    return Ask(**found)
