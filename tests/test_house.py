"""What must stay true of the whole house."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tillerman

SOURCE = Path(__file__).parents[1] / "src" / "tillerman"
FILES = sorted(SOURCE.rglob("*.py"))


def _nodes(path):
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def _name(node):
    """``torch.load`` of a dotted expression."""
    return f"{_name(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _calls(path):
    return {_name(node.func) for node in _nodes(path) if isinstance(node, ast.Call)}


def _imports(path):
    for node in _nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def test_there_is_a_house_to_look_at():
    assert len(FILES) > 30


def test_hooks_are_hung_in_the_models_room_only():
    for path in FILES:
        if "register_forward" in path.read_text(encoding="utf-8"):
            # A model inside vLLM is not transformers', and its process knows core alone.
            assert path.parent == SOURCE / "models" or path == SOURCE / "serving" / "engines" / "vllm" / "armed.py"
    assert "register_forward_hook" in (SOURCE / "models" / "edit.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_file_uses_what_the_house_does_not_allow(path):
    assert not {"print", "eval", "exec", "hasattr"} & _calls(path)
    loads = [n for n in _nodes(path) if isinstance(n, ast.Call) and _name(n.func) == "torch.load"]
    for load in loads:  # published files of one format; without weights_only it would run what they say
        assert path in (SOURCE / "models" / "sae" / "qwenscope.py", SOURCE / "exchange" / "torch_files.py")
        assert [ast.unparse(k.value) for k in load.keywords if k.arg == "weights_only"] == ["True"]
    assert not {"pickle", "dill", "joblib", "cloudpickle"} & set(_imports(path))
    assert not [n.lineno for n in _nodes(path) if isinstance(n, ast.ExceptHandler) and n.type is None]


def test_every_public_name_resolves_and_every_resolving_name_is_public():
    assert len(set(tillerman.__all__)) == len(tillerman.__all__)
    for name in tillerman.__all__:
        assert getattr(tillerman, name) is not None
    assert dir(tillerman) == tillerman.__all__
    typed = {
        alias.asname
        for node in _nodes(SOURCE / "__init__.py")
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tillerman.")
        for alias in node.names
    }
    assert typed | {"__version__"} == set(tillerman.__all__)  # what mypy sees is what is there


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'tillerman' has no attribute 'steeer'"):
        _ = tillerman.steeer


def test_importing_tillerman_imports_neither_torch_nor_transformers():
    code = "import sys, tillerman; print([m for m in ('torch', 'transformers', 'numpy', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_help_of_the_command_line_imports_neither_torch_nor_transformers():
    code = (
        "import sys; from tillerman.cli.app import app; app(['--help'], 'tillerman', standalone_mode=False); "
        "print([m for m in ('torch', 'transformers', 'numpy', 'scipy', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: tillerman" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("room", ["reports", "logs", "statistics"])
def test_rooms_that_render_and_count_reach_neither_torch_nor_transformers(room):
    modules = sorted(
        ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in (SOURCE / room).rglob("*.py")
    )
    code = (
        f"import sys, importlib; [importlib.import_module(name) for name in {modules!r}]; "
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_two_public_classes_have_the_same_name():
    """A name that means two things makes a reader look twice."""
    places: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(SOURCE)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_every_licence_and_notice_of_what_we_ship_is_in_the_packages_metadata():
    root = SOURCE.parents[1]
    globs = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["license-files"]
    listed = {path for pattern in globs for path in root.glob(pattern)}
    assert listed == {root / "LICENSE", *SOURCE.rglob("LICENSE*"), *SOURCE.rglob("NOTICE*")}
    assert [pattern for pattern in globs if not list(root.glob(pattern))] == []


def test_no_link_is_tracked_because_it_would_lead_out_of_the_house():
    root = SOURCE.parents[1]
    if not (root / ".git").exists():
        pytest.skip("not a checkout of the repository")
    asked = ["git", "-c", "safe.directory=*", "ls-files", "--stage"]
    listed = subprocess.run(asked, cwd=root, capture_output=True, text=True, check=True)
    lines = listed.stdout.splitlines()
    assert len(lines) > 100 and not [line for line in lines if line.startswith("120000")]
