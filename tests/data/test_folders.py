"""What of a folder is read: its files, a hub repository's splits, a saved dataset, a pair of text files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tillerman.core.errors import DataError
from tillerman.data.loading import load_examples

ROWS = [{"prompt": f"How is it, {i}?", "chosen": "Lovely, it is.", "rejected": "Dreadful."} for i in range(20)]


def save(path: Path, rows: list[dict[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def texts(
    folder: Path, positive: str, negative: str, names: tuple[str, str] = ("positive.txt", "negative.txt")
) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in zip(names, (positive, negative), strict=True):
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_a_hub_folder_is_read_from_below(tmp_path: Path) -> None:
    save(tmp_path / "films/data/train-00000-of-00002.jsonl", ROWS[:9])
    save(tmp_path / "films/data/train-00001-of-00002.jsonl", ROWS[9:])
    (tmp_path / "films/README.md").write_text("about", encoding="utf-8")
    (tmp_path / "films/dataset_infos.json").write_text("{}", encoding="utf-8")
    loaded = load_examples(tmp_path / "films")
    assert (loaded.name, len(loaded.examples)) == ("films", 20)


def test_the_splits_of_a_hub_folder_are_named_and_one_is_chosen(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    folder = tmp_path / "films"
    (folder / "data").mkdir(parents=True)
    for split, rows in (("train", ROWS[:15]), ("test", ROWS[15:])):
        parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "data" / f"{split}-00000-of-00001.parquet")
    with pytest.raises(DataError, match=r"several splits: test, train; choose, .*films:rows=test or .*/data/test"):
        load_examples(folder)
    assert len(load_examples(f"{folder}:rows=train").examples) == 15
    assert len(load_examples(f"{folder}/data/test*.parquet").examples) == 5
    with pytest.raises(DataError, match="rows=dev: no such split; found test, train"):
        load_examples(f"{folder}:rows=dev")


def test_several_folders_of_data_are_named(tmp_path: Path) -> None:
    save(tmp_path / "hub/english/train.jsonl", ROWS)
    save(tmp_path / "hub/german/train.jsonl", ROWS)
    with pytest.raises(DataError, match=r"one folder down, in english \(1 files\), german \(1 files\)") as caught:
        load_examples(tmp_path / "hub")
    pattern = str(caught.value).rsplit("e.g. ", 1)[1]
    assert len(load_examples(pattern).examples) == 20


def test_a_saved_dataset_is_read_and_of_a_saved_dict_the_split_that_is_chosen(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    saved = datasets.Dataset.from_list(ROWS)
    saved.save_to_disk(str(tmp_path / "films"), num_shards=3)
    loaded = load_examples(tmp_path / "films")
    assert (loaded.name, len(loaded.examples)) == ("films", 20)
    assert loaded.examples[0].question == ROWS[0]["prompt"]
    (tmp_path / "films" / "data-00001-of-00003.arrow").unlink()
    with pytest.raises(DataError, match=r"a saved dataset without its data-00001-of-00003\.arrow"):
        load_examples(tmp_path / "films")

    datasets.DatasetDict(train=saved, test=saved.select(range(5))).save_to_disk(str(tmp_path / "both"))
    with pytest.raises(DataError, match=r"several splits: train, test; choose, .*both:rows=train or .*both/train"):
        load_examples(tmp_path / "both")
    assert len(load_examples(f"{tmp_path / 'both'}:rows=test").examples) == 5
    assert len(load_examples(tmp_path / "both" / "train").examples) == 20


def test_a_selection_of_a_dataset_is_saved_and_read_as_selected(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(ROWS).select([3, 1, 4]).save_to_disk(str(tmp_path / "some"))
    assert [e.question for e in load_examples(tmp_path / "some").examples] == [ROWS[i]["prompt"] for i in (3, 1, 4)]


def test_two_text_files_are_pairs_where_they_are_of_one_length(tmp_path: Path) -> None:
    folder = texts(tmp_path / "cheer", "Lovely.\n\nA fine day.\n", "Dreadful.\nA grey day.")
    loaded = load_examples(folder)
    assert (loaded.layout, loaded.name) == ("text-pair", "cheer")
    assert [e.options for e in loaded.examples] == [("Lovely.", "Dreadful."), ("A fine day.", "A grey day.")]


def test_two_text_files_are_labelled_texts_where_they_are_not(tmp_path: Path) -> None:
    positive = "".join(f"Lovely, {i}.\n" for i in range(30))
    negative = "".join(f"Dreadful, {i}.\n" for i in range(29))
    loaded = load_examples(texts(tmp_path / "cheer", positive, negative, ("pos.txt", "neg.txt")))
    assert loaded.layout == "labelled-text" and len(loaded.examples) > 10
    assert all(e.options[0].startswith("Lovely") and e.options[1].startswith("Dreadful") for e in loaded.examples)


def test_an_escaped_line_break_is_read_as_the_user_says(tmp_path: Path) -> None:
    folder = texts(tmp_path / "cheer", "<|user|>\\nHi\nplain\n", "<|user|>\\nGo\nother\n")
    with pytest.raises(DataError, match=r"positive\.txt:1: \\n may be a line break, as llama\.cpp reads it"):
        load_examples(folder)
    assert load_examples(f"{folder}:escapes=true").examples[0].options == ("<|user|>\nHi", "<|user|>\nGo")
    assert load_examples(f"{folder}:escapes=false").examples[0].options == ("<|user|>\\nHi", "<|user|>\\nGo")


def test_a_folder_of_other_texts_is_told_which_names_make_a_pair(tmp_path: Path) -> None:
    texts(tmp_path / "moods", "a\n", "b\n", ("happy.txt", "sad.txt"))
    with pytest.raises(DataError, match=r"of the texts in happy\.txt, sad\.txt make positive\.txt and negative\.txt"):
        load_examples(tmp_path / "moods")


def test_an_empty_text_file_of_a_pair_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"negative\.txt: the file is empty"):
        load_examples(texts(tmp_path / "cheer", "a\n", "\n"))
