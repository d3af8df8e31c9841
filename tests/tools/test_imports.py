"""Tools and benchmarks, which most tests do not run, take from the package what is there."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(path for room in ("tools", "benchmarks") for path in (ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_tool_imports_of_the_package_exists(path: Path) -> None:
    taken = [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tillerman"
        for alias in node.names
    ]
    for module, name in taken:
        there = importlib.import_module(module)
        inside = {one.name for one in pkgutil.iter_modules(getattr(there, "__path__", []))}
        assert name in vars(there) or name in inside or name in dir(there), f"{module} has no {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_tool_imports_of_other_tools_exists(path: Path) -> None:
    """Looked for beside it, in ``tools`` and in the folders of tools that it names, as those it puts on the path."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    rooms = [path.parent, ROOT / "tools", *(room for room in (ROOT / "tools").iterdir() if room.name in named)]
    for node in tree.body:
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        found = next((file for room in rooms if (file := room / f"{node.module}.py").exists()), None)
        if found is not None:
            missing = {alias.name for alias in node.names} - _names(found)
            assert not missing, f"{found.relative_to(ROOT)} has no {', '.join(sorted(missing))}"


def _names(file: Path) -> set[str]:
    """What a module's first level binds."""
    bound: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            bound |= {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return bound
