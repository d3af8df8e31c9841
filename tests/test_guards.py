"""Nothing with a name comes in without a test, a page and its place in every list: what is red here says which file
to write. CONTRIBUTING.md has the steps."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import typer

from tillerman.cli.app import app
from tillerman.core.hookpoint import SITES
from tillerman.core.operators import OPERATORS
from tillerman.core.plan import SCOPES
from tillerman.core.precisions import PRECISIONS
from tillerman.data.layouts import LAYOUTS
from tillerman.evaluation.scorers.registry import ANSWER_SCORERS, TEXT_SCORERS
from tillerman.methods.estimators import ESTIMATORS
from tillerman.methods.registry import GROUPS, METHODS
from tillerman.methods.sae.base import PAIRINGS
from tillerman.models.families import FAMILIES
from tillerman.studies import STUDIES

from . import families, tiny

ROOT = Path(__file__).resolve().parents[1]
README, CONCEPTS = "README.md", "docs/concepts.md"


def text_of(page: str) -> str:
    path = ROOT / page
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def quoted(name: str) -> re.Pattern[str]:
    """As code names it: in quotes, alone or as a part of ``ipas-wrong+pca``, ``distinct:2``, ``caa,bipo``."""
    return re.compile(rf"""(?<=["'+,]){re.escape(name)}(?=["'+,:])""")


@cache
def source_in(folder: str) -> str:
    """Of all tests of a folder, or of one file."""
    whole = ROOT / folder
    here = [whole] if whole.is_file() else [p for p in sorted(whole.rglob("test_*.py")) if p != Path(__file__)]
    return "\n".join(path.read_text(encoding="utf-8") for path in here)


def in_table(page: str, name: str) -> bool:
    """A row of a table begins with it (``| `distinct:N` | ...``), links and neighbours of the cell allowed."""
    cells = re.findall(r"^\|([^|]*)\|", text_of(page), re.MULTILINE)
    return any(re.search(rf"`{re.escape(name)}(?::[^`]*)?`", cell) for cell in cells)


@dataclass(frozen=True)
class Kind:
    """Things with names: where each has its place, and what to do where one has none."""

    what: str
    names: Iterable[str]
    has_page: Callable[[str], bool]
    page: str
    has_test: Callable[[str], bool]
    test: str


def table_row(page: str) -> Callable[[str], bool]:
    return lambda name: in_table(page, name)


def quoted_in(folder: str) -> Callable[[str], bool]:
    return lambda name: quoted(name).search(source_in(folder)) is not None


def has_own_page(name: str) -> bool:
    return bool(text_of(f"docs/methods/{name}.md")) and f"({name}.md)" in text_of("docs/methods/index.md")


def has_heading(page: str) -> Callable[[str], bool]:
    return lambda name: re.search(rf"^## {re.escape(name)}$", text_of(page), re.MULTILINE) is not None


def has_study_test(name: str) -> bool:
    return "def test_" in text_of(f"tests/studies/test_{name.replace('-', '_')}.py")


def families_of_readme() -> set[str]:
    """``Llama, Qwen3-MoE, Gemma3 (text, ...)`` as model types, without what parts their words."""
    found = re.search(r"^Families: (.*?)\.\s", text_of(README), re.MULTILINE)
    assert found is not None, "README.md lists the model families on a line that begins with 'Families: '"
    return {plain(name) for name in re.sub(r"\([^)]*\)", "", found[1]).split(",")}


def plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().removesuffix("_text"))


OWN_PAGE = (
    "docs/methods/{name}.md, which begins with '# `{name}`: what it is' (after docs/methods/caa.md), then 'make docs'"
)
SCORERS, STUDIES_PAGE, LAYOUTS_PAGE = "docs/scorers.md", "docs/studies.md", "docs/data-format.md"
KINDS = (
    Kind(
        "method",
        METHODS,
        has_own_page,
        OWN_PAGE,
        quoted_in("tests"),
        "tests/methods/test_{file}.py with what it alone promises, naming it as '{name}'",
    ),
    Kind(
        "estimator",
        ESTIMATORS,
        has_own_page,
        OWN_PAGE,
        quoted_in("tests/methods/test_estimators.py"),
        "a test in tests/methods/test_estimators.py with what it alone promises, naming it as '{name}'",
    ),
    Kind(
        "scorer",
        [*TEXT_SCORERS, *ANSWER_SCORERS],
        table_row(SCORERS),
        f"a row of the table in {SCORERS}: value, unit and range, when there is nothing to measure",
        quoted_in("tests/evaluation/scorers"),
        "a test in tests/evaluation/scorers, naming it as '{name}'",
    ),
    Kind(
        "study",
        STUDIES,
        has_heading(STUDIES_PAGE),
        f"a section '## {{name}}' of {STUDIES_PAGE}: question, what is measured, when each verdict is given",
        has_study_test,
        "tests/studies/test_{file}.py: judge on trials made by hand, and one run on the pilot",
    ),
    Kind(
        "operator",
        OPERATORS,
        table_row(CONCEPTS),
        f"a row of the table 'Operator' in {CONCEPTS}: formula, meaning of the strength, source",
        quoted_in("tests/steering"),
        "a test in tests/steering/test_operators.py that holds it to its formula, naming it as '{name}'",
    ),
    Kind(
        "scope",
        SCOPES,
        table_row(CONCEPTS),
        f"a row of the table 'Scope' in {CONCEPTS}: which tokens it means",
        lambda name: re.search(rf'Scope\("{name}"', source_in("tests/steering")) is not None,
        "a test in tests/steering/test_scopes.py that counts the tokens steered, with Scope('{name}')",
    ),
    Kind(
        "site",
        SITES,
        table_row(CONCEPTS),
        f"a row of the table 'Site' in {CONCEPTS}: which activation it is, and its width",
        quoted_in("tests"),
        "a test in tests/models/test_capture.py, naming it as '{name}'",
    ),
    Kind(
        "layout",
        LAYOUTS,
        table_row(LAYOUTS_PAGE),
        f"a row of the table 'Layouts' in {LAYOUTS_PAGE}: fields, kind, what is wanted",
        quoted_in("tests/data"),
        "a row in tests/data/test_layouts.py, naming it as '{name}'",
    ),
    Kind(
        "family",
        FAMILIES,
        lambda name: plain(name) in families_of_readme(),
        "the family in the line 'Families: ...' of README.md",
        lambda name: name in tiny.CONFIGS or name in families.KINDS,
        "a configuration in KINDS of tests/families.py (or, to have every test run on it, in CONFIGS of tests/tiny.py)",
    ),
)
EACH = [pytest.param(kind, name, id=f"{kind.what}-{name}") for kind in KINDS for name in kind.names]


def what_is_missing(kind: Kind, name: str) -> list[str]:
    filled = {"name": name, "file": name.replace("-", "_")}
    missing = []
    if not kind.has_page(name):
        missing.append(f"the {kind.what} {name!r} is not described: write {kind.page.format(**filled)}")
    if not kind.has_test(name):
        missing.append(f"the {kind.what} {name!r} is not tested: write {kind.test.format(**filled)}")
    return missing


@pytest.mark.parametrize(("kind", "name"), EACH)
def test_everything_with_a_name_has_its_test_and_its_page(kind: Kind, name: str):
    missing = what_is_missing(kind, name)
    assert not missing, "; ".join(missing)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.what)
