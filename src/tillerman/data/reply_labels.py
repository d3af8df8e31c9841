"""Replies that people have labelled: what a scorer or judge is held against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tillerman.core.errors import DataError, UsageError
from tillerman.core.files import sha256_of
from tillerman.core.shown import clipped
from tillerman.data.fields import FALSE_WORDS, TRUE_WORDS, label, label_text, optional_text, quoted
from tillerman.data.readers import read_rows
from tillerman.data.reading.options import file_and_reading
from tillerman.data.reading.rows import SourceRow

TEXTS = ("reply", "response", "completion", "output", "text")
PROMPTS = ("prompt", "question", "instruction")
LABELS = ("label", "final_label", "gold")
_ID = "id"


@dataclass(frozen=True)
class LabelColumns:
    """Which columns hold what; None: the first that the file has of the usual names. ``wanted``: the labels that mean
    yes, all others mean no; empty: labels say yes or no themselves (1, true, yes, ...)."""

    text: str | None = None
    prompt: str | None = None
    label: str | None = None
    wanted: tuple[str, ...] = ()
    annotators: tuple[str, ...] = ()
    id: str | None = None


@dataclass(frozen=True)
class ReplyLabels:
    """Replies in their order. ``annotators``: what each of several people said, None where one did not."""

    name: str
    column: str  # of the labels
    wanted: tuple[str, ...]
    ids: tuple[str, ...]
    prompts: tuple[str, ...]
    replies: tuple[str, ...]
    labels: tuple[bool, ...]
    annotators: Mapping[str, tuple[bool | None, ...]] = field(default_factory=dict)
    digest: str = ""


def read_reply_labels(source: str, columns: LabelColumns = LabelColumns()) -> ReplyLabels:
    """Of a file of rows (jsonl, csv, parquet, ...), one per reply.

    ``DataError``, with its place, for a column that is not there, a label that is missing, labels of which it is not
    said what they mean, replies of one label only, or an id that is there twice; ``UsageError`` for ``wanted`` labels
    that no reply has."""
    rows = tuple(read_rows(source))
    names = tuple(dict.fromkeys(str(name) for row in rows for name in row.fields))
    known = _Known(source, names)
    text, marked = known.one("text", columns.text, TEXTS), known.one("label", columns.label, LABELS)
    prompt = known.maybe("prompt", columns.prompt, PROMPTS)
    given = [label(row, marked) for row in rows]
    wanted = _wanted(source, marked, given, columns.wanted)
    labels = tuple(one.casefold() in wanted for one in given)
    if len(set(labels)) < 2:
        raise DataError(
            f"all {len(labels)} replies are labelled {'yes' if labels[0] else 'no'}: a scorer is held against replies "
            "of both kinds; check `wanted`",
            file=source,
            field=marked,
        )
    people = {one: _said(rows, known.one("annotators", one, ()), wanted) for one in columns.annotators}
    path = file_and_reading(source)[0]
    return ReplyLabels(
        name=path.stem,
        column=marked,
        wanted=tuple(dict.fromkeys(one for one, yes in zip(given, labels, strict=True) if yes)),
        ids=_ids(rows, known.maybe("id", columns.id, (_ID,))),
        prompts=tuple("" if prompt is None else optional_text(row, prompt) for row in rows),
        replies=tuple(optional_text(row, text) for row in rows),
        labels=labels,
        annotators=people,
        digest=sha256_of(Path(path)),
    )


@dataclass(frozen=True)
class _Known:
    """The columns of a file."""

    file: str
    names: tuple[str, ...]

    def one(self, option: str, asked: str | None, usual: Sequence[str]) -> str:
        found = self.maybe(option, asked, usual)
        if found is None:
            names = ", ".join(usual)
            raise DataError(f"no column of the usual names ({names}); {self._choices(option)}", file=self.file)
        return found

    def maybe(self, option: str, asked: str | None, usual: Sequence[str]) -> str | None:
        if asked is not None and asked not in self.names:
            raise DataError(f"no column {quoted(asked)}; {self._choices(option)}", file=self.file)
        return asked or next((name for name in usual if name in self.names), None)

    def _choices(self, option: str) -> str:
        return f"name it with `{option}`, one of {clipped(', '.join(self.names), 200)}"


def _wanted(source: str, column: str, given: Sequence[str], asked: Sequence[str]) -> frozenset[str]:
    """The labels that mean yes, in lower case."""
    there = Counter(one.casefold() for one in given)
    listed = clipped(", ".join(f"{one} ({count})" for one, count in Counter(given).most_common(12)), 300)
    if asked:
        absent = [one for one in asked if one.casefold() not in there]
        if absent:
            raise UsageError(f"`wanted` {clipped(absent[0], 60)}: a label of no reply; there are {listed}")
        return frozenset(one.casefold() for one in asked)
    unclear = [one for one in there if one not in TRUE_WORDS | FALSE_WORDS]
    if unclear:
        raise DataError(
            f"which labels mean yes? name them with `wanted`; there are {listed}", file=source, field=column
        )
    return TRUE_WORDS


def _said(rows: Iterable[SourceRow], column: str, wanted: frozenset[str]) -> tuple[bool | None, ...]:
    texts = [label_text(row.fields.get(column)).casefold() for row in rows]
    return tuple(None if not one else one in wanted for one in texts)


def _ids(rows: Sequence[SourceRow], column: str | None) -> tuple[str, ...]:
    if column is None:
        return tuple(f"row {k}" for k in range(1, len(rows) + 1))
    lines: dict[str, int] = {}
    for row in rows:
        key = label(row, column)
        if key in lines:
            raise row.error(f"the id {quoted(key)} is that of line {lines[key]} too; give every reply its own", column)
        lines[key] = row.line
    return tuple(lines)
