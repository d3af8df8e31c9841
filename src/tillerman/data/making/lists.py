"""Lists as language models write them: numbered, dashed, quoted, in JSON, or a line each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from tillerman.data.duplicates import near_pairs
from tillerman.data.splits import normalised

_MARK = re.compile(r"^\s*(?:[-*•–]|\(?\d{1,3}[.):]|[Qq]\d*[.:])\s*")
_NUMBER = re.compile(r"^\s*\(?\d{1,3}[.):]\s")
_EDGES = " \t\"'“”«»*`"


def read_list(reply: str) -> tuple[str, ...]:
    """The entries of a list, without marks and quotes. Where some lines are numbered, what the others say (an
    introduction, a closing remark) is no entry."""
    if (found := _as_json(reply)) is not None:
        return tuple(filter(None, (_bare(one) for one in found)))
    lines = [line for line in reply.splitlines() if line.strip()]
    numbered = [line for line in lines if _NUMBER.match(line)]
    return tuple(filter(None, (_bare(_MARK.sub("", line)) for line in (numbered or lines))))


def distinct(texts: Iterable[str]) -> tuple[str, ...]:
    """Each text once, the first of those that are nearly the same."""
    first: dict[str, str] = {}
    for text in texts:
        if text.strip():
            first.setdefault(normalised(text), text)
    unique = list(first.values())
    near = {later for _, later in near_pairs(unique)}
    return tuple(text for i, text in enumerate(unique) if i not in near)


def _as_json(reply: str) -> list[str] | None:
    start, end = reply.find("["), reply.rfind("]")
    if not 0 <= start < end:
        return None
    try:
        found = json.loads(reply[start : end + 1])
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) and found and all(isinstance(one, str) for one in found) else None


def _bare(text: str) -> str:
    return " ".join(text.split()).strip(_EDGES)
