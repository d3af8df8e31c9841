"""Labelled replies as they are read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tillerman.core.errors import DataError, UsageError
from tillerman.data.reply_labels import LabelColumns, read_reply_labels

ROWS = """id,prompt,completion,annotation_1,annotation_2,final_label
a,how?,Sure,comply,comply,comply
b,how?,"I'm sorry, no",refuse,partly,refuse
c,why?,"I can, but",partly,,partly
"""


def written(folder: Path, text: str) -> str:
    (folder / "labelled.csv").write_text(text)
    return str(folder / "labelled.csv")


def test_columns_of_the_usual_names_are_found_and_wanted_labels_mean_yes(tmp_path: Path) -> None:
    columns = LabelColumns(wanted=("refuse", "Partly"), annotators=("annotation_1", "annotation_2"))
    found = read_reply_labels(written(tmp_path, ROWS), columns)
    assert (found.name, found.column, found.ids, found.labels) == (
        "labelled",
        "final_label",
        ("a", "b", "c"),
        (False, True, True),
    )
    assert found.replies[1] == "I'm sorry, no" and found.prompts[2] == "why?" and found.wanted == ("refuse", "partly")
    assert found.annotators == {"annotation_1": (False, True, True), "annotation_2": (False, True, None)}


def test_labels_that_say_yes_or_no_need_no_explanation(tmp_path: Path) -> None:
    found = read_reply_labels(written(tmp_path, "text,label\none,1\ntwo,0\n"))
    assert found.labels == (True, False) and found.ids == ("row 1", "row 2") and found.prompts == ("", "")


NO_LABEL = r"no column of the usual names \(label, final_label, gold\); name it with `label`, one of text, mark"
BOB = LabelColumns(wanted=("refuse",), annotators=("bob",))
TWICE = r"labelled\.csv:3, field 'id': the id 'x' is that of line 2 too"
REFUSED = {
    "unclear labels": (ROWS, LabelColumns(), r"which labels mean yes\? name them with `wanted`; there are comply"),
    "no label": ("text,mark\na,1\nb,0\n", LabelColumns(), NO_LABEL),
    "no such column": (ROWS, LabelColumns(text="reply"), r"no column 'reply'; name it with `text`, one of id, prompt"),
    "no such annotator": (ROWS, BOB, "no column 'bob'; name it with `annotators`"),
    "one label only": ("text,label\na,1\nb,yes\n", LabelColumns(), "all 2 replies are labelled yes: .*check `wanted`"),
    "a label missing": ("text,label\na,1\nb,\n", LabelColumns(), r"labelled\.csv:3, field 'label': the label is empty"),
    "an id twice": ("id,text,label\nx,a,1\nx,b,0\n", LabelColumns(), TWICE),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_file_of_labelled_replies_is_refused_with_a_remedy(case: str, tmp_path: Path) -> None:
    text, columns, message = REFUSED[case]
    with pytest.raises(DataError, match=message):
        read_reply_labels(written(tmp_path, text), columns)


def test_a_wanted_label_that_no_reply_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"`wanted` refusal: a label of no reply; there are comply \(1\)"):
        read_reply_labels(written(tmp_path, ROWS), LabelColumns(wanted=("refusal",)))
