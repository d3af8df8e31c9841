"""The docs say what is there: every method has its page, links lead somewhere, code runs, generated pages are new."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from tillerman.methods.estimators import ESTIMATORS
from tillerman.methods.registry import METHODS

from . import tiny

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *sorted(ROOT.glob("docs/**/*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
]
RUN_FROM_HERE = ["docs/frames.md", "docs/in-your-code.md"]
NAMES = [*METHODS, *ESTIMATORS]

_FENCE = re.compile(
    r"(?P<skip><!-- not run -->\n)?^```(?P<kind>\w*)[^\n]*\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"(?<!\\)\[[^\]\n]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)|<(?:img|a)\b[^>]*?\b(?:src|href)=\"([^\"]+)\"")
_HEADING = re.compile(r"^#+\s+(.*?)\s*$", re.MULTILINE)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[tuple[int, str, bool]]:
    """First line, code and whether to run it, of each Python block."""
    text = page.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, found.start("code")) + 1, found["code"], found["skip"] is None)
        for found in _FENCE.finditer(text)
        if found["kind"] == "python"
    ]


def compiled(page: Path, line: int, code: str):
    """Lines as in the page, so that a traceback leads there."""
    return compile("\n" * (line - 1) + code, str(page), "exec")


def prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Headings as the places that links name: lower case, punctuation gone, blanks as hyphens."""
    titles = _HEADING.findall(prose(page))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def dead_links(page: Path) -> list[str]:
    dead = []
    for link in (first or second for first, second in _LINK.findall(prose(page))):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            dead.append(link)
    return dead


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "tools/docs/build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_every_method_and_estimator_has_a_page_that_the_index_names(name: str):
    assert (ROOT / f"docs/methods/{name}.md").is_file()
    assert f"({name}.md)" in (ROOT / "docs/methods/index.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_every_method_and_estimator_is_named_in_a_test(name: str):
    others = (path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__))
    word = re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])")
    assert any(word.search(path.read_text(encoding="utf-8")) for path in others)


def test_every_page_of_a_method_belongs_to_one():
    found = {path.stem for path in (ROOT / "docs/methods").glob("*.md")}
    assert found == {*NAMES, "index"}


def test_generated_pages_are_up_to_date(build: ModuleType):
    for page, made in build.pages().items():
        assert (ROOT / page).read_text(encoding="utf-8") == made, f"{page} is stale; run '{build.REMEDY}'"


def test_readme_without_a_place_for_the_demo_is_refused(build: ModuleType):
    with pytest.raises(SystemExit, match="once each"):
        build.with_demo(f"# Tillerman\n{build.EXCERPT[0]}\nno end\n")


def test_a_list_of_names_is_filled_from_its_registry_and_the_rest_of_the_page_is_left(build: ModuleType):
    page = "<!-- list: groups -->old<!-- end of list -->, so.\n<!-- table: estimators -->\n<!-- end of table -->\n"
    made = build.with_lists(page)
    assert made.startswith("<!-- list: groups -->`pas`, `auto`, `writing`, `rice-grid`<!-- end of list -->, so.\n")
    assert "| [`pca`](pca.md) | the first principal component |\n" in made


def test_a_stale_page_is_named_with_the_remedy(build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/one.md").write_text("old")
    (tmp_path / "docs/two.md").write_text("same")
    monkeypatch.setattr(build, "ROOT", tmp_path)
    monkeypatch.setattr(build, "pages", lambda: {"docs/one.md": "new", "docs/two.md": "same"})
    monkeypatch.setattr("sys.argv", ["build.py", "--check"])
    with pytest.raises(SystemExit) as stopped:
        build.main()
    assert stopped.value.code == "stale: docs/one.md; run 'make docs' and commit what it writes"
    assert (tmp_path / "docs/one.md").read_text() == "old"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page: Path):
    assert dead_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_python_block_compiles(page: Path):
    for line, code, _ in blocks(page):
        compiled(page, line, code)


@pytest.mark.parametrize("page", RUN_FROM_HERE)
def test_a_page_runs_from_top_to_bottom(page: str, monkeypatch: pytest.MonkeyPatch):
    """Beside the tutorial: pages whose blocks read what lies in the repository and leave nothing behind."""
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    for line, code, wanted in blocks(ROOT / page):
        if wanted:
            exec(compiled(ROOT / page, line, code), names)


def test_the_tutorial_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs/tutorial.md"
    # The reader's own model, which the first block loads.
    names: dict[str, object] = {"model": tiny.new_model("llama"), "tokenizer": tiny.new_tokenizer(tiny.CHAT)}
    run = [(line, code) for line, code, wanted in blocks(page) if wanted]
    assert len(run) >= 4
    for line, code in run:
        exec(compiled(page, line, code), names)
    assert names["steered"].receipt.applied[0].touched
    assert (tmp_path / "agreeableness.safetensors").is_file()
    assert (tmp_path / "extraversion.html").read_text(encoding="utf-8").startswith("<!")
