"""Nothing but our own lines reaches the terminal, and no command imports what it does not need."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest

import tillerman

from .. import tiny

# The command line in a process of its own, which tells at its end what it has imported.
_PROGRAM = """
import atexit, json, os, sys
from tillerman.cli.app import main
names = ("torchao", "peft", "bitsandbytes", "gguf", "pandas", "sklearn", "datasets", "matplotlib")
found = lambda: [name for name in names if sys.modules.get(name) is not None]
atexit.register(lambda: json.dump(found(), open(os.environ["IMPORTED"], "w")))
main()
"""


def _run(tmp_path, *arguments):
    """Exit code, output, error stream, and what of the optional libraries was imported."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHONWARN")}
    environment["IMPORTED"] = str(tmp_path / "imported.json")
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *map(str, arguments)], capture_output=True, text=True, env=environment
    )
    return done.returncode, done.stdout, done.stderr, json.loads((tmp_path / "imported.json").read_text())


def _but_progress(err):
    return [line for line in err.splitlines() if line and not re.fullmatch(r"[\w ,:]+: (done|\d+ %), .*", line)]


@pytest.fixture
def folder(tmp_path):
    tiny.new_model().save_pretrained(tmp_path / "model")
    tiny.new_tokenizer(tiny.CHAT).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is not installed: make test installs it")
def test_a_command_shows_our_lines_only_and_imports_no_library_that_it_does_not_need(folder, tmp_path):
    code, out, err, imported = _run(tmp_path, "check", "sample:risk-seeking", "--limit", "12", "--model", folder)
    assert code == 0, err
    assert "12" in out
    assert _but_progress(err) == [f"{folder}: float32 on cpu (a small model)"]
    assert imported == []


@pytest.mark.slow
@pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is not installed: make test installs it")
@pytest.mark.parametrize(("packed", "library"), [("int8", "torchao"), ("nf4", "bitsandbytes")])
def test_a_library_that_is_needed_is_found_and_does_not_speak_either(folder, tmp_path, packed, library):
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed: make test installs it")
    asked = ("check", "sample:risk-seeking", "--limit", "12", "--model", folder, "--quantize", packed)
    code, _, err, imported = _run(tmp_path, *asked)
    assert code == 0, err
    assert _but_progress(err) == [f"{folder}: float32 with {packed} weights on cpu (a small model)"]
    assert imported == [library]


@pytest.mark.slow
def test_errors_of_opening_speak_of_flags(folder, tmp_path):
    code, _, err, _ = _run(tmp_path, "check", "sample:risk-seeking", "--model", folder, "--revision", "main")
    assert code == 2
    assert err.replace("\n", " ").startswith(f"error: --revision main: {folder} is not on the hub")


def test_the_module_is_the_command(tmp_path):
    """Where the script is not on the path, or another environment's comes first."""
    ran = [
        subprocess.run(program, capture_output=True, text=True, cwd=tmp_path)
        for program in (
            [sys.executable, "-m", "tillerman", "--version"],
            [sys.executable, "-m", "tillerman", "methodz"],
        )
    ]
    assert [one.returncode for one in ran] == [0, 2] and ran[0].stdout == f"tillerman {tillerman.__version__}\n"
