"""``--samples`` writes every test item, and complains before any work is done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tillerman.cli.app import app
from tillerman.cli.output import Destination
from tillerman.core.errors import UsageError

from ..reports.example_log import ITEMS, example_log


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--samples", "-"], "give --json too"),
        (["--samples", "items.xlsx"], "written as .jsonl, .csv, .parquet"),
        (["--samples", "nowhere/items.csv"], "the folder nowhere does not exist"),
    ],
)
def test_what_cannot_be_written_is_said_first(options: list[str], says: str) -> None:
    for command in (["fit", "no such data"], ["eval", "no.safetensors", "no such data"]):
        error = CliRunner().invoke(app, [*command, *options]).exception
        assert isinstance(error, UsageError) and says in str(error)


def test_items_go_into_their_file_and_the_terminal_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "items.jsonl"
    Destination(samples=str(path)).show(example_log())
    assert len(path.read_text(encoding="utf-8").splitlines()) == len(ITEMS)
    assert "samples:" in capsys.readouterr().out


def test_items_go_into_the_json_where_asked(capsys: pytest.CaptureFixture[str]) -> None:
    for samples, there in (("-", True), (None, False)):
        Destination(samples=samples, as_json=True).show(example_log())
        assert ("items" in json.loads(capsys.readouterr().out)) == there
