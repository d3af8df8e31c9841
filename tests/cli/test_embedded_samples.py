"""``tillerman samples`` lists the embedded samples and writes one as a file that every command takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tillerman
from tillerman.cli.app import app
from tillerman.core.errors import UnknownNameError, UsageError
from tillerman.core.row_files import ROW_FILES
from tillerman.data.samples import SAMPLES, sample_rows, sample_texts


def _run(*words: str) -> str:
    done = CliRunner().invoke(app, ["samples", *words])
    assert done.exit_code == 0, done.exception
    return done.stdout


@pytest.mark.slow
def test_all_samples_are_listed_with_their_sizes() -> None:
    assert [row["name"] for row in json.loads(_run("--json"))] == list(SAMPLES)
    assert all(name in _run() for name in SAMPLES)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ROW_FILES)
@pytest.mark.parametrize("name", [name for name, sample in SAMPLES.items() if sample.kind != "neutral"])
def test_a_sample_as_a_file_holds_the_same_examples(name: str, ending: str, tmp_path: Path) -> None:
    said = _run(name, "--out", str(tmp_path / f"mine{ending}"))
    assert said.endswith(f"({SAMPLES[name].items} items)\n")
    read = tillerman.load_examples(tmp_path / f"mine{ending}")
    assert read.examples == tillerman.load_examples(f"sample:{name}").examples


def test_a_limit_takes_the_same_rows_every_time_and_more_of_them_hold_the_fewer() -> None:
    few, more = sample_rows("risk-seeking", 10), sample_rows("risk-seeking", 30)
    assert (len(few), len(more)) == (10, 30)
    assert set(few) < set(more) < set(sample_rows("risk-seeking"))


def test_neutral_text_is_written_as_text(tmp_path: Path) -> None:
    _run("tinystories", "--out", str(tmp_path / "stories.txt"), "--limit", "3")
    text = (tmp_path / "stories.txt").read_text(encoding="utf-8")
    assert sum(story in text for story in sample_texts("tinystories")) == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--limit", "3"], "name it"),
        (["risk-seeking"], "--out risk-seeking.jsonl"),
        (["risk-seeking", "--out", "mine.xlsx"], "written as .jsonl, .csv, .parquet"),
        (["risk-seeking", "--out", "no folder/x.jsonl"], "does not exist"),
    ],
)
def test_what_is_missing_is_said(words: list[str], says: str) -> None:
    error = CliRunner().invoke(app, ["samples", *words]).exception
    assert isinstance(error, UsageError) and says in str(error)


def test_an_unknown_sample_is_an_error_with_the_names(tmp_path: Path) -> None:
    error = CliRunner().invoke(app, ["samples", "art", "--out", str(tmp_path / "x.jsonl")]).exception
    assert isinstance(error, UnknownNameError) and "interest-in-art" in str(error)
