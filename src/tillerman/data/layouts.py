"""The forms in which labelled data are published, found by their fields and read into examples.

A layout says which fields a row must have and how one row becomes one ``Example`` (or a labelled text or
reply, which is paired afterwards). Where the fields alone do not decide, ``fits`` looks at the values. The
order of the table is the order of detection: the particular before the general.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field as dataclass_field, replace
from typing import Any

from tillerman.core.errors import DataError, UnknownNameError
from tillerman.core.registry import Registry
from tillerman.core.shown import clipped
from tillerman.data import benchmarks as bench, choices as pick, conversations as talk, parsers as read
from tillerman.data.advice import Columns
from tillerman.data.answers import READINGS
from tillerman.data.examples import Example
from tillerman.data.reading.dialects import MMLU_COLUMNS
from tillerman.data.reading.rows import SourceRow
from tillerman.data.texts import LabelledReply, LabelledText

Parsed = Example | LabelledText | LabelledReply

LOOKED_AT = 20  # rows that detection looks at


@dataclass(frozen=True)
class RowLayout:
    """One published form. ``fields`` must all be there; ``optional`` ones are used where they are."""

    name: str
    family: str  # persona, ab, bbq, ethics, ...: decides the default prompt
    fields: tuple[str, ...]
    parse: Callable[[SourceRow], Parsed]
    fits: Callable[[Mapping[str, Any]], bool] = lambda fields: True
    optional: tuple[str, ...] = ()
    aliases: Mapping[str, tuple[str, ...]] = dataclass_field(default_factory=dict)  # field -> its other names
    labelled: bool = False  # rows are of two classes, and ``label`` says which
    settle: Callable[[Sequence[SourceRow]], list[SourceRow]] = list  # what only all rows together decide
    doubt: Callable[[Sequence[SourceRow]], None] | None = None  # raises where a found layout is one of two readings

    @property
    def known(self) -> frozenset[str]:
        return frozenset((*self.fields, *self.optional))

    def columns(self, fields: Mapping[str, Any], *, loose: bool = True) -> dict[str, str]:
        """Field -> column, for fields that are there under their own name or one of the ``aliases``; ``loose``: or
        with other case, blanks or dashes. Two columns that could both be the field are neither."""
        plain = _by_plain_name(fields) if loose else {}
        found = {}
        for name in (*self.fields, *self.optional):
            names = (name, *self.aliases.get(name, ()))
            here = {one for one in names if one in fields} or {plain[one] for one in names if one in plain}
            if name in fields:
                found[name] = name
            elif len(here) == 1:
                found[name] = here.pop()
        return found

    def placed(self, row: SourceRow, *, loose: bool = True) -> SourceRow:
        """The row with the layout's names for its fields."""
        if not self.aliases and not (loose and any(name not in row.fields for name in self.fields)):
            return row
        columns = {name: column for name, column in self.columns(row.fields, loose=loose).items() if name != column}
        return renamed(row, columns) if columns else row

    def matches(self, row: SourceRow, *, loose: bool) -> bool:
        placed = self.placed(row, loose=loose).fields
        return all(name in placed for name in self.fields) and self.fits(placed)


def plain_name(name: object) -> str:
    """The name of a column as it is compared: case, blanks and dashes aside."""
    return "_".join(re.split(r"[\s_\-]+", str(name).strip().casefold()))


def _by_plain_name(fields: Mapping[str, Any]) -> dict[str, str]:
    """Plain name -> column, for names that only one column has."""
    names = [plain_name(column) for column in fields]
    return {name: column for name, column in zip(names, fields, strict=True) if names.count(name) == 1}


