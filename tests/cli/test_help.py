"""The help and the options of all commands: panels, summaries, completion, quiet, log level, exit code zero."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from tillerman.cli.app import app
from tillerman.cli.panels import FIRST, PANELS, RUN, panel_name

ROOT = typer.main.get_command(app)
COMMANDS = sorted(ROOT.commands)
SMALL = ["--limit", "60", "--layers", "3", "--doses", "0.2", "--neutral", "sample:tinystories", "--max-kl", "0"]


def shown(*call, columns=100):
    """As a reader sees it, frames left out."""
    output = CliRunner().invoke(app, list(call), env={"COLUMNS": str(columns), "TERM": "dumb"}).output
    return " ".join(output.replace("│", " ").split())


def program(*call, **environment):
    """The program itself, as a shell starts it."""
    code = "import sys; sys.argv[0] = 'tillerman'; from tillerman.cli.app import main; main()"
    command = [sys.executable, "-c", code, *call]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def test_the_usual_options_of_fit_stand_first_and_the_rest_in_panels():
    page = CliRunner().invoke(app, ["fit", "--help"], env={"COLUMNS": "100", "TERM": "dumb"}).output
    heads = [line.strip("╭─╮ ") for line in page.splitlines() if line.startswith("╭─")]
    assert heads[:2] == ["Arguments", "Options"]
    assert {"Data", "Prompt", "Search", "Gate", "Model"} <= set(heads)
    assert heads[2:] == [*(name for name in [*PANELS, "Methods"] if name in heads), RUN]
    first = page[page.index("─ Options") : page.index("─ Data ─")]
    for option in ROOT.commands["fit"].params:
        if option.param_type_name == "option":
            spelt = max(option.opts, key=len)
            assert (f" {spelt} " in first) == (option.name in (*FIRST["fit"], "help")), spelt


def test_ten_options_of_fit_stand_first():
    assert len(FIRST["fit"]) == 10


@pytest.mark.parametrize("command", sorted(FIRST))
def test_panels_name_options_that_are_there(command):
    names = {one.name for one in ROOT.commands[command].params}
    assert set(FIRST[command]) <= names
    for one in ROOT.commands[command].params:
        if one.param_type_name == "option" and one.name not in ("help", *FIRST[command]):
            assert one.rich_help_panel, f"{command} {one.name}: put it into a panel in cli/panels.py"


def test_every_option_in_a_panel_is_one_of_some_command():
    there = {one.name for command in FIRST for one in ROOT.commands[command].params}
    assert {name for names in PANELS.values() for name in names} <= there
    assert panel_name("check", "layout") is None


@pytest.mark.parametrize("columns", [60, 80])
def test_every_command_has_its_whole_summary_in_the_list(columns):
    page = shown("--help", columns=columns)
    for name in COMMANDS:
        summary = (ROOT.commands[name].help or "").partition("\n\n")[0]
        assert " ".join(summary.split()) in page, name
        assert len(summary) <= 75, f"{name}: a summary is one short line"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_there_for_the_usual_shells(shell):
    assert "_TILLERMAN_COMPLETE=complete_" in program(_TILLERMAN_COMPLETE=f"source_{shell}").stdout


@pytest.mark.parametrize(
    ("words", "wanted"), [("tillerman export-", "export-task"), ("tillerman fit --max-tr", "--max-train")]
)
def test_completion_names_commands_and_options(words, wanted):
    last = str(len(words.split()) - 1)
    made = program(_TILLERMAN_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=last)
    assert made.stdout.split() == [wanted]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_quiet_and_has_a_log_level(command):
    names = {one.name for one in ROOT.commands[command].params}
    assert {"quiet", "log_level"} <= names


@pytest.mark.slow
def test_a_quiet_run_says_nothing_but_its_result_and_zero_is_the_exit_code_where_that_is_asked_for():
    call = ["compare", "sample:interest-in-science", "--methods", "caa", "--json", *SMALL]
    loud, quiet = program(*call), program(*call, "--quiet", "--exit-zero")
    assert (loud.returncode, quiet.returncode) == (3, 0)
    assert "80 % power" in loud.stderr
    assert "grid, caa: done" in loud.stderr
    assert "80 % power" not in quiet.stderr
    assert "done" not in quiet.stderr
    assert quiet.stdout.startswith("{")


@pytest.mark.slow
def test_an_error_is_said_also_to_those_who_want_quiet(tmp_path):
    done = program("check", str(tmp_path / "gone.csv"), "--quiet")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")


def test_a_log_level_is_set_for_the_libraries():
    assert CliRunner().invoke(app, ["check", "sample:bbq-age", "--log-level", "info"]).exit_code in (0, 1)
    assert logging.getLogger("transformers").level == logging.INFO
    assert CliRunner().invoke(app, ["check", "sample:bbq-age"]).exit_code in (0, 1)
    assert logging.getLogger("transformers").level == logging.ERROR
    error = CliRunner().invoke(app, ["check", "sample:bbq-age", "--log-level", "loud"]).exception
    assert "no log level named 'loud'" in str(error)


def test_one_seed_and_several_are_two_ways_to_say_it():
    error = CliRunner().invoke(app, ["fit", "sample:bbq-age", "--seed", "1", "--seeds", "1-3"]).exception
    assert "--seed and --seeds" in str(error)
