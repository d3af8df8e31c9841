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
