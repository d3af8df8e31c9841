"""Rows of published benchmarks of knowledge: TruthfulQA, MMLU, AGIEval, ARC and its like, LLM-Adapters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tillerman.data.examples import Example
from tillerman.data.fields import (
    example,
    index,
    label,
    label_text,
    merged,
    optional_text,
    quoted,
    text,
    texts,
    unmarked,
    value,
    writable,
)
from tillerman.data.lettered import numbered
from tillerman.data.reading.rows import SourceRow, kind_of


def has_choices(fields: Mapping[str, Any]) -> bool:
    return "choices" in fields or isinstance(fields.get("question"), Mapping)


def is_instruction(fields: Mapping[str, Any]) -> bool:
    return _KEY.fullmatch(label_text(fields["answer"])) is not None


def is_mmlu(fields: Mapping[str, Any]) -> bool:
    return re.fullmatch(r"[0-3]|\(?[A-Da-d]\)?[.:]?", label_text(fields["answer"])) is not None


def truthfulqa_mc(row: SourceRow) -> Example:
    """TruthfulQA MC1: ``{choice: 1 or 0}``, or ``{"choices": [...], "labels": [...]}`` of the hub."""
    targets = value(row, "mc1_targets")
    if not isinstance(targets, Mapping) or not targets:
        raise row.error("expected an object choice -> 1 or 0", "mc1_targets")
    choices, labels = list(targets), list(targets.values())
    if set(targets) == {"choices", "labels"}:
        choices, labels = (_listed(row, "mc1_targets", targets[key]) for key in ("choices", "labels"))
    right = [i for i, mark in enumerate(labels) if isinstance(mark, int | float) and mark == 1]
    if len(right) != 1 or len(choices) != len(labels):
        raise row.error(f"expected exactly one right choice, got {len(right)}", "mc1_targets")
    options, position = merged(_all_texts(row, "mc1_targets", choices), right[0])
    return example(row, "choice", text(row, "question"), options, position, "mc1_targets")


def truthfulqa_csv(row: SourceRow) -> Example:
    """TruthfulQA as published: the best answer against the incorrect ones, which are split at ';'."""
    wrong = [part.strip() for part in text(row, "Incorrect Answers").split(";") if part.strip()]
    options, position = merged([text(row, "Best Answer").strip(), *wrong], 0)
    return example(row, "choice", text(row, "Question"), options, position, "Incorrect Answers")


def mmlu(row: SourceRow) -> Example:
    """MMLU: four choices, the answer as an index from 0 or as a letter."""
    options, right = merged([text(row, f"choice{i}") for i in range(4)], index(row, "answer", 4))
    return example(row, "choice", text(row, "question"), options, right, "choice0")


def agieval(row: SourceRow) -> Example:
    """AGIEval (LSAT): a passage (may be empty), options written '(A)...', the answer's letter."""
    options = unmarked(texts(row, "options"))
    options, right = merged(options, index(row, "label", len(options)))
    question = text(row, "question")
    if passage := optional_text(row, "passage").strip():
        question = f"{passage}\n{question}"
    return example(row, "choice", question, options, right)


def answer_key(row: SourceRow) -> Example:
    """ARC, OpenBookQA and CommonsenseQA as on the hub or as published: choices with labels, answerKey."""
    nested = row.fields.get("question")
    source: Mapping[str, Any] = nested if isinstance(nested, Mapping) else row.fields
    stem = next((source[name] for name in ("stem", "question_stem", "question") if source.get(name)), None)
    if not isinstance(stem, str) or not stem.strip():
        raise row.error("expected text, or an object with 'stem' and 'choices'", "question")
    marks, options = _choices(row, source.get("choices"))
    key = label(row, "answerKey")
    if key not in marks or len(marks) != len(options):
        raise row.error(f"expected one of {', '.join(marks)}, got {quoted(key)}", "answerKey")
    kept, right = merged(options, marks.index(key))
    return example(row, "choice", writable(row, "question", stem), kept, right, "choices")


def _choices(row: SourceRow, listed: Any) -> tuple[list[str], list[str]]:
    """Marks and texts of choices, as two lists of one object or as an object each."""
    if isinstance(listed, Mapping):
        pairs = [_listed(row, "choices", listed.get(key)) for key in ("label", "text")]
    elif isinstance(listed, list | tuple) and listed and all(isinstance(item, Mapping) for item in listed):
        pairs = [[item.get(key) for item in listed] for key in ("label", "text")]
    else:
        raise row.error("expected choices with 'label' and 'text'", "choices")
    return [label_text(mark) for mark in pairs[0]], _all_texts(row, "choices", pairs[1])


def _listed(row: SourceRow, name: str, found: object) -> list[Any]:
    if not isinstance(found, list | tuple):
        raise row.error(f"expected lists in it, got {kind_of(found)}", name)
    return list(found)


def _all_texts(row: SourceRow, name: str, found: Sequence[Any]) -> list[str]:
    """The same checks as for a field that is a list of texts."""
    return [one.strip() for one in texts(replace(row, fields={name: list(found)}), name)]


_KEY = re.compile(r"(?:answer|option|ending|solution)(\d)|true|false", re.IGNORECASE)
_ASK = re.compile(
    r"^Please (?:choose the correct answer to the question|answer the following question with true or false, question"
    r"|choose the correct answer to fill in the blank to complete the given sentence|[^:\n]{0,120}):\s*"
)


def instruction(row: SourceRow) -> Example:
    """The commonsense sets of LLM-Adapters: ``Answer1: ... Answer2: ...`` inside the instruction."""
    key = _KEY.fullmatch(label(row, "answer"))
    if key is None:
        raise row.error(f"expected 'answer1', 'option1', 'true', ..., got {quoted(row.fields['answer'])}", "answer")
    body = _ASK.sub("", text(row, "instruction"))
    if key.group(1) is None:
        question = body.split("\n\nAnswer format", 1)[0].strip()
        right = 0 if key.group(0).casefold() == "true" else 1
        return example(row, "yes_no", question, ("true", "false"), right, "answer")
    parts = numbered(body)
    if parts is None:
        raise row.error("expected 'Answer1: ... Answer2: ...' inside the text, found none", "instruction")
    stem, options = parts
    position = int(key.group(1)) - 1
    if not 0 <= position < len(options):
        raise row.error(f"expected one of {len(options)} answers, got {quoted(row.fields['answer'])}", "answer")
    options, position = merged(options, position)
    return example(row, "choice", stem, options, position, "instruction")
