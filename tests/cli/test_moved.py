"""An old spelling is an error that names the new one."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from tillerman.cli import parsing
from tillerman.cli.app import app
from tillerman.cli.moved import MOVED, Moved, check_moved
from tillerman.core.errors import UsageError

TABLE = (
    Moved("--cold-keep", "--method cold-fd:keep=0.05", ("fit", "compare")),
    Moved("lineup", "tillerman compare DATA"),
)


@pytest.mark.parametrize("call", [["--cold-keep", "0.1"], ["--cold-keep=0.1"], ["--seed", "1", "--cold-keep"]])
def test_an_old_flag_names_what_to_write_instead(call):
    with pytest.raises(UsageError, match=r"--cold-keep is gone; write: --method cold-fd:keep=0\.05"):
        check_moved(["fit", "data.csv", *call], TABLE)


def test_an_old_command_names_the_new_one():
    with pytest.raises(UsageError, match="lineup is gone; write: tillerman compare DATA"):
        check_moved(["lineup", "data.csv"], TABLE)


@pytest.mark.parametrize(
    "call",
    [
        [],
        ["fit"],
        ["show", "--cold-keep"],
        ["fit", "--", "--cold-keep"],
        ["fit", "--cold-keeper", "1"],
        ["fit", "lineup"],
    ],
)
def test_what_is_no_old_spelling_passes(call):
    check_moved(call, TABLE)


def test_the_program_looks_before_it_parses(monkeypatch):
    monkeypatch.setattr(parsing, "check_moved", lambda arguments: check_moved(arguments, TABLE))
    error = CliRunner().invoke(app, ["fit", "--cold-keep", "0.1"]).exception
    assert isinstance(error, UsageError)
    assert "is gone" in str(error)


@pytest.mark.parametrize("moved", MOVED, ids=lambda moved: f"{moved.old} {' '.join(moved.commands)}")
def test_what_has_moved_is_really_gone(moved):
    """Else the table would refuse what the program still takes."""
    for command in moved.commands:
        taken = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "400"}).output
        assert moved.old not in taken.split()
