"""Questions that carry their options inside the text: ``(A) ... (B) ...`` and ``Answer1: ... Answer2: ...``.

They are taken apart, so that the order of the options can be drawn anew for every item.
"""

from __future__ import annotations

import re

from tillerman.data.prompts import LETTERS

_LINE_MARK = re.compile(r"(?:^|\n)[ \t]*\(([A-Z])\)")
_ANY_MARK = re.compile(r"(?:^|(?<=\s))\(([A-Z])\)")
_BARE_MARK = re.compile(r"(?:^|\n)[ \t]*([A-Z])[).:](?=\s)")
_NUMBER_MARK = re.compile(r"\b(?:Answer|Option|Ending|Solution)\s?(\d):\s", re.IGNORECASE)
_HEADING = re.compile(r"\s*\**\s*(?:Choices|Options|Answer choices)\s*:\s*$", re.IGNORECASE)
_CUE = re.compile(r"(?:^|\n)\s*(?:Answer|Your answer|My answer)\s*:\s*\(?\s*$", re.IGNORECASE)
_FORMAT = re.compile(r"\s*Answer format:.*$", re.DOTALL)


def lettered(text: str) -> tuple[str, tuple[str, ...]] | None:
    """Question and options of a text with ``(A)``, ``(B)``, ... in it; None where there are none.

    The run (A), (B), ... that ends the text counts; marks at the start of a line are preferred, and there ``A)``,
    ``A.`` and ``A:`` are marks too.
    """
    for pattern in (_LINE_MARK, _ANY_MARK, _BARE_MARK):
        marks = list(pattern.finditer(text))
        starts = [i for i, mark in enumerate(marks) if mark.group(1) == "A"]
        for start in starts:
            run = [marks[start]]
            for mark in marks[start + 1 :]:
                if mark.group(1) != LETTERS[len(run)]:
                    break
                run.append(mark)
            if len(run) > 1 and marks[start + len(run) - 1] is marks[-1]:
                return _parts(text, run)
    return None


def numbered(text: str) -> tuple[str, tuple[str, ...]] | None:
    """Question and options of a text with ``Answer1: ... Answer2: ...`` in it; None where there are none."""
    body = _FORMAT.sub("", text)
    marks = list(_NUMBER_MARK.finditer(body))
    if len(marks) < 2 or [mark.group(1) for mark in marks] != [str(i + 1) for i in range(len(marks))]:
        return None
    return _parts(body, marks)


def _parts(text: str, marks: list[re.Match[str]]) -> tuple[str, tuple[str, ...]]:
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    options = [text[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True)]
    options[-1] = _CUE.sub("", options[-1]).strip()
    return _HEADING.sub("", text[: marks[0].start()]).strip(), tuple(options)