def test_what_has_neither_is_told_which_files_to_write(kind: Kind):
    described, proved = what_is_missing(kind, "no-such-name")
    assert "'no-such-name' is not described: write" in described
    assert re.search(r"(docs/[\w/-]+\.md|README\.md)", described)
    assert "'no-such-name' is not tested: write" in proved
    assert re.search(r"tests/[\w/]+", proved)


# ---- lists that people read


def help_of(command: str, option: str) -> str:
    """The help of an option (``--scope``) or argument (``name``), in one line."""
    group = typer.main.get_command(app)
    parameters = group.commands[command].params  # type: ignore[attr-defined]
    found = [p for p in parameters if option in (*p.opts, p.name)]
    assert found, f"'tillerman {command}' has no {option}"
    return " ".join((found[0].help or "").split())


def words_of(help: str) -> set[str]:
    """The names in a list: ``auto, all, exact:TEXT, bf16 or int8``; what a colon is followed by is not part of it."""
    return {word.partition(":")[0] for word in re.split(r"[\s,;()'+.]+", help)}


LISTS = [
    ("fit", "--scope", SCOPES),
    ("fit", "--site", SITES),
    ("fit", "--method", [*METHODS, *GROUPS, *ESTIMATORS]),
    ("score", "--scorer", TEXT_SCORERS),
    ("study", "name", STUDIES),
    ("study", "--precisions", PRECISIONS),
    ("fit", "--layout", LAYOUTS),
]


@pytest.mark.parametrize(("command", "option", "names"), LISTS, ids=lambda value: str(value)[:20])
def test_the_help_of_an_option_names_all_that_it_takes(command: str, option: str, names: Iterable[str]):
    missing = ", ".join(sorted(set(names) - words_of(help_of(command, option))))
    assert not missing, f"the help of 'tillerman {command} {option}' does not name {missing}: run 'make docs'"


def test_readme_says_what_there_is_to_say_on_one_page():
    """Prose before 'Read on': lines with text outside of code blocks and tables."""
    prose = re.sub(r"^```.*?^```", "", text_of(README).partition("## Read on")[0], flags=re.MULTILINE | re.DOTALL)
    assert 20 < len([line for line in prose.splitlines() if line.strip() and not line.startswith("|")]) <= 60


def test_readme_lists_the_families_that_can_be_steered_and_no_other():
    assert families_of_readme() == {plain(name) for name in FAMILIES}


def test_readme_names_every_method():
    """A method of a family of its own (``cold-kernel-linear``) is named by what it is a variant of."""
    rows = " ".join(re.findall(r"^\|.*$", text_of(README), re.MULTILINE))
    for name in METHODS:
        bases = [name.rsplit("-", k)[0] for k in range(name.count("-") + 1)]
        assert any(f"`{base}`" in rows for base in bases), f"README.md, table of methods: add a row for {name!r}"
    for name in ESTIMATORS:
        assert re.search(rf"`\+?{name}`", text_of(README)), f"README.md does not name {name!r}: run 'make docs'"


def test_every_page_of_a_method_belongs_to_one():
    found = {path.stem for path in (ROOT / "docs/methods").glob("*.md")}
    stray = sorted(found - {*METHODS, *ESTIMATORS, "index"})
    assert not stray, f"docs/methods has pages of no method or estimator: {', '.join(stray)}; rename or remove them"


@pytest.mark.parametrize(
    ("entry", "names"),
    [("Pairing", PAIRINGS), ("Estimator", ESTIMATORS)],
    ids=["pairing", "estimator"],
)
def test_the_glossary_names_every_pairing_and_estimator(entry: str, names: Iterable[str]):
    found = re.search(rf"^\*\*{entry}\.\*\*(.*?)(?=^\*\*)", text_of(CONCEPTS), re.MULTILINE | re.DOTALL)
    assert found is not None
    missing = [name for name in names if f"`{name}`" not in found[1]]
    assert not missing, f"{CONCEPTS}, '{entry}', does not name {', '.join(missing)}: run 'make docs'"
