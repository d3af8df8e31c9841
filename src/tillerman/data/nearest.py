"""The layouts nearest to the fields at hand, in options that were tried on the rows before they are given.

Used only where no layout fits: names of columns are compared with words that people use for a field, and
what would be advised is read with the first rows; advice that fails is not given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from tillerman.core.errors import DataError
from tillerman.core.shown import clipped
from tillerman.data.advice import command_line, options_for
from tillerman.data.classes import ask_for_class, with_sides
from tillerman.data.fields import label_text
from tillerman.data.layouts import LAYOUTS, LOOKED_AT, RowLayout, plain_name, renamed
from tillerman.data.reading.rows import SourceRow

LONGEST = 480  # characters of the whole message, before the file's name
_FEW_CLASSES = 12
_ALIKE = 0.75
# Layouts that advice may name, the ones that use most columns first; words for each of their fields.
_ADVISED = ("preference", "prompted-pair", "kto", "option-columns", "choice", "text-pair", "yes-no", "open")
_WORDS = {
    "prompt": ("prompt", "question", "instruction", "query", "request", "user", "input", "anchor", "context"),
    "chosen": ("chosen", "preferred", "better", "best", "winner", "win", "accepted", "good", "wanted", "pos"),
    "rejected": ("rejected", "dispreferred", "worse", "worst", "loser", "lose", "refused", "bad", "unwanted", "neg"),
    "positive": ("positive", "pos", "chosen", "preferred", "good", "wanted", "matching", "true", "target"),
    "negative": ("negative", "neg", "rejected", "bad", "unwanted", "not matching", "false", "neutral", "other"),
    "completion": ("completion", "response", "reply", "output", "answer", "generation"),
    "question": ("question", "query", "stem", "problem", "prompt", "q", "sentence", "text", "input", "ctx"),
    "options": ("options", "choices", "candidates", "alternatives", "endings", "answers"),
    "answer": ("answer", "gold", "correct", "solution", "target", "key", "cop", "right", "label", "a"),
    "text": ("text", "review", "sentence", "comment", "tweet", "content", "body", "document", "post", "message"),
    "label": ("label", "sentiment", "class", "category", "emotion", "target", "tag", "rating", "stars", "y"),
}


@dataclass(frozen=True)
class Advice:
    layout: str
    columns: Mapping[str, str | list[str]]  # only fields whose column has another name
    used: int
    score: float
    positive: str | None = None


def no_layout(rows: Sequence[SourceRow]) -> DataError:
    """The error that says what there is, and how the rows can be read."""
    first = rows[0]
    found = advised(rows[: 10 * LOOKED_AT])
    begin = f"no layout fits the fields {clipped(', '.join(map(str, first.fields)), 120)}. "
    if not found:
        return first.error(f"{begin}{_missing(first)} All layouts: docs/data-format.md")
    lines = [command_line(one.layout, one.columns, one.positive) for one in found]
    best = options_for(found[0].layout, found[0].columns, found[0].positive)
    if len(found) > 1 and lines[1] is not None:
        longer = f"{begin}Two would: {lines[1]}, or {best}"
        if len(longer) <= LONGEST:
            return first.error(longer)
    whole = f"{begin}This one would: {best}"
    short = f"{begin}This one would: {lines[0]}"
    return first.error(whole if len(whole) <= LONGEST or lines[0] is None else short)


def advised(rows: Sequence[SourceRow]) -> list[Advice]:
    """At most two ways to read the rows, of those that use most columns, the likeliest first."""
    by_name = {name: _named(rows, LAYOUTS[name]) for name in _ADVISED}
    if by_name["preference"] is not None:
        by_name["prompted-pair"] = None  # the same under other names
    tried = [*by_name.values(), _labelled(rows, _likeliest), _labelled(rows, _by_values)]
    good = sorted((one for one in tried if one is not None), key=lambda one: (-one.used, -one.score))
    most = [one for one in good if one.used == good[0].used]
    unlike = [one for one in most if (one.layout, one.columns) != (most[0].layout, most[0].columns)]
    return [*most[:1], *unlike[:1]]


def _named(rows: Sequence[SourceRow], layout: RowLayout) -> Advice | None:
    columns = _likeliest(rows, layout)
    if columns is None:
        return None
    return _tried(rows, layout, columns) if not layout.labelled else _tried_classes(rows, layout, columns)


def _labelled(
    rows: Sequence[SourceRow], find: Callable[[Sequence[SourceRow], RowLayout], dict[str, str] | None]
) -> Advice | None:
    layout = LAYOUTS["labelled-text"]
    columns = find(rows, layout)
    return None if columns is None else _tried_classes(rows, layout, columns)


def _likeliest(rows: Sequence[SourceRow], layout: RowLayout) -> dict[str, str] | None:
    """A column of its own for every field of the layout, by the names alone."""
    ranked = sorted(
        ((_likeness(column, field), field, column) for field in layout.fields for column in map(str, rows[0].fields)),
        key=lambda one: -one[0],
    )
    columns: dict[str, str] = {}
    for likeness, field, column in ranked:
        if likeness > 0 and field not in columns and column not in columns.values():
            columns[field] = column
    return columns if len(columns) == len(layout.fields) else None


def _likeness(column: str, field: str) -> float:
    """3 for the field's own name, 2 to 1 for a word for it, less for a name that holds one or is nearly one."""
    plain, words = plain_name(column), _WORDS.get(field, (field,))
    if plain == field:
        return 3.0
    if plain in words:
        return 2 - words.index(plain) / len(words)
    parts = plain.split("_")
    held = [place for place, word in enumerate(words) if word in parts or f"{word}s" in parts]
    if held:
        return 0.9 - held[0] / 100
    near = SequenceMatcher(None, plain, field).ratio()
    return near / 2 if near >= _ALIKE else 0.0


