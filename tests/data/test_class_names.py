"""Classes stored as numbers with their names beside them: names are used, their order decides nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tillerman.core.errors import DataError
from tillerman.data.class_names import names_in
from tillerman.data.loading import load_examples

datasets = pytest.importorskip("datasets")


def made(names: list[str], rows: int = 60) -> object:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    columns = {"text": [f"{names[i % len(names)]} text {i}" for i in range(rows)]}
    return datasets.Dataset.from_dict({**columns, "label": [i % len(names) for i in range(rows)]}, features=features)


EMOTIONS = ["sadness", "joy", "love", "anger"]


@pytest.mark.parametrize("parquet", [False, True])
def test_a_class_is_named_by_its_name(tmp_path: Path, parquet: bool) -> None:
    source = made(EMOTIONS)
    if parquet:
        source.to_parquet(tmp_path / "x.parquet")  # type: ignore[attr-defined]
        source = tmp_path / "x.parquet"
    loaded = load_examples(source, positive_label="joy")  # type: ignore[arg-type]
    assert loaded.examples and all(e.options[0].startswith("joy") for e in loaded.examples)
    assert not any(e.options[1].startswith("joy") for e in loaded.examples)


@pytest.mark.parametrize("names", [["ham", "spam"], ["World", "Sports"], ["a", "b", "c"]])
def test_the_order_of_the_classes_decides_no_side(names: list[str]) -> None:
    with pytest.raises(DataError, match="positive") as caught:
        load_examples(made(names))  # type: ignore[arg-type]
    assert all(name in str(caught.value) for name in names)


@pytest.mark.parametrize("names", [["neg", "pos"], ["pos", "neg"], ["positive", "negative"]])
def test_names_that_say_a_side_decide_it_in_any_order(names: list[str]) -> None:
    loaded = load_examples(made(names))  # type: ignore[arg-type]
    assert all(e.options[0].startswith("pos") for e in loaded.examples)


def test_letters_as_class_names_are_answers_and_no_label_is_missing() -> None:
    features = datasets.Features(
        {
            "question": datasets.Value("string"),
            "choices": datasets.Sequence(datasets.Value("string")),
            "answer": datasets.ClassLabel(names=["A", "B"]),
        }
    )
    rows = {"question": ["Q1", "Q2"], "choices": [["x", "y"], ["x", "y"]], "answer": [1, -1]}
    loaded = load_examples(datasets.Dataset.from_dict(rows, features=features), skip_bad_rows=True)
    assert [e.answer for e in loaded.examples] == [1]
    assert "field 'answer': the label is empty" in loaded.skipped[0]


def test_names_are_found_in_lists_of_classes_and_nowhere_else() -> None:
    classes = {"names": ["a", "b"], "_type": "ClassLabel"}
    features = {"label": classes, "labels": {"feature": classes, "_type": "List"}, "text": {"_type": "Value"}, "odd": 3}
    assert names_in(features) == {"label": ("a", "b"), "labels": ("a", "b")}
    assert names_in(None) == {}