# Names under which published sets have a field.
_PROMPT = {"prompt": ("instruction", "question", "query")}
_ANSWERS = {"chosen": ("chosen_response",), "rejected": ("rejected_response",)}
_ASKED = {"prompt": ("question", "query"), **_ANSWERS}
_KTO = {"completion": ("response",), "label": ("kto_tag",)}
_REVIEW = {"text": ("review",), "label": ("sentiment",)}
_TALK = {"messages": ("conversations", "conversation")}
_ANSWER = {"answer": tuple(READINGS)}
_QUESTION = ("question", "answer")
_PASSAGE = ("context", "passage")
_PREFERENCE = ("prompt", "chosen", "rejected")
_SIDES = ("positive", "negative")
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
    RowLayout("truthfulqa-mc", "truthful", ("question", "mc1_targets"), bench.truthfulqa_mc),
    RowLayout("truthfulqa-csv", "truthful", ("Question", "Best Answer", "Incorrect Answers"), bench.truthfulqa_csv),
    RowLayout("mmlu", "knowledge", MMLU_COLUMNS, bench.mmlu, bench.is_mmlu),
    RowLayout("agieval", "knowledge", ("passage", "question", "options", "label"), bench.agieval),
    RowLayout("answer-key", "knowledge", ("answerKey",), bench.answer_key, bench.has_choices, ("question", "choices")),
    RowLayout("instruction-answer", "knowledge", ("instruction", "answer"), bench.instruction, bench.is_instruction),
    RowLayout(
        "option-columns",
        "choice",
        ("question", "answer"),
        pick.answer_columns,
        pick.has_columns,
        ("A", "B", "C", "D", "E", *READINGS, *_PASSAGE),
        aliases=_ANSWER,
        settle=pick.settled_columns,
    ),
    RowLayout(
        "bipo-ab", "behaviour", ("question", "A", "B", "matching"), pick.matching_columns, settle=pick.settled_matching
    ),
    RowLayout("lettered-question", "choice", _QUESTION, pick.lettered_question, pick.is_lettered_question),
    RowLayout("bipo", "behaviour", ("question", "matching", "not_matching"), read.bipo),
    RowLayout("preference", "behaviour", _PREFERENCE, talk.preference, optional=("system",), aliases=_ASKED),
    RowLayout("preferred", "behaviour", ("prompt", "preferred", "rejected"), talk.preferred, optional=("system",)),
    RowLayout(
        "preference-instruction",
        "behaviour",
        ("instruction", "chosen", "rejected"),
        talk.instructed,
        optional=("input", "system", "history"),
        aliases=_ANSWERS,
    ),
    RowLayout(
        "preference-messages",
        "behaviour",
        ("messages", "chosen", "rejected"),
        talk.messages_preference,
        talk.are_messages,
        optional=("system",),
        aliases=_TALK,
    ),
    RowLayout("preference-conversations", "behaviour", _PREFERENCE[1:], talk.conversation_pair, talk.are_conversations),
    RowLayout(
        "preference-openai",
        "behaviour",
        ("input", "preferred_output", "non_preferred_output"),
        talk.openai_preference,
    ),
    RowLayout("ultrafeedback", "behaviour", ("instruction", "completions"), talk.rated),
    RowLayout("ranked", "behaviour", ("context", "completions"), talk.ranked),
    RowLayout(
        "kto",
        "behaviour",
        ("prompt", "completion", "label"),
        talk.kto,
        optional=("system",),
        aliases=_KTO,
        labelled=True,
    ),
    RowLayout("prompted-pair", "behaviour", ("prompt", *_SIDES), talk.prompted_pair, aliases=_PROMPT),
    RowLayout("text-pair", "texts", _SIDES, read.text_pair, read.no_prompt),
    RowLayout(
        "choice",
        "choice",
        ("question", "options", "answer"),
        pick.choice,
        optional=(*READINGS, *_PASSAGE),
        aliases=_ANSWER,
        settle=pick.settled_choice,
    ),
    RowLayout(
        "choices",
        "choice",
        ("question", "choices", "answer"),
        pick.choices,
        optional=(*READINGS, *_PASSAGE),
        aliases=_ANSWER,
        settle=pick.settled_choices,
    ),
    RowLayout("yes-no", "choice", _QUESTION, read.yes_no, read.answers_yes_no, _PASSAGE),
    RowLayout(
        "open", "problems", _QUESTION, read.open_answer, read.answers_openly, _PASSAGE, doubt=read.doubtful_numbers
    ),
    RowLayout("labelled-text", "texts", ("text", "label"), read.labelled_text, aliases=_REVIEW, labelled=True),
    RowLayout("labelled-sentence", "texts", ("sentence", "label"), read.labelled_sentence, labelled=True),
    RowLayout(
        "labelled-messages",
        "behaviour",
        ("messages", "label"),
        talk.labelled_messages,
        talk.are_messages,
        optional=("system",),
        aliases={**_TALK, "label": ("kto_tag",)},
        labelled=True,
    ),
    RowLayout("messages", "problems", ("messages",), talk.open_messages, talk.are_messages, ("system",), aliases=_TALK),
)

LAYOUTS: Registry[RowLayout] = Registry("layout", {layout.name: layout for layout in _TABLE})


def renamed(row: SourceRow, columns: Columns) -> SourceRow:
    """The row with the fields of a layout taken from the user's columns.

    ``{"options": ["a", "b", "c"]}`` (or ``"a,b,c"``) gathers several columns into one list; a column whose own name
    has a comma is taken as it is.
    """
    fields = dict(row.fields)
    named = {}
    for name, column in columns.items():
        texts = [column] if isinstance(column, str) else list(column)
        listed = column.split(",") if isinstance(column, str) and column not in row.fields else texts
        parts = [part if part in row.fields else part.strip() for part in listed]
        for part in parts:
            if part not in row.fields:
                found = clipped(", ".join(map(str, row.fields)), 200)
                raise DataError(f"no such column; found {found}", file=row.file, line=row.line, field=part)
        fields[name] = row.fields[parts[0]] if len(parts) == 1 else [row.fields[part] for part in parts]
        named[name] = ",".join(row.columns.get(part, part) for part in parts)
    return replace(row, fields=fields, columns={**row.columns, **named})


def check_columns(layout: RowLayout, columns: Iterable[str]) -> None:
    """A mapping for a field that the layout does not read would do nothing: refuse it."""
    for name in columns:
        if name not in layout.known:
            raise UnknownNameError(f"field of the layout {layout.name}", name, layout.known)
