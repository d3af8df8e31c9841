"""The tutorial's commands run as printed, in order, in an empty folder, with the outputs that it shows."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def walk() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_walk", ROOT / "tools/docs/walk.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_tutorial_shows_what_its_commands_print(walk: ModuleType, tmp_path: Path) -> None:
    page = walk.PAGE.read_text(encoding="utf-8")
    made = walk.walked(page, tmp_path)
    (tmp_path / "tutorial.md").write_text(made, encoding="utf-8")
    assert walk.same(page, made), f"docs/tutorial.md is stale; run 'make tutorial' or see {tmp_path}/tutorial.md"


@pytest.mark.slow
def test_the_commands_for_users_of_other_tools_run_as_printed(walk: ModuleType, tmp_path: Path) -> None:
    page = (ROOT / "docs/coming-from.md").read_text(encoding="utf-8")
    assert walk.walked(page, tmp_path) == page
    made = {path.name for path in tmp_path.iterdir()}
    assert {"science.safetensors", "back.safetensors", "for-easysteer.gguf", "axes"} <= made


def test_only_what_ci_runs_by_itself_is_left_out_of_the_walk(walk: ModuleType) -> None:
    page = walk.PAGE.read_text(encoding="utf-8")
    left = [block["text"] for block in walk._BLOCK.finditer(page) if block["kind"] == "not run"]
    assert len(re.findall("^```console$", page, re.M)) == len(list(walk._BLOCK.finditer(page))) > len(left)
    allowed = ("make demo", "make real-models", "python3.11 -m venv", ".venv/bin/", ". .venv/bin/activate")
    for text in left:
        assert all(command.text.startswith(allowed) for command in walk.commands(text)), text


def _block(text: str, mark: str = "") -> str:
    return f"Before.\n\n{mark}```console\n{text}```\n\nAfter.\n"


@pytest.mark.parametrize(
    ("mark", "output"),
    [
        ("", ""),
        ("<!-- shows: all -->\n", "1\n2\n3\n4\n"),
        ('<!-- shows: 2 from "2" -->\n', "...\n2\n3\n...\n"),
        ("<!-- shows: last 1 -->\n", "...\n4\n"),
    ],
)
def test_a_block_shows_what_its_mark_asks_for(walk: ModuleType, tmp_path: Path, mark: str, output: str) -> None:
    made = walk.walked(_block("$ seq 4\nstale\n", mark), tmp_path)
    assert made == _block(f"$ seq 4\n{output}", mark)
    assert walk.walked(made, tmp_path) == made


def test_commands_share_a_folder_and_may_hold_a_document(walk: ModuleType, tmp_path: Path) -> None:
    page = _block("$ cat > a.txt << 'END'\none\n\n$ two\nEND\n$ cat a.txt\n", "<!-- shows: all -->\n")
    assert walk.walked(page, tmp_path).endswith("$ cat a.txt\none\n\n$ two\n```\n\nAfter.\n")


def test_an_exit_code_is_shown_or_must_be_zero(walk: ModuleType, tmp_path: Path) -> None:
    mark = "<!-- shows: errors -->\n"
    made = walk.walked(_block("$ echo no >&2; exit 3\n$ echo $?\n0\n", mark), tmp_path)
    assert made == _block("$ echo no >&2; exit 3\nno\n$ echo $?\n3\n", mark)
    with pytest.raises(SystemExit, match="ends with 3"):
        walk.walked(_block("$ exit 3\n"), tmp_path)


def test_what_is_not_run_stays_and_what_cannot_be_shown_is_an_error(walk: ModuleType, tmp_path: Path) -> None:
    left = _block("$ touch made\nold\n", "<!-- not run: a reason -->\n")
    assert walk.walked(left, tmp_path) == left and not (tmp_path / "made").exists()
    with pytest.raises(SystemExit, match="no such line"):
        walk.walked(_block("$ seq 4\n", '<!-- shows: 1 from "seven" -->\n'), tmp_path)
    with pytest.raises(SystemExit, match="without a command"):
        walk.walked(_block("tillerman fit\n"), tmp_path)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("done in 5.1 s, 20 right", "done\nin 0.3 s,  20 right", True),
        ("+30.4 pp", "+30.5 pp", True),
        ("+30.4 pp", "+33.4 pp", False),
        ("+3.0 pp", "−3.0 pp", False),
        ("3 items", "3 rows", False),
        ("3 items", "3 items 4", False),
    ],
)
def test_pages_are_the_same_but_for_times_and_rounding(walk: ModuleType, one: str, other: str, same: bool) -> None:
    assert walk.same(one, other) is same
