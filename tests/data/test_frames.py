"""Frames of pandas, polars and pyarrow are read as the rows they hold, with the errors that files get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tillerman.core.errors import DataError
from tillerman.data.loading import as_loaded, load_examples

ROWS = [{"question": f"Is {k} even?", "choices": ["Yes", "No"], "answer": k % 2} for k in range(8)]
PLAIN = load_examples(ROWS)


def framed(library: str, rows: list[dict[str, Any]]) -> Any:
    module = pytest.importorskip(library)
    return module.Table.from_pylist(rows) if library == "pyarrow" else module.DataFrame(rows)


LIBRARIES = ("pandas", "polars", "pyarrow")


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_frame_is_the_same_examples_as_its_rows(library: str) -> None:
    loaded = load_examples(framed(library, ROWS))
    assert (loaded.examples, loaded.digest, loaded.layout) == (PLAIN.examples, PLAIN.digest, PLAIN.layout)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_bad_cell_of_a_frame_is_named_as_one_of_a_file_is(library: str, tmp_path: Path) -> None:
    rows = [*ROWS[:4], {**ROWS[4], "answer": None}, *ROWS[5:]]
    with pytest.raises(DataError, match="the label is empty or NaN") as raised:
        load_examples(framed(library, rows))
    assert (raised.value.line, raised.value.field) == (5, "answer")
    assert len(load_examples(framed(library, rows), skip_bad_rows=True).examples) == 7


def test_a_frame_is_read_whatever_its_index_and_the_types_of_its_columns() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"text": ["so good", "so bad", "fine", "poor"], "label": pandas.Categorical(["joy", "woe", "joy", "woe"])},
        index=[7, 7, 3, 1],
    )
    loaded = load_examples(frame, positive_label="joy")
    assert {example.options[example.answer] for example in loaded.examples} == {"so good", "fine"}


def test_two_columns_of_one_name_and_a_frame_without_rows_are_errors() -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(DataError, match="two columns have the same name: text"):
        load_examples(pandas.DataFrame([["a", "b", 1]], columns=["text", "text", "label"]))
    with pytest.raises(DataError, match="there are no rows"):
        load_examples(pandas.DataFrame({"text": [], "label": []}))


def test_classes_of_an_arrow_table_that_datasets_has_written_go_by_their_names() -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["woe", "joy"])})
    data = datasets.Dataset.from_dict(
        {"text": ["good", "bad", "fine", "poor"], "label": [1, 0, 1, 0]}, features=features
    )
    loaded = load_examples(data.data.table, positive_label="joy")
    assert loaded.examples == load_examples(data, positive_label="joy").examples


def test_loaded_data_stay_as_they_are() -> None:
    assert as_loaded(PLAIN) is PLAIN and as_loaded(ROWS).examples == PLAIN.examples
