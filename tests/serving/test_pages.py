"""The pages about serving: their examples run, their commands parse, and every threat has its test."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from tillerman.cli.app import app
from tillerman.serving.refusals import CODES
from tillerman.serving.settings import read_settings

from . import made

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("docs/serving.md", "docs/security.md", "docs/operations.md", "docs/fleet.md")


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def commands(program: str) -> list[list[str]]:
    lines = [line for page in PAGES for block in blocks(page, "console") for line in block.splitlines()]
    return [shlex.split(line.removeprefix("$ ")) for line in lines if line.startswith(f"$ {program} ")]


def test_every_threat_names_a_test_that_there_is() -> None:
    page = (ROOT / "docs/security.md").read_text().partition("## Threats")[2].partition("## What is not")[0]
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 25
    for threat, _, tested in rows:
        file, _, name = tested.strip(" `").partition("::")
        nodes = ast.walk(ast.parse((ROOT / "tests" / file).read_text()))
        assert name in {node.name for node in nodes if isinstance(node, ast.FunctionDef)}, (
            f"{threat}: no {name} in {file}"
        )


def test_the_examples_in_python_and_of_curl_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    door = made.opened(tmp_path, audited=False)
    library = {name: replace(made.usual()["calm"], name=name) for name in ("interest-in-science", "conscientiousness")}
    door.name, door.rules = (
        "pilot",
        made.make_rules(made.Shelf(library), door.rules.settings, door.prompts, door.engine),
    )
    with made.listening(door) as url:
        for example in blocks("docs/serving.md", "python"):
            here: dict[str, object] = {}
            exec(compile(example.replace("http://127.0.0.1:8000", url), "docs/serving.md", "exec"), here)
        told = capsys.readouterr().out
        assert told.count("Hello there") == 3 and told.count("'artefact': 'interest-in-science'") == 2
        if shutil.which("curl"):
            (curl,) = commands("curl")
            asked = [word.replace("http://127.0.0.1:8000", url) for word in curl]
            answer = subprocess.run([*asked, "-s"], capture_output=True, text=True, check=True).stdout
            assert '"artefact":"conscientiousness"' in answer


def test_the_settings_on_the_page_can_be_read(tmp_path: Path) -> None:
    (toml,) = blocks("docs/serving.md", "toml")
    (tmp_path / "serve.toml").write_text(toml)
    found = read_settings(tmp_path / "serve.toml")
    assert found.keys[0].name == "alice" and found.presets == {"scientist": "interest-in-science@0.2"}


def test_every_command_on_the_pages_can_be_parsed() -> None:
    group = typer.main.get_command(app)
    found = commands("tillerman")
    assert {words[1] for words in found} == {"serve", "verify", "keys", "audit-log", "chat", "fleet"}
    for _, name, *arguments in found:
        group.commands[name].make_context(name, arguments)  # type: ignore[attr-defined]


def test_every_code_of_a_refusal_is_on_the_page() -> None:
    page = (ROOT / "docs/serving.md").read_text()
    assert [code for code in CODES if f"`{code}`" not in page] == []


def test_every_metric_is_on_the_page(tmp_path: Path) -> None:
    page = (ROOT / "docs/operations.md").read_text()
    told = made.opened(tmp_path, audited=False).metrics.text().decode()
    names = set(re.findall(r"^# TYPE (\w+) (?:counter|histogram|gauge)", told, re.MULTILINE))
    names = {name for name in names if not name.endswith("_created")}
    assert len(names) >= 9 and [name for name in names if name not in page] == []
