"""What the tools of measured pages share: parts between marks, and a stale page that is named."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("measured_pages", TOOLS / "pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


def page_of(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "page.md"
    path.write_text(text, encoding="utf-8")
    return path


def test_parts_are_made_anew_between_their_marks_and_nothing_else_changes(pages: ModuleType, tmp_path: Path) -> None:
    path = page_of(tmp_path, "By hand.\n<!-- a -->\nold\n<!-- /a -->\nMore.\n<!-- b -->\n<!-- /b -->\n")
    made = pages.filled(path, {"a": "new\n", "b": "| 1 |\n"})
    assert made == ("By hand.\n<!-- a -->\n\nnew\n\n<!-- /a -->\nMore.\n<!-- b -->\n\n| 1 |\n\n<!-- /b -->\n")
    path.write_text(made, encoding="utf-8")
    assert pages.filled(path, {"a": "new\n", "b": "| 1 |\n"}) == made


@pytest.mark.parametrize("text", ["<!-- a -->\n", "<!-- /a -->\n", "<!-- a --><!-- a --><!-- /a -->", "nothing"])
def test_a_page_without_a_mark_or_with_one_twice_is_refused(pages: ModuleType, tmp_path: Path, text: str) -> None:
    with pytest.raises(SystemExit, match=r"page\.md: expected the marks <!-- a --> and <!-- /a --> once each"):
        pages.filled(page_of(tmp_path, text), {"a": "x"})


def test_a_stale_page_is_named_with_the_tool_that_makes_it_and_is_not_written(
    pages: ModuleType, tmp_path: Path
) -> None:
    path, tool = page_of(tmp_path, "old"), str(tmp_path / "tools" / "page.py")
    with pytest.raises(SystemExit, match=r"stale: page\.md; run 'python tools/page\.py'"):
        pages.write(tool, lambda: {path: "new"}, check=True)
    assert path.read_text(encoding="utf-8") == "old"
    pages.write(tool, lambda: {path: "new"}, check=False)
    pages.write(tool, lambda: {path: "new"}, check=True)
    assert path.read_text(encoding="utf-8") == "new"


def test_every_tool_of_a_measured_page_has_the_same_options(pages: ModuleType) -> None:
    for path in TOOLS.glob("*/*.py"):
        text = path.read_text(encoding="utf-8")
        if "--add" in text and "pages" in text:
            assert "pages.asked(" in text and "pages.write(__file__, made" in text, path
    alone = pages.asked("Doc.", "a log", "FILE").parse_args(["--add", "x.json", "--check"])
    several = pages.asked("Doc.", "logs", "NAME", "FOLDER", several=True).parse_args(["--add", "cae", "one", "two"])
    assert (alone.add, alone.check, several.add) == (Path("x.json"), True, ["cae", "one", "two"])
