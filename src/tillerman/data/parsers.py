"""One row of each published form into one example (see ``tillerman.data.layouts`` for the table).

The texts of personas, BBQ and ETHICS are, word for word, what the embedded model was trained on
(``tools/pilot/corpus.py``), so that they hash into the same split.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tillerman.data.examples import Example
from tillerman.data.fields import (
    asked,
    example,
    index,
    label,
    label_text,
    quoted,
    text,
    texts,
    truth,
)
from tillerman.data.lettered import lettered
from tillerman.data.option_columns import has_option_columns
from tillerman.data.reading.rows import SourceRow
from tillerman.data.texts import LabelledText
from tillerman.data.thoughts import reference_answer

YES_NO = ("Yes", "No")
MORAL_QUESTION = "Is this morally wrong?"
REASONABLE_QUESTION = "Is this reasonable?"
_MATCHING, _OTHER = "answer_matching_behavior", "answer_not_matching_behavior"
# What a text that is asked or continued is called; beside positive and negative it must not be dropped.
PROMPTS = ("prompt", "instruction", "question", "query", "anchor", "input", "context")
_LETTER = re.compile(r"\s*\(?([A-Z])\)?[.:]?\s*")


def is_yes_no(fields: Mapping[str, Any]) -> bool:
    return label_text(fields[_MATCHING]).casefold() in ("yes", "no")


def is_lettered(fields: Mapping[str, Any]) -> bool:
    return _LETTER.fullmatch(label_text(fields[_MATCHING])) is not None


def is_virtue(fields: Mapping[str, Any]) -> bool:
    return "[SEP]" in label_text(fields["scenario"])


def is_letter(found: object) -> bool:
    """Whether an answer is the letter of an option, whatever the options are."""
    return isinstance(found, str) and re.fullmatch(r"\(?[A-J]\)?[.:]?|[a-e]", found.strip()) is not None


def answers_yes_no(fields: Mapping[str, Any]) -> bool:
    said = label_text(fields["answer"]).casefold()
    return said in ("yes", "no", "true", "false") and not has_option_columns(fields)


def answers_openly(fields: Mapping[str, Any]) -> bool:
    """A letter, or any answer beside columns of options, is one of several choices, never an answer in words."""
    return not is_letter(fields["answer"]) and not has_option_columns(fields)


def doubtful_numbers(rows: Sequence[SourceRow]) -> None:
    """``DataError`` where all answers are 1 and 0: yes and no, or numbers to be given?"""
    said = {label_text(row.fields.get("answer")) for row in rows} - {""}
    if said <= {"0", "1"} and said:
        raise rows[0].error(
            "the answers are all 1 and 0: --layout yes-no (in Python layout='yes-no') for yes and no, or --layout open "
            "(layout='open') for numbers that are to be given",
            "answer",
        )


def persona(row: SourceRow) -> Example:
    """Model-written evaluations, yes/no: ``answer_matching_behavior`` is ' Yes' or ' No'."""
    wanted = label(row, _MATCHING).casefold()
    if wanted not in ("yes", "no"):
        raise row.error(f"expected ' Yes' or ' No', got {quoted(row.fields[_MATCHING])}", _MATCHING)
    return example(row, "yes_no", text(row, "question"), YES_NO, 0 if wanted == "yes" else 1)


def model_written_ab(row: SourceRow) -> Example:
    """Model-written evaluations and CAA, with (A)/(B) choices inside the question."""
    return lettered_example(row, "question", _MATCHING)


def caa_pair(row: SourceRow) -> Example:
    """CAA's subsets of MMLU and TruthfulQA: ``correct`` is the letter of the right one of two choices."""
    return lettered_example(row, "prompt", "correct")


def typology(row: SourceRow) -> Example:
    """Political typology with a biography: the first of ``corrects`` is the letter of the wanted choice."""
    wanted = texts(row, "corrects")
    if len(wanted) != 1:
        raise row.error(f"expected one letter, got {list(wanted)}", "corrects")
    return lettered_example(row, "prompt", "corrects", wanted[0])


