"""One mistake, said in the words of the door it came through: fields in Python, flags on the command line."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import tillerman
from tillerman.cli.app import app
from tillerman.cli.flags import flag_of
from tillerman.core.errors import UsageError

SOURCE = Path(tillerman.__file__).parent
ROOT = typer.main.get_command(app)
SPELT = {name: {spelt for one in command.params for spelt in one.opts} for name, command in ROOT.commands.items()}
WRONG = [
    ({"max_kl": -1.0}, ["--max-kl", "-1"], "max_kl", "--max-kl", " -1.0: expected at least 0"),
    ({"answer_tokens": 0}, None, "answer_tokens", "--answer-tokens", " 0: expected at least 1"),
    ({"base_shots": -1}, None, "base_shots", "--on-shots", " -1: expected 0 or more"),
    (
        {"nested": 2, "base_shots": 1},
        ["--nested", "2", "--on-shots", "1"],
        "base_shots",
        "--on-shots",
        ": the base is made of training items",
    ),
]


@pytest.mark.parametrize(("fields", "call", "field", "flag", "words"), WRONG)
def test_an_experiment_that_cannot_be_names_fields_in_python_and_flags_on_the_command_line(
    fields, call, field, flag, words
):
    with pytest.raises(UsageError) as raised:
        tillerman.Experiment(**fields)
    assert f"`{field}`{words}" in str(raised.value)
    assert "--" not in str(raised.value)
    if call is not None:
        error = CliRunner().invoke(app, ["fit", "sample:mmlu", *call]).exception
        assert isinstance(error, UsageError)
        assert f"{flag}{words}" in str(error)
        assert "`" not in str(error)


@pytest.mark.parametrize("command", sorted(name for name, spelt in SPELT.items() if "--model" in spelt))
def test_a_command_that_opens_a_model_says_how(command):
    assert {"--dtype", "--device", "--device-map", "--quantize", "--revision", "--attention"} <= SPELT[command]


def texts(room):
    """Texts of a room's code that are no docstrings."""
    for path in sorted((SOURCE / room).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        bodies = [n.body for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)]
        docs = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                yield path, node.value


@pytest.mark.parametrize("room", ["studies", "recipes", "pipeline", "evaluation"])
def test_every_field_that_a_message_names_is_a_flag_somewhere(room):
    flags = set().union(*SPELT.values())
    for path, text in texts(room):
        for field in re.findall(r"`(\w+)`", text):
            spelt = {flag_of(command, field) for command in SPELT}
            assert spelt & flags, f"{path}: `{field}` is no option; say in cli/flags.py how it is spelt"


@pytest.mark.parametrize("room", ["studies", "recipes"])
def test_what_knows_no_command_line_speaks_of_no_flags(room):
    spoken = [(str(path), text) for path, text in texts(room) if re.search(r"(?<![\w-])--[a-z]", text)]
    assert spoken == []


def test_a_command_may_spell_a_field_in_its_own_way():
    assert (flag_of("compare", "method"), flag_of("fit", "method")) == ("--methods", "--method")
    assert flag_of("fit", "lora") in SPELT["fit"]
    assert flag_of("compare", "lora") in SPELT["compare"]
