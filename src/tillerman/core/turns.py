"""The assistant's turns in a conversation, by the marks that its chat template writes around them."""

from __future__ import annotations

from collections.abc import Sequence


def turn_spans(
    marker: Sequence[int], closing: Sequence[int], tokens: Sequence[int]
) -> tuple[tuple[int, int | None], ...]:
    """Half-open ranges of positions, from where ``marker`` begins to where ``closing`` does; None: the last turn is
    open. A marker inside an open turn is a part of it."""
    opens, ends, given = list(marker), list(closing), list(tokens)
    found: list[tuple[int, int | None]] = []
    start: int | None = None
    at = 0
    while at < len(given):
        if start is None and given[at : at + len(opens)] == opens:
            start = at
            at += len(opens)
        elif start is not None and given[at : at + len(ends)] == ends:
            found.append((start, at))
            start = None
            at += len(ends)
        else:
            at += 1
    return tuple(found) if start is None else (*found, (start, None))