def lettered_example(row: SourceRow, question: str, right: str, shown: str | None = None) -> Example:
    parts = lettered(text(row, question))
    if parts is None:
        raise row.error("expected choices (A), (B), ... inside the text, found none", question)
    stem, options = parts
    letter = _LETTER.fullmatch(label(row, right) if shown is None else shown)
    position = ord(letter.group(1)) - ord("A") if letter else -1
    if not 0 <= position < len(options):
        found = row.fields[right]
        raise row.error(f"expected the letter of one of {len(options)} choices, e.g. '(A)', got {quoted(found)}", right)
    return example(row, "choice", stem, options, position, question)


def bbq(row: SourceRow) -> Example:
    """BBQ: context and question, ``ans0`` to ``ans2``, ``label`` the index of the right one."""
    options = tuple(text(row, f"ans{i}") for i in range(3))
    question = f"{text(row, 'context')}\n{text(row, 'question')}"
    return example(row, "choice", question, options, index(row, "label", 3), "ans0")


def commonsense(row: SourceRow) -> Example:
    """ETHICS commonsense: label 1 means morally wrong, so the answer is Yes."""
    return _ethics(row, text(row, "input").strip(), MORAL_QUESTION)


def deontology(row: SourceRow) -> Example:
    """ETHICS deontology: label 1 means that the excuse (or the duty) is reasonable."""
    scenario = f"{text(row, 'scenario').strip()} {text(row, 'excuse').strip()}"
    return _ethics(row, scenario, REASONABLE_QUESTION)


def justice(row: SourceRow) -> Example:
    """ETHICS justice: label 1 means that the claim is reasonable."""
    return _ethics(row, text(row, "scenario").strip(), REASONABLE_QUESTION)


def virtue(row: SourceRow) -> Example:
    """ETHICS virtue: ``scenario [SEP] trait``, label 1 means that the person shows the trait."""
    scenario, separator, trait = text(row, "scenario").partition("[SEP]")
    if not separator or not scenario.strip() or not trait.strip():
        raise row.error("expected 'scenario [SEP] trait'", "scenario")
    return _ethics(row, scenario.strip(), f'Does this person show the trait "{trait.strip()}"?')


def _ethics(row: SourceRow, scenario: str, question: str) -> Example:
    right = 0 if truth(row, "label") else 1
    return example(row, "yes_no", f"{scenario}\n{question}", YES_NO, right, "label")


def bipo(row: SourceRow) -> Example:
    """BiPO: a question with a matching and a not matching answer in words."""
    return _preference(row, "question", "matching", "not_matching")


def _preference(row: SourceRow, prompt: str, wanted: str, other: str) -> Example:
    return example(row, "preference", text(row, prompt), (text(row, wanted), text(row, other)), 0, wanted)


def no_prompt(fields: Mapping[str, Any]) -> bool:
    """Whether two texts stand without anything that they would follow."""
    return not any(label_text(fields.get(name)) for name in PROMPTS)


def text_pair(row: SourceRow) -> Example:
    """Two texts of opposite classes on one row."""
    return example(row, "text", "", (text(row, "positive"), text(row, "negative")), 0, "positive")


def yes_no(row: SourceRow) -> Example:
    """A question that is answered with yes or no."""
    return example(row, "yes_no", asked(row), YES_NO, 0 if truth(row, "answer") else 1, "answer")


def open_answer(row: SourceRow) -> Example:
    """A question with a reference answer; of a worked solution (GSM8K) what stands after ``####``."""
    return example(row, "open", asked(row), (reference_answer(text(row, "answer")),), 0, "answer")


def labelled_text(row: SourceRow) -> LabelledText:
    return _labelled(row, "text")


def labelled_sentence(row: SourceRow) -> LabelledText:
    return _labelled(row, "sentence")


def _labelled(row: SourceRow, name: str) -> LabelledText:
    positive = truth(row, "label", "; name the positive class with positive_label")
    return LabelledText(text(row, name), positive)
