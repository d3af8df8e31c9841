"""A list that stands as text in a cell of a table: as JSON, or as Python prints it."""

from __future__ import annotations

import ast
import io
import json
import tokenize
from itertools import pairwise
from typing import Any


def listed(text: str) -> list[Any] | dict[str, Any] | None:
    """The list or object that a cell writes out, or None where it writes none.

    Read are JSON (``["a", "b"]``) and Python's own form (``['a', 'b']``), which ``DataFrame.to_csv`` writes. As numpy
    prints an array (``['a' 'b']``) there are no commas; Python would join such texts to one, so that is no list here.
    """
    begins = text.lstrip()[:1]
    if begins not in ("[", "{"):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = _python(text)
    return found if isinstance(found, list | dict) else None


def _python(text: str) -> Any:
    try:
        found = ast.literal_eval(text.strip())
        tokens = [token.type for token in tokenize.generate_tokens(io.StringIO(text.strip()).readline)]
    except (ValueError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError):
        return None
    kinds = [kind for kind in tokens if kind not in (tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT)]
    joined = any(a == b == tokenize.STRING for a, b in pairwise(kinds))
    return None if joined else found
