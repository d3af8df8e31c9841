"""Labelled texts: pairs of a positive and a negative text."""

from __future__ import annotations

from pathlib import Path

import pytest

from tillerman.core.errors import DataError, UsageError
from tillerman.data.loading import load_examples
from tillerman.data.splits import normalised, split_of
from tillerman.data.texts import LabelledText, pair_texts

TEXTS = [LabelledText(f"{'good' if i % 2 else 'bad'} film number {i}", bool(i % 2)) for i in range(200)]


def test_a_pair_is_a_positive_and_a_negative_text_of_one_share() -> None:
    pairs = pair_texts(TEXTS).examples
    assert len(pairs) > 80
    for pair in pairs:
        assert pair.answer == 0 and pair.options[0].startswith("good") and pair.options[1].startswith("bad")
        assert split_of(pair.options[0]) == split_of(pair.options[1])


def test_no_text_is_used_twice_and_all_are_accounted_for() -> None:
    pairs = pair_texts(TEXTS)
    used = [normalised(text) for pair in pairs.examples for text in pair.options]
    assert len(set(used)) == len(used)
    assert len(used) + pairs.leftover == len(TEXTS)


def test_the_order_of_the_rows_does_not_matter() -> None:
    assert pair_texts(TEXTS).examples == pair_texts(TEXTS[::-1]).examples


def test_repeated_and_contradictory_texts_are_counted_and_left_out() -> None:
    more = [*TEXTS, TEXTS[1], LabelledText(TEXTS[3].text.upper(), False)]
    pairs = pair_texts(more)
    assert (pairs.repeated, pairs.contradictory) == (2, 1)
    assert all(TEXTS[3].text not in pair.options for pair in pairs.examples)


@pytest.mark.parametrize(("text", "name"), [("text", "labelled-text"), ("sentence", "labelled-sentence")])
def test_labelled_files_become_pairs_and_say_what_was_left_out(tmp_path: Path, text: str, name: str) -> None:
    path = tmp_path / "films.tsv"
    path.write_text(f"{text}\tlabel\n" + "".join(f"{t.text}\t{int(t.label)}\n" for t in TEXTS), encoding="utf-8")
    loaded = load_examples(path)
    assert loaded.layout == name
    assert {e.kind for e in loaded.examples} == {"text"}
    assert any("without a partner" in note for note in loaded.skipped)


def test_a_class_can_be_named_as_the_positive_one() -> None:
    rows = [{"text": f"text {i}", "label": ("joy", "fear", "anger")[i % 3]} for i in range(90)]
    loaded = load_examples(rows, positive_label="fear")
    assert all(int(e.options[0].split()[1]) % 3 == 1 for e in loaded.examples)
    with pytest.raises(DataError, match=r"no row has the label 'envy'; found 'joy' \(30\)"):
        load_examples(rows, positive_label="envy")


def test_a_number_names_a_class_whatever_its_type() -> None:
    rows = [{"text": f"text {i}", "label": float(i % 3)} for i in range(90)]
    loaded = load_examples(rows, positive_label="2")
    assert all(int(e.options[0].split()[1]) % 3 == 2 for e in loaded.examples)


def test_a_positive_label_for_other_data_is_refused() -> None:
    with pytest.raises(UsageError, match="positive_label is for labelled texts"):
        load_examples([{"question": "Q", "options": ["a", "b"], "answer": 0}], positive_label="a")