def _by_values(rows: Sequence[SourceRow], layout: RowLayout) -> dict[str, str] | None:
    """The column of the longest texts, and the one of few values that come again and again."""
    longest, label = None, None
    for column in map(str, rows[0].fields):
        values = [row.fields.get(column) for row in rows]
        texts = [value for value in values if isinstance(value, str)]
        mean = sum(map(len, texts)) / len(rows)
        if len(texts) == len(rows) and mean >= 20 and (longest is None or mean > longest[0]):
            longest = mean, column
        if label is None and _are_classes(values):
            label = column
    if longest is None or label is None or longest[1] == label:
        return None
    return {"text": longest[1], "label": label}


def _are_classes(values: Sequence[object]) -> bool:
    if not all(isinstance(value, str | int | float) and len(label_text(value)) <= 40 for value in values):
        return False
    return 2 <= len(set(map(label_text, values))) <= min(_FEW_CLASSES, len(values) // 2)


def _tried_classes(rows: Sequence[SourceRow], layout: RowLayout, columns: Mapping[str, str]) -> Advice | None:
    found = _tried(rows, layout, columns)
    if found is not None:
        return found
    values = [row.fields.get(columns["label"]) for row in rows]
    if not _are_classes(values):
        return None
    classes = Counter(label for value in values if (label := label_text(value)))
    return _tried(rows, layout, columns, min(classes, key=lambda label: (-classes[label], label)))


def _tried(
    rows: Sequence[SourceRow], layout: RowLayout, columns: Mapping[str, str], positive: str | None = None
) -> Advice | None:
    """The advice, if most rows can be read so."""
    new = {field: column for field, column in columns.items() if field != column}
    try:
        placed = [layout.placed(renamed(row, new)) for row in rows]
        if layout.labelled:
            placed = list(with_sides(placed, positive, "")) if positive is not None else placed
            ask_for_class(placed)
        placed = layout.settle(placed)
    except DataError:
        return None
    good = sum(_reads(row, layout) for row in placed)
    if 2 * good <= len(rows):
        return None
    score = sum(_likeness(column, field) for field, column in columns.items())
    return Advice(layout.name, _as_in_file(rows[0], columns), len(columns), score, positive)


def _reads(row: SourceRow, layout: RowLayout) -> bool:
    try:
        layout.parse(row)
    except DataError:
        return False
    return layout.fits(row.fields)


def _as_in_file(row: SourceRow, columns: Mapping[str, str]) -> dict[str, str | list[str]]:
    """Field -> column of the file, where the names differ; columns that the user gathered are a list."""
    found: dict[str, str | list[str]] = {}
    for field, column in {**row.columns, **columns}.items():
        name = row.columns.get(column, column)
        parts = [part.strip() for part in name.split(",")]
        if name != field:
            found[field] = parts if name not in row.fields and len(parts) > 1 else name
    return found


def _missing(row: SourceRow) -> str:
    """The layouts of which most fields are there, and what they lack."""
    near = []
    for layout in map(LAYOUTS.__getitem__, (*_ADVISED, "labelled-text")):
        there = {field for field in layout.fields if any(_likeness(str(column), field) > 0 for column in row.fields)}
        lacks = [field for field in layout.fields if field not in there]
        near.append((len(lacks) / len(layout.fields), layout, lacks))
    near.sort(key=lambda one: one[0])
    some = [
        f"{layout.name} ({', '.join(layout.fields)}{'; missing: ' + ', '.join(lacks) if lacks else ''})"
        for share, layout, lacks in near[:3]
        if share < 1
    ]
    nearest = some or [f"{layout.name} ({', '.join(layout.fields)})" for _, layout, _ in near[:3]]
    return f"The nearest: {'; '.join(nearest)}. Name one as the layout, and columns for its fields."
