"""The docs site holds every page under links that lead somewhere, and llms.txt names them all."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/docs/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def shelves() -> ModuleType:
    return _loaded("shelves")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, shelves: ModuleType) -> Path:
    out = tmp_path_factory.mktemp("site")
    config: Path = _loaded("make_site").stage(out)
    assert json.loads(config.read_text(encoding="utf-8"))["docs_dir"] == "pages"
    return out / "pages"


@pytest.mark.slow
def test_every_page_of_the_docs_is_on_one_shelf_and_on_the_site(shelves: ModuleType, pages: Path) -> None:
    listed = [page for shelf in shelves.shelved().values() for page in shelf]
    assert sorted(listed) == sorted(set(listed))
    assert {path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md")} <= set(listed)
    assert all((pages / page).is_file() for page in listed)


@pytest.mark.slow
def test_every_link_of_the_staged_pages_leads_to_a_staged_file(pages: Path) -> None:
    for page in pages.rglob("*.md"):
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)):
            path = target.partition("#")[0]
            assert not path or ":" in path or (page.parent / path).exists(), f"{page.relative_to(pages)}: {target}"


@pytest.mark.slow
def test_the_gallery_has_the_demo_and_a_report_per_behaviour(pages: Path) -> None:
    logs = json.loads((ROOT / "docs/logs/demo.json").read_text(encoding="utf-8"))
    gallery = (pages / "docs/gallery.md").read_text(encoding="utf-8")
    for name in ("demo", *(log["data_name"] for log in logs)):
        assert f"(gallery/{name}.html)" in gallery
        assert (pages / f"docs/gallery/{name}.html").read_text(encoding="utf-8").startswith("<!")


def test_llms_txt_has_a_title_a_summary_and_a_line_per_page(shelves: ModuleType) -> None:
    text = (ROOT / "llms.txt").read_text(encoding="utf-8")
    assert text.startswith("# Tillerman\n\n> ") and "```python\nimport tillerman\n" in text
    links = re.findall(r"^- \[[^\n]+\]\(([^)]+)\)", text, re.MULTILINE)
    assert links == [page for shelf in shelves.shelved().values() for page in shelf]
