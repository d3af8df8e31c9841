"""Published outcomes as tables: a column or a file per condition, and what is refused with a remedy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tillerman.core.errors import DataError, UsageError
from tillerman.data.outcomes import OutcomeColumns, read_outcomes

WIDE = "id,unsteered,cache,note\na,0,1,x\nb,1,1,y\nc,0,0,z\n"


def written(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_column_per_condition_is_read_and_columns_of_text_are_named(tmp_path: Path) -> None:
    (table,) = read_outcomes([written(tmp_path, "arc.csv", WIDE)])
    assert (table.name, table.keys, table.graded, table.unused) == ("arc", ("a", "b", "c"), False, ("note",))
    assert table.baseline.tolist() == [0, 1, 0] and table.conditions["cache"].tolist() == [1, 1, 0]
    assert list(table.digests) == [f"{tmp_path.name}/arc.csv"]


def test_a_file_per_condition_is_paired_by_its_ids_whatever_their_order(tmp_path: Path) -> None:
    first = written(
        tmp_path, "a.jsonl", "\n".join(json.dumps({"id": k, "right": k != 1, "reply": "t"}) for k in range(4))
    )
    second = written(tmp_path, "b.jsonl", "\n".join(json.dumps({"id": k, "right": k == 3}) for k in (3, 1, 0, 2)))
    (table,) = read_outcomes([f"unsteered={first}", f"steered={second}"])
    assert table.keys == ("0", "1", "2", "3") and table.has_ids
    assert table.baseline.tolist() == [1, 0, 1, 1] and table.conditions["steered"].tolist() == [0, 0, 0, 1]


def test_files_without_ids_are_paired_by_their_order(tmp_path: Path) -> None:
    first, second = written(tmp_path, "a.csv", "score\n1.5\n2\n3\n"), written(tmp_path, "b.csv", "score\n2\n2\n1\n")
    (table,) = read_outcomes([f"base={first}", f"new={second}"], OutcomeColumns("base"))
    assert table.graded and not table.has_ids and table.keys == ("row 1", "row 2", "row 3")
    assert (table.conditions["new"] - table.baseline).tolist() == [0.5, 0.0, -2.0]


def test_parquet_is_read_like_the_rest(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = {"id": ["a", "b"], "unsteered": [True, False], "cache": [True, True]}
    parquet.write_table(arrow.table(rows), tmp_path / "t.parquet")
    (table,) = read_outcomes([str(tmp_path / "t.parquet")])
    assert table.baseline.tolist() == [1, 0] and table.conditions["cache"].tolist() == [1, 1]


def test_a_file_without_a_condition_asked_for_is_kept_if_another_has_it(tmp_path: Path) -> None:
    one = written(tmp_path, "one.csv", "unsteered,cache\n1,0\n0,0\n")
    two = written(tmp_path, "two.csv", "unsteered,other\n1,0\n0,0\n")
    tables = read_outcomes([one, two], OutcomeColumns(conditions=("cache",)))
    assert [list(table.conditions) for table in tables] == [["cache"], []]


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
    files = [written(tmp_path / name, "arc.csv", WIDE) for name in ("x", "y")]
    assert [table.name for table in read_outcomes(files)] == ["x/arc", "y/arc"]


def test_zero_and_one_are_scores_where_the_caller_says_so(tmp_path: Path) -> None:
    file = written(tmp_path, "a.csv", "unsteered,judge\n0,2\n1,1\n")
    (table,) = read_outcomes([file], OutcomeColumns(graded=True))
    assert table.graded and np.array_equal(table.conditions["judge"], [2, 1])


REFUSED = {
    "no baseline": (
        "id,a\n1,0\n2,1\n",
        r"no column 'unsteered' to compare with; name the baseline with `baseline`, one of id, a",
    ),
    "no condition": ("id,unsteered\n1,0\n2,1\n", "no column of outcomes beside 'unsteered'"),
    "one row": ("unsteered,a\n1,0\n", "1 row: a paired test wants at least 2"),
    "an id twice": ("id,unsteered,a\nx,1,0\nx,0,0\n", r"bad\.csv:3, field 'id': the id 'x' is that of line 2 too"),
    "an id missing": ("id,unsteered,a\nx,1,0\n,0,0\n", r"bad\.csv:3, field 'id': no id; give every row one"),
    "a value missing": ("id,unsteered,a\nx,1,0\ny,0,\n", r"bad\.csv:3, field 'a': no value; write 0 where no answer"),
    "a value that is not one": (
        "id,unsteered,a\nx,1,0\ny,0,wrong\n",
        r"bad\.csv:3, field 'a': expected 0 or 1.*got 'wrong'",
    ),
    "not a number": ("id,unsteered,a\nx,1,0\ny,0,nan\n", r"bad\.csv:3, field 'a': no value"),
    "a column that is no outcome": (
        "unsteered,length\n1,40\n0,12\n",
        r"field 'length': holds 40.*`conditions`, or say with `graded`",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_paired_is_refused_with_its_place_and_a_remedy(case: str, tmp_path: Path) -> None:
    text, message = REFUSED[case]
    with pytest.raises(DataError, match=message):
        read_outcomes([written(tmp_path, "bad.csv", text)])


def test_files_with_other_items_are_refused_by_number_and_example(tmp_path: Path) -> None:
    first = written(tmp_path, "a.csv", "id,right\nx,1\ny,0\n")
    second = written(tmp_path, "b.csv", "id,right\nx,1\nz,0\n")
    with pytest.raises(DataError, match=r"other items than .*a\.csv: 1 missing, 1 more \(lacks 'y'\).*cut the files"):
        read_outcomes([f"unsteered={first}", f"new={second}"])
    longer = written(tmp_path, "e.csv", "id,right\nx,1\ny,0\nz,0\n")
    with pytest.raises(DataError, match=r"0 missing, 1 more \(has 'z' besides\)"):
        read_outcomes([f"unsteered={first}", f"new={longer}"])
    short = written(tmp_path, "c.csv", "right\n1\n0\n1\n")
    with pytest.raises(DataError, match=r"no column 'id', which other files have"):
        read_outcomes([f"unsteered={first}", f"new={short}"])
    plain = written(tmp_path, "d.csv", "right\n1\n0\n")
    with pytest.raises(DataError, match=r"3 rows, and 2 in .*d\.csv: rows without ids are paired by their order"):
        read_outcomes([f"unsteered={plain}", f"new={short}"])


def test_the_column_of_outcomes_is_asked_for_where_several_hold_numbers(tmp_path: Path) -> None:
    text = "right,tokens\n1,30\n0,20\n"
    files = [f"{name}={written(tmp_path, f'{name}.csv', text)}" for name in ("unsteered", "new")]
    with pytest.raises(DataError, match="several columns hold numbers: right, tokens; name that of the outcomes"):
        read_outcomes(files)
    (table,) = read_outcomes(files, OutcomeColumns(value="right"))
    assert not table.graded
    with pytest.raises(DataError, match="no column 'score'; `value` is one of right, tokens"):
        read_outcomes(files, OutcomeColumns(value="score"))


def test_names_that_are_not_there_and_forms_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    file = written(tmp_path, "arc.csv", WIDE)
    with pytest.raises(UsageError, match="`conditions` cach: a column of no file; found cache, note"):
        read_outcomes([file], OutcomeColumns(conditions=("cach",)))
    with pytest.raises(UsageError, match="`conditions` unsteered: the baseline itself"):
        read_outcomes([file], OutcomeColumns(conditions=("unsteered",)))
    with pytest.raises(DataError, match="no column 'key' of ids; `id` is one of id, unsteered, cache, note"):
        read_outcomes([file], OutcomeColumns(id="key"))
    with pytest.raises(UsageError, match="given twice"):
        read_outcomes([file, file])
    with pytest.raises(UsageError, match="files and NAME=FILE together"):
        read_outcomes([file, f"new={file}"])
    with pytest.raises(UsageError, match="no file named unsteered= to compare with"):
        read_outcomes([f"old={file}", f"new={file}"])
    with pytest.raises(UsageError, match="`value` names the column of outcomes where each condition has a file"):
        read_outcomes([file], OutcomeColumns(value="cache"))
    with pytest.raises(UsageError, match="no FILES"):
        read_outcomes([])
