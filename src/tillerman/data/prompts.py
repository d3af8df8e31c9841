"""How an item is put to a model: the plain text of the question, before any chat template."""

from __future__ import annotations

from collections.abc import Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LETTER_REQUEST = "Respond with a single letter."
ANSWER_CUE = "Answer:"


def choice_text(question: str, options: Sequence[str]) -> str:
    """The full prompt of a multiple-choice item, as PAS writes it (section 3, appendix A):
    the question, ``A: ...`` option lines, the request for a letter and the cue ``Answer:``."""
    lines = [f"{letter}: {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "\n".join([question.strip(), *lines, LETTER_REQUEST, ANSWER_CUE])
