"""A file, a folder, a pattern, a sample or rows in memory into labelled examples, ready to be split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from glob import glob
from hashlib import blake2b
from pathlib import Path
from typing import Any

from tillerman.core.errors import DataError, UsageError
from tillerman.core.shown import Shown
from tillerman.data.advice import Columns, options_for
from tillerman.data.classes import ask_for_class, listed, with_sides
from tillerman.data.descriptions import described
from tillerman.data.detection import detect
from tillerman.data.examples import Example, Examples
from tillerman.data.fields import label_text
from tillerman.data.layouts import LAYOUTS, Parsed, RowLayout, check_columns, renamed
from tillerman.data.readers import read_rows
from tillerman.data.reading.folders import SUFFIXES, places_in
from tillerman.data.reading.options import FileOptions, exists, file_and_reading
from tillerman.data.reading.rows import OnBad, SourceRow, raising
from tillerman.data.samples import SAMPLES, sample_path
from tillerman.data.splits import hash_fraction
from tillerman.data.texts import LabelledReply, LabelledText, pair_replies, pair_texts

SAMPLE_PREFIX = "sample:"
# Names that say what a file is for, not what it is about: the folder's name says more.
_SHORT = 40  # characters of a field that says of which kind an item is
_PLAIN_NAMES = re.compile(
    r"(generate_|test_)?(data|dataset|train|test|validation|valid|val|dev|infer|ab|rows|examples|_)+"
)

Source = (
    str | Path | Iterable[Any]
)  # rows are mappings; a frame of pandas or polars, which iterates otherwise, is one too


@dataclass(frozen=True, repr=False)
class LoadedData(Shown):
    """Labelled examples and where they come from."""

    examples: tuple[Example, ...]
    name: str
    layout: str
    digest: str  # of the examples and their answers, whatever file they stood in
    skipped: tuple[str, ...]  # rows not used, each with place and reason
    described: tuple[str, ...] = ()  # prompts for the behaviour, from columns that describe it and from the name

    def __post_init__(self) -> None:
        object.__setattr__(self, "examples", Examples(self.examples))

    def shown(self) -> dict[str, object]:
        kinds = Counter(example.kind for example in self.examples)
        first = self.examples[0] if self.examples else None
        return {
            "name": self.name,
            "layout": self.layout,
            "examples": len(self.examples),
            "kinds": ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()),
            "skipped rows": len(self.skipped),
            "first question": "" if first is None else first.question,
            "first answer": "" if first is None else first.options[first.answer],
        }


def load_examples(
    source: Source,
    *,
    layout: str | None = None,
    columns: Columns | None = None,
    limit: int | None = None,
    positive_label: str | None = None,
    skip_bad_rows: bool = False,
) -> LoadedData:
    """Read labelled examples from a file, a folder, a pattern, ``sample:NAME`` or rows in memory: a
    ``datasets.Dataset``, a frame of pandas or polars, an Arrow table, any iterable of mappings.

    What a file does not say of itself is said after its name: ``"condition.json:rows=train"``,
    ``"export.csv:encoding=cp1252"`` (see ``tillerman.data.reading.options``).
    ``layout`` is found from the fields if not given; ``columns`` says which column is which field of
    the layout; ``limit`` keeps that many examples, the ones with the smallest hash, so that they are a
    fair share of a sorted file; ``positive_label`` is the class of labelled texts to steer towards.
    A row that cannot be read is an error, or is skipped and noted with ``skip_bad_rows``.

    Raises ``DataError`` with file, line and field for rows and files that cannot be used,
    ``UnknownNameError`` for an unknown layout or sample, ``UsageError`` for a ``limit`` below 1 and for
    a ``positive_label`` where the layout has none. All layouts: docs/data-format.md.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit: expected at least 1, got {limit}")
    skipped: list[str] = []
    on_bad: OnBad = (lambda error: skipped.append(str(error))) if skip_bad_rows else raising
    sources, name = _sources(source)
    first = sources[0][0]
    place = str(first) if isinstance(first, str | Path) else name
    rows = [row for one, reading in sources for row in read_rows(one, on_bad, reading)]
    if not rows:
        raise DataError(f"no usable rows{_first(skipped)}", file=place)
    if columns:
        rows = list(_renamed(rows, columns, on_bad))
        if not rows:
            raise DataError(f"no usable rows{_first(skipped)}", file=place)
    found = LAYOUTS[layout] if layout is not None else detect(rows, columns or ())
    check_columns(found, columns or {})
    rows = found.settle([found.placed(row) for row in rows])
    if positive_label is not None and not found.labelled:
        raise UsageError(f"positive_label is for labelled texts; the layout here is {found.name}")
    if positive_label is not None:
        rows = list(with_sides(rows, positive_label, place))
    elif found.labelled:
        ask_for_class(rows)
    parsed = list(_parsed(rows, found, on_bad))
    examples = [item for item in parsed if isinstance(item, Example)]
    labelled = [item for item in parsed if not isinstance(item, Example)]
    if not parsed:
        raise DataError(f"no usable rows{_first(skipped)}", file=place)
    if labelled:
        examples = _paired(labelled, rows, place, skipped)
    _check_sides(examples, place)
    if limit is not None:
        # Another hash than the split's: the smallest of that one would all be training items.
        examples = sorted(examples, key=lambda e: (hash_fraction(f"limit {e.key}"), e.id))[:limit]
    return LoadedData(
        examples=tuple(examples),
        name=name,
        layout=found.name,
        digest=_digest(examples),
        skipped=tuple(skipped),
        described=(*_said_of(source), *described(rows, name, found.family)),
    )


