"""Text of others is shown as text: no markup, no emoji code, no terminal control, in whatever a command prints."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import fields, is_dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from rich.cells import cell_len
from typer.testing import CliRunner

import tillerman
from tillerman.cli import app as cli
from tillerman.cli.common import Plain
from tillerman.cli.output import ERR, OUT
from tillerman.cli.render import print_account, print_table
from tillerman.cli.terminal import Terminal
from tillerman.core.artefact import Artefact, save
from tillerman.core.cell import Cell
from tillerman.core.escaping import visible, visible_json
from tillerman.logs.table import Table
from tillerman.pipeline.progress import ProgressBar
from tillerman.reports import notebook  # noqa: F401 (shows logs as pages)

from .. import tiny
from ..fuzz.artefacts import _accounts
from ..reports.examples import LOGS

# Markup, an emoji code, a command that colours, one that sets the title, C1, an override of direction, half a pair.
HOSTILE = "[/INST][bold]x[/red]:smile:\x1b[31m\x1b]0;t\x07\x9b2J\u202eabc\r\ud800"
SEEN = "[/INST][bold]x[/red]:smile:\\x1b[31m\\x1b]0;t\\x07\\x9b2J\\u202eabc\\x0d\\ud800"
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\U0001f604]")
_LOADING = re.compile(r"\rLoading weights:.*?it/s\]")
COMMANDS = [str(command.name or command.callback.__name__).replace("_", "-") for command in cli.app.registered_commands]


def check_shown(text: str) -> None:
    assert _OBEYED.search(text) is None, repr(text[max(0, _OBEYED.search(text).start() - 60) :][:200])


def invoked(*arguments: str, code: int) -> str:
    """What a command prints, errors as ``main`` prints them."""
    done = CliRunner().invoke(cli.app, list(arguments))
    said = _LOADING.sub("", done.output)  # a bar of transformers, which main turns off
    if isinstance(done.exception, tillerman.TillermanError):
        screen = StringIO()
        Terminal(file=screen).print(f"error: {done.exception}", soft_wrap=True)
        said += screen.getvalue()
        assert done.exception.exit_code == code, said
    else:
        assert done.exit_code == code, (said, done.exception)
    check_shown(said)
    return re.sub(r"[\s│]+", "", said)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_tells_its_mistakes_without_obeying_what_is_in_them(command: str) -> None:
    name = HOSTILE.replace("\ud800", "")
    assert "[bold]x" in invoked(command, f"--{name}", code=2)
    told = invoked(command, *[name] * 9, code=1 if command in ("show", "compare", "study") else 2)
    assert "[bold]x" in told or command in (
        "export",
        "export-task",
        "import",
        "monitor",
        "pull",
    )  # which miss another option first


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / f"{HOSTILE[6:12]}\x1b[31m.jsonl"
    labels = (HOSTILE[:-1], "plain")  # half a pair is refused by the reader
    rows = [{"text": f"{labels[0]} sentence {i} of {labels[i % 2]}", "label": labels[i % 2]} for i in range(40)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_labels_and_names_of_data_are_shown_as_text(data: Path) -> None:
    told = invoked("check", str(data), code=1)
    assert "whichclass" in told and "[/INST][bold]x[/red]:smile:" in told
    said = invoked("check", str(data), "--positive", "plain", code=0)
    assert "\\x1b[31m" in said
    found = CliRunner().invoke(cli.app, ["check", str(data), "--positive", "plain", "--json"])
    check_shown(found.stdout)
    assert json.loads(found.stdout)["data"] == data.stem


def test_names_of_columns_are_shown_as_text(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({HOSTILE: "a", "other": "b"}))
    assert "[/INST][bold]x[/red]:smile:\\x1b[31m" in invoked("check", str(tmp_path / "rows.jsonl"), code=1)


def test_what_an_artefact_says_is_shown_as_text(tmp_path: Path) -> None:
    vector = tiny.vector(0)
    made = replace(vector, provenance=replace(vector.provenance, model_id=HOSTILE, method=HOSTILE, data_name=HOSTILE))
    save(tmp_path / "a.safetensors", Artefact(made, Cell.of(made)))
    assert "".join(SEEN.split()) in invoked("show", str(tmp_path / "a.safetensors"), code=0)
    invoked("show", str(tmp_path / "a.safetensors"), "--json", code=0)
    check_shown(repr(tillerman.load(tmp_path / "a.safetensors")))


def test_a_prompt_in_the_markup_of_a_chat_is_continued(tmp_path: Path) -> None:
    opened = tillerman.open_model("pilot")
    vector = opened.vector({1: [1.0] * opened.parts.width}, name=HOSTILE)
    save(tmp_path / "a.safetensors", Artefact(vector, Cell.of(vector, 0.1)))
    asked = f"[INST] {HOSTILE[:30]} [/INST]"
    said = invoked("generate", asked, "-a", str(tmp_path / "a.safetensors"), "--tokens", "3", code=0)
    assert "[INST]" in said and "[/INST]" in said


def hostile(value: Any, keep: frozenset[str]) -> Any:
    """Every free text of a log made hostile."""
    if is_dataclass(value):
        left = {f.name: getattr(value, f.name) for f in fields(value)}
        return replace(value, **{k: v if k in keep else hostile(v, keep) for k, v in left.items()})
    if isinstance(value, tuple):
        return tuple(hostile(one, keep) for one in value)
    return f"{value}{HOSTILE}" if isinstance(value, str) else value


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.kind)
def test_no_report_on_a_terminal_obeys_a_log(log: Any) -> None:
    made = hostile(
        log, frozenset({"outcome", "kind", "unit", "better", "name", "condition", "of", "role", "level", "reading"})
    )
    for account in _accounts(made):
        screen = StringIO()
        print_account(Terminal(file=screen, width=100), account)
        check_shown(screen.getvalue())
        assert "[bold]x[/red]" in screen.getvalue().replace("\n", "")
    check_shown(repr(made))
    page = made._repr_html_()  # pages and their charts are made of the same texts
    assert log.kind == "reproduction" or "[bold]x[/red]" in page


def test_progress_and_messages_of_libraries_are_shown_as_text() -> None:
    screen = StringIO()
    with ProgressBar(screen).stage(HOSTILE, 2) as progress:
        progress(2)
    check_shown(screen.getvalue())
    record = logging.LogRecord("library", logging.ERROR, __file__, 1, "no model %s", (HOSTILE,), None)
    check_shown(Plain("%(message)s").format(record))


@given(st.text())
def test_json_that_is_shown_means_what_it_meant(text: str) -> None:
    shown = visible_json(json.dumps({"text": text, HOSTILE: text}, ensure_ascii=False))
    check_shown(shown.replace("\U0001f604", ""))
    assert json.loads(shown) == {"text": text, HOSTILE: text}


@given(st.text())
def test_what_is_visible_stays_as_it_is(text: str) -> None:
    assert visible(visible(text)) == visible(text)
    if text.isprintable():
        assert visible(text) == text


def texts(longest: int) -> st.SearchStrategy[str]:
    word = st.text(st.sampled_from("abc-é漢(±×95%"), min_size=1, max_size=longest)
    return st.lists(word, max_size=6).map(" ".join)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    columns = draw(st.integers(1, 5))
    head = tuple(draw(texts(60)) for _ in range(columns))
    row = st.tuples(*[texts(60) | st.just("+44.1 (+36.2 to +52.0)") for _ in range(columns)])
    return Table(draw(texts(60)), head, tuple(draw(st.lists(row, max_size=3))))


@pytest.mark.slow
@given(tables(), st.integers(24, 60))
def test_no_line_of_a_table_is_wider_than_the_terminal(table: Table, width: int) -> None:
    screen = StringIO()
    print_table(Terminal(file=screen, width=width), table)
    assert max(map(cell_len, screen.getvalue().splitlines()), default=0) <= width
    shown = set(screen.getvalue())
    assert [cell for row in table.rows for cell in row if not set(cell) <= shown | {" "}] == []


def test_all_that_is_printed_goes_through_the_terminal_that_obeys_nothing() -> None:
    source = Path(tillerman.__file__).parent
    made = {
        p.name for p in source.rglob("*.py") if re.search(r"\bConsole\(", p.read_text()) and p.name != "terminal.py"
    }
    assert made == set()
    assert isinstance(OUT, Terminal) and isinstance(ERR, Terminal)


@pytest.fixture(autouse=True)
def _terminal_of_eighty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
