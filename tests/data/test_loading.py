"""What loading adds to the rows: name, digest, limit, prompt, folders and samples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tillerman.core.errors import DataError, UnknownNameError, UsageError
from tillerman.data.loading import load_examples
from tillerman.data.samples import SAMPLES, sample_path, sample_texts
from tillerman.data.splits import split_of

from .shared import shared_data

LABELLED = [name for name, sample in SAMPLES.items() if sample.kind != "neutral"]
ROWS = [{"question": f"Question {i}?", "options": ["a", "b"], "answer": i % 2} for i in range(40)]


def save(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("interest-in-science.jsonl", "interest-in-science"),
        ("sycophancy/generate_dataset.json", "sycophancy"),
        ("hallucination/test_dataset_ab.json", "hallucination"),
        ("films/train.jsonl", "films"),
        ("v1.2.jsonl", "v1.2"),
    ],
)
def test_the_name_says_what_the_data_are_about(tmp_path: Path, path: str, name: str) -> None:
    assert load_examples(save(tmp_path / path, ROWS)).name == name


def test_the_digest_follows_the_items_not_the_file(tmp_path: Path) -> None:
    plain = load_examples(save(tmp_path / "x.jsonl", ROWS))
    (tmp_path / "y.json").write_text(json.dumps(ROWS), encoding="utf-8")
    assert load_examples(tmp_path / "y.json").digest == plain.digest == load_examples(ROWS).digest
    other = [{**row, "answer": 1 - int(str(row["answer"]))} for row in ROWS]
    assert load_examples(other).digest != plain.digest


def test_the_limit_takes_a_fair_share_whatever_the_order() -> None:
    some = load_examples(ROWS, limit=10).examples
    assert len(some) == 10
    assert load_examples(ROWS[::-1], limit=10).examples == some
    assert {e.answer for e in some} == {0, 1}
    with pytest.raises(UsageError, match="at least 1"):
        load_examples(ROWS, limit=0)


def test_a_folder_or_a_pattern_is_read_as_one(tmp_path: Path) -> None:
    save(tmp_path / "family/a.jsonl", ROWS[:20])
    save(tmp_path / "family/b.jsonl", ROWS[20:])
    (tmp_path / "family/README.md").write_text("no data", encoding="utf-8")
    folder = load_examples(tmp_path / "family")
    assert (folder.name, len(folder.examples)) == ("family", 40)
    assert load_examples(str(tmp_path / "family/*.jsonl")).examples == folder.examples


@pytest.mark.parametrize("name", LABELLED)
def test_every_sample_is_what_its_row_says(name: str) -> None:
    loaded = load_examples(f"sample:{name}")
    sample = SAMPLES[name]
    assert len(loaded.examples) == sample.items and not loaded.skipped
    assert {e.kind for e in loaded.examples} == {sample.kind}
    assert loaded.name == name
    folder = sample_path(name).parent
    assert (folder / "LICENSE").is_file() and (folder / "ATTRIBUTION.md").is_file()


def test_an_unknown_sample_lists_the_samples() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'interest-in-science'"):
        load_examples("sample:interest-in-sciense")


@pytest.mark.parametrize("name", ["tinystories", "wikitext"])
def test_neutral_samples_are_texts_without_labels(name: str) -> None:
    texts = sample_texts(name)
    assert len(texts) == SAMPLES[name].items and sum(map(len, texts)) > 30_000
    with pytest.raises(DataError, match="neutral text"):
        load_examples(f"sample:{name}")
    with pytest.raises(DataError, match="labelled items"):
        sample_texts("bbq-age")


def test_the_embedded_model_never_saw_the_stories() -> None:
    """Its training kept only stories that are not in the test share, before empty lines were removed."""
    raw = {s.replace("\n\n", "\n"): s for s in map(str.strip, _stories())}
    assert all(split_of(raw.get(story, story)) == "test" for story in sample_texts("tinystories"))


def _stories() -> list[str]:
    stories: list[str] = json.loads(shared_data("lm_text/tinystories_1000.json").read_text(encoding="utf-8"))
    return stories


def test_a_sample_of_a_persona_is_the_whole_file() -> None:
    ours = load_examples("sample:interest-in-science")
    assert load_examples(shared_data("anthropic_evals/persona/interest-in-science.jsonl.gz")).digest == ours.digest


def test_the_samples_stay_small() -> None:
    folder = sample_path("bbq-age").parents[1]
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 700_000


def test_short_fields_that_no_layout_reads_stay_with_the_item_and_change_nothing_else(tmp_path: Path) -> None:
    row = {
        "question": "Is it so?",
        "statement": "x",
        "answer_matching_behavior": " Yes",
        "answer_not_matching_behavior": " No",
    }
    rows = [{**row, "question": f"{k} so?", "topic": "ab"[k % 2], "level": k, "note": "long " * 20} for k in range(4)]
    for answers, k in ((("Yes", "No"), 0), (("No", "Yes"), 1)):
        rows[k] |= {f"answer_{name}matching_behavior": f" {a}" for name, a in zip(("", "not_"), answers, strict=True)}
    with_fields, without = tmp_path / "with.jsonl", tmp_path / "without.jsonl"
    with_fields.write_text("\n".join(map(json.dumps, rows)))
    without.write_text("\n".join(json.dumps({name: r[name] for name in row}) for r in rows))
    first, second = load_examples(with_fields), load_examples(without)
    assert [e.extra["topic"] for e in first.examples] == ["a", "b", "a", "b"]
    huge = load_examples([{**one, "level": 10**5000} for one in rows])
    assert all("level" not in e.extra for e in huge.examples)  # Python writes no such number
    assert first.examples[1].extra["level"] == "1" and "note" not in first.examples[0].extra
    assert first.examples == second.examples and first.digest == second.digest