def as_loaded(data: LoadedData | Source) -> LoadedData:
    """Examples as they are; of anything else what ``load_examples`` reads of it, with its errors."""
    return data if isinstance(data, LoadedData) else load_examples(data)


def _said_of(source: Source) -> tuple[str, ...]:
    """The prompt that was written for an embedded sample, if any."""
    if not (isinstance(source, str) and source.startswith(SAMPLE_PREFIX)):
        return ()
    prompt = SAMPLES[source.removeprefix(SAMPLE_PREFIX)].prompt
    return (prompt,) if prompt else ()


def _sources(source: Source) -> tuple[list[tuple[Source, FileOptions | None]], str]:
    """What is read, each with how, and what the data are called."""
    if not isinstance(source, str | Path):
        return [(source, None)], "data"
    if isinstance(source, str) and source.startswith(SAMPLE_PREFIX):
        name = source.removeprefix(SAMPLE_PREFIX)
        return [(sample_path(name), None)], name
    path, reading = file_and_reading(source)
    if exists(path) and path.is_dir():
        return list(places_in(path, reading)), path.resolve().name
    if any(mark in str(path) for mark in "*?[") and not exists(path):
        files = sorted(Path(found) for found in glob(str(path), recursive=True) if Path(found).is_file())  # noqa: PTH207
        if not files:
            raise DataError("no file matches this pattern", file=path)
        return [(file, reading) for file in files], _name(files[0]) if len(files) == 1 else path.parent.name or "data"
    return [(path, reading)], _name(path)


def _name(path: Path) -> str:
    """What the data are about: the file's name, or the folder's where the file's says nothing."""
    stem = path.name
    while Path(stem).suffix.lower() in (*SUFFIXES, ".gz"):
        stem = Path(stem).stem
    folder = path.resolve().parent.name
    return folder if _PLAIN_NAMES.fullmatch(stem) and folder else stem


def _renamed(rows: Iterable[SourceRow], columns: Columns, on_bad: OnBad) -> Iterator[SourceRow]:
    for row in rows:
        try:
            yield renamed(row, columns)
        except DataError as error:
            on_bad(error)


def _parsed(rows: Iterable[SourceRow], layout: RowLayout, on_bad: OnBad) -> Iterator[Parsed]:
    for row in rows:
        try:
            found = layout.parse(row)
            yield replace(found, extra=rest) if isinstance(found, Example) and (rest := _rest(row, layout)) else found
        except DataError as error:
            on_bad(error)


def _rest(row: SourceRow, layout: RowLayout) -> dict[str, str]:
    """What a row says besides, in short: by these fields a report tells who was moved the wrong way."""
    others = {name: value for name, value in row.fields.items() if name not in layout.known and _is_short(value)}
    return {name: str(value) for name, value in others.items()}


def _is_short(value: object) -> bool:
    """Numbers are compared: Python writes none of thousands of digits."""
    if isinstance(value, int):
        longest: int = 10**_SHORT
        return abs(value) < longest
    return isinstance(value, str) and 0 < len(value) <= _SHORT


def _paired(
    items: Sequence[LabelledText | LabelledReply], rows: list[SourceRow], place: str, skipped: list[str]
) -> list[Example]:
    sides = Counter(item.label for item in items)
    if len(sides) < 2:
        found = listed(Counter(label_text(row.fields.get("label")) for row in rows))
        message = f"one class only: every usable text is {'positive' if sides[True] else 'negative'} (labels: {found})"
        raise DataError(f"{message}; a contrast needs both", file=place, field="label")
    replies = [item for item in items if isinstance(item, LabelledReply)]
    pairs = pair_replies(replies) if replies else pair_texts(i for i in items if isinstance(i, LabelledText))
    notes = {
        "texts without a partner of the other class": pairs.leftover,
        "repeated texts": pairs.repeated,
        "texts with both labels": pairs.contradictory,
    }
    skipped.extend(f"{place}: {count} {what} left out" for what, count in notes.items() if count)
    if not pairs.examples and replies:
        columns = {"text": "completion", "label": "label"}
        named = {name: rows[0].columns.get(field, field) for name, field in columns.items()}
        advice = f"; to contrast replies whatever their prompts: {options_for('labelled-text', named)}"
        raise DataError(
            f"no prompt has both a wanted reply and another one, among {len(replies)} replies"
            f"{advice if isinstance(rows[0].fields.get('completion'), str) else ''}",
            file=place,
        )
    if not pairs.examples:
        raise DataError(f"no pair of a positive and a negative text among {len(items)} texts", file=place)
    return list(pairs.examples)


def _check_sides(examples: list[Example], place: str) -> None:
    """Yes/no items that all want the same word leave nothing to contrast."""
    if not examples or any(example.kind != "yes_no" for example in examples):
        return
    wanted = {example.options[example.answer] for example in examples}
    if len(wanted) == 1 and len(examples) > 1:
        message = f"one class only: the answer is {wanted.pop()!r} for all {len(examples)} items"
        raise DataError(f"{message}; a contrast needs both", file=place)


def _first(skipped: list[str]) -> str:
    return f": {len(skipped)} rows were skipped, the first: {skipped[0]}" if skipped else ""


def _digest(examples: Iterable[Example]) -> str:
    state = blake2b(digest_size=16)
    for example in examples:
        state.update(f"{example.id} {example.answer}\n".encode())
    return state.hexdigest()
