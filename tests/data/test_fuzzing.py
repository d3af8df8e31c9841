"""Whatever a row or a file holds, reading it ends in examples or in one error that says where and why."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from tillerman.core.errors import DataError
from tillerman.data.layouts import LAYOUTS
from tillerman.data.loading import load_examples

from .fuzzing import VALUES, run, seeds

GOOD = seeds()
# What no skipping of rows can mend: one class is left, or the file can be read in two ways.
_OF_THE_FILE = re.compile("one class only|no pair|no prompt has both|which class|Say which|throughout|columns? ")
odd = st.one_of(
    st.sampled_from(VALUES),
    st.text(max_size=8),
    st.floats(),
    st.integers(),
    st.recursive(
        st.none() | st.booleans() | st.integers(-3, 9) | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
        max_leaves=6,
    ),
)


def test_every_layout_is_fuzzed() -> None:
    assert set(LAYOUTS) <= {load_examples(rows).layout for rows in GOOD.values()}


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
@settings(max_examples=40)
@given(st.data())
def test_an_odd_value_in_a_field_is_read_or_is_one_error_of_its_row(name: str, data: st.DataObject) -> None:
    rows = [dict(row) for row in GOOD[name] for _ in range(1 if len(GOOD[name]) > 4 else 3)]
    layout = load_examples(rows).layout
    at = data.draw(st.integers(0, len(rows) - 1))
    field = data.draw(st.sampled_from(sorted(rows[at])))
    value = data.draw(odd)
    rows[at] = (
        {key: old for key, old in rows[at].items() if key != field} if value is ... else {**rows[at], field: value}
    )
    try:
        loaded = load_examples(rows, layout=layout, skip_bad_rows=True)
    except DataError as error:
        assert _OF_THE_FILE.search(str(error)) and len(str(error)) <= 600, error
        return
    assert all(len(note) <= 600 and note.encode("utf-8") for note in loaded.skipped)
    try:
        load_examples(rows, layout=layout)
    except DataError as error:
        assert error.line is not None or error.field is not None or "class" in str(error) or "no pair" in str(error)
        if error.line is not None:
            assert error.line == at + 1


@pytest.mark.parametrize("name", GOOD)
def test_a_missing_field_is_an_error_of_its_row_that_can_be_skipped(name: str) -> None:
    rows: list[Any] = [dict(row) for row in GOOD[name] for _ in range(3)]
    layout = LAYOUTS[load_examples(rows).layout]
    last = rows[-1]
    for field in sorted(set(layout.columns(last).values()) - set(layout.optional)):
        bad = [*rows, {key: value for key, value in last.items() if key != field}]
        try:
            load_examples(bad, layout=layout.name)
        except DataError as error:
            assert error.line in (len(bad), None) or "missing" in str(error)
            load_examples(bad, layout=layout.name, skip_bad_rows=True)


@pytest.mark.slow
def test_five_hundred_mutants_of_rows_and_files_end_without_a_traceback(tmp_path: Path) -> None:
    counts, faults = run(500, 0, tmp_path)
    assert not faults, "\n".join(faults[:3])
    assert counts["read"] > 50 and counts["refused"] > 50


@pytest.mark.slow
def test_many_mutants_of_rows_and_files_end_without_a_traceback(tmp_path: Path) -> None:
    """About a minute; ``python -m tests.data.fuzzing --mutants N`` runs more."""
    counts, faults = run(6_000, 1, tmp_path)
    assert not faults, "\n".join(faults[:3])
    assert counts["read"] > 600 and counts["refused"] > 600
