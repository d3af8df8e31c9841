"""The forms in which labelled data are published, found by their fields and read into examples.

A layout says which fields a row must have and how one row becomes one ``Example`` (or, for labelled
texts, one ``LabelledText``). Where the fields alone do not decide, ``fits`` looks at the values. The
order of the table is the order of detection: the particular before the general.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tillerman.core.errors import DataError, UnknownNameError
from tillerman.core.registry import Registry
from tillerman.data import parsers as read
from tillerman.data.examples import Example
from tillerman.data.readers import SourceRow
from tillerman.data.texts import LabelledText

LOOKED_AT = 20  # rows that detection looks at


@dataclass(frozen=True)
class RowLayout:
    """One published form. ``fields`` must all be there; ``optional`` ones are used where they are."""

    name: str
    family: str  # persona, ab, bbq, ethics, ...: decides the default prompt
    fields: tuple[str, ...]
    parse: Callable[[SourceRow], Example | LabelledText]
    fits: Callable[[Mapping[str, Any]], bool] = lambda fields: True
    optional: tuple[str, ...] = ()

    def matches(self, row: SourceRow) -> bool:
        return all(name in row.fields for name in self.fields) and self.fits(row.fields)


_AB = ("question", "answer_matching_behavior", "answer_not_matching_behavior")

_TABLE = (
    RowLayout("persona-yes-no", "persona", _AB[:2], read.persona, read.is_yes_no, ("statement",)),
    RowLayout("model-written-ab", "behaviour", _AB, read.model_written_ab, read.is_lettered),
    RowLayout("caa-pair", "knowledge", ("prompt", "correct", "incorrect"), read.caa_pair),
    RowLayout("sycophancy-typology", "behaviour", ("prompt", "corrects", "incorrects"), read.typology),
    RowLayout("bbq", "bbq", ("context", "question", "ans0", "ans1", "ans2", "label"), read.bbq),
    RowLayout("ethics-commonsense", "ethics", ("label", "input", "is_short"), read.commonsense),
    RowLayout("ethics-deontology", "ethics", ("label", "scenario", "excuse"), read.deontology),
    RowLayout("ethics-virtue", "ethics", ("label", "scenario"), read.virtue, read.is_virtue),
    RowLayout("ethics-justice", "ethics", ("label", "scenario"), read.justice),
    RowLayout("truthfulqa-mc", "truthful", ("question", "mc1_targets"), read.truthfulqa_mc),
    RowLayout("truthfulqa-csv", "truthful", ("Question", "Best Answer", "Incorrect Answers"), read.truthfulqa_csv),
    RowLayout("mmlu", "knowledge", ("question", "choice0", "choice1", "choice2", "choice3", "answer"), read.mmlu),
    RowLayout("agieval", "knowledge", ("passage", "question", "options", "label"), read.agieval),
    RowLayout("answer-key", "knowledge", ("answerKey",), read.answer_key, read.has_choices, ("question", "choices")),
    RowLayout("instruction-answer", "knowledge", ("instruction", "answer"), read.instruction, read.is_instruction),
    RowLayout(
        "option-columns", "choice", ("question", "A", "B", "answer"), read.answer_columns, optional=("C", "D", "E")
    ),
    RowLayout("bipo-ab", "behaviour", ("question", "A", "B", "matching"), read.matching_columns),
    RowLayout("bipo", "behaviour", ("question", "matching", "not_matching"), read.bipo),
    RowLayout("preference", "behaviour", ("prompt", "chosen", "rejected"), read.preference),
    RowLayout("preferred", "behaviour", ("prompt", "preferred", "rejected"), read.preferred),
    RowLayout("text-pair", "texts", ("positive", "negative"), read.text_pair),
    RowLayout("choice", "choice", ("question", "options", "answer"), read.choice),
    RowLayout("choices", "choice", ("question", "choices", "answer"), read.choices),
    RowLayout("yes-no", "choice", ("question", "answer"), read.yes_no, read.answers_yes_no),
    RowLayout("open", "problems", ("question", "answer"), read.open_answer),
    RowLayout("labelled-text", "texts", ("text", "label"), read.labelled_text),
    RowLayout("labelled-sentence", "texts", ("sentence", "label"), read.labelled_sentence),
)

LAYOUTS: Registry[RowLayout] = Registry("layout", {layout.name: layout for layout in _TABLE})


def detect(rows: Sequence[SourceRow]) -> RowLayout:
    """The first layout that fits most of the first rows; a ``DataError`` that lists what there is."""
    looked_at = rows[:LOOKED_AT]
    for layout in LAYOUTS.values():
        if looked_at and 2 * sum(layout.matches(row) for row in looked_at) > len(looked_at):
            return layout
    first = rows[0]
    known = "; ".join(f"{layout.name} ({', '.join(layout.fields)})" for layout in LAYOUTS.values())
    raise DataError(
        f"no layout fits the fields {', '.join(map(str, first.fields))}. Known layouts: {known}. "
        'Name one and say which column is which, e.g. layout "choice" with columns '
        '{"question": "my_question", "options": "a,b,c", "answer": "gold"}',
        file=first.file,
        line=first.line,
    )


def renamed(row: SourceRow, columns: Mapping[str, str]) -> SourceRow:
    """The row with the fields of a layout taken from the user's columns.

    ``{"options": "a,b,c"}`` gathers several columns into one list; a column whose own name has a comma
    is taken as it is.
    """
    fields = dict(row.fields)
    for name, column in columns.items():
        parts = [column] if column in row.fields else [part.strip() for part in column.split(",")]
        for part in parts:
            if part not in row.fields:
                found = ", ".join(map(str, row.fields))
                raise DataError(f"no such column; found {found}", file=row.file, line=row.line, field=part)
        fields[name] = row.fields[parts[0]] if len(parts) == 1 else [row.fields[part] for part in parts]
    return replace(row, fields=fields, columns={**row.columns, **columns})


def check_columns(layout: RowLayout, columns: Mapping[str, str]) -> None:
    """A mapping for a field that the layout does not read would do nothing: refuse it."""
    known = {*layout.fields, *layout.optional}
    for name in columns:
        if name not in known:
            raise UnknownNameError(f"field of the layout {layout.name}", name, known)
