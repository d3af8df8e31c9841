"""``--config run.toml``: the options of one command from a file, and ``--write-config``, which writes such a file.

Keys are the options as on the command line, without their dashes, and the arguments by their names in lower case. The
file is flat: options of a method stand in its text (``method = "cold-fd:keep=0.05"``).
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import typer

from tillerman.cli.moved import check_moved
from tillerman.cli.output import OUT
from tillerman.core.errors import DataError, UsageError
from tillerman.core.escaping import visible_json
from tillerman.core.files import write_text

_NOT_IN_FILE = ("config", "write_config", "help")


def read_config(ctx: typer.Context, value: Path | None) -> Path | None:
    """What the file says takes the place of the defaults of the options that follow."""
    if value is not None:
        ctx.default_map = {**(ctx.default_map or {}), **_values(ctx, value)}
    return value


def _values(ctx: typer.Context, path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"cannot read the configuration: {error}", file=path) from None
    known, found = _parameters(ctx), {}
    for key, value in table.items():
        name = key.replace("_", "-")
        check_moved([str(ctx.info_name), f"--{name}"])
        if name not in known:
            raise UsageError(f"{path}: {ctx.info_name} has no option {key!r}.{_close(name, known)}")
        found[known[name].name] = _as_parsed(path, key, value, known[name])
    return found


def _close(name: str, known: Mapping[str, Any]) -> str:
    close = get_close_matches(name, known, n=3)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else " Its --help names all."


def _parameters(ctx: typer.Context) -> dict[str, Any]:
    """Key -> parameter."""
    kept = [one for one in ctx.command.params if one.name not in _NOT_IN_FILE and one.expose_value]
    return {_key(one): one for one in kept}


def _key(parameter: Any) -> str:
    """``max-kl``, ``data``: the long spelling, or the argument's name."""
    longest = max(parameter.opts, key=len)
    return str(longest).lstrip("-").replace("_", "-")


def _as_parsed(path: Path, key: str, value: Any, parameter: Any) -> Any:
    """A TOML value as the command line would give it."""
    flag, several = bool(getattr(parameter, "is_flag", False)), _takes_several(parameter)
    values = value if isinstance(value, list) else [value]
    if flag != isinstance(value, bool) or not all(isinstance(one, str | int | float) for one in values):
        wanted = "true or false" if flag else "a list of texts" if several else "a text or a number"
        raise UsageError(f"{path}: {key} = {value!r}: expected {wanted}")
    if flag:
        return value
    texts = [one if isinstance(one, str) else repr(one) for one in values]
    return texts if several else ",".join(texts)


def _takes_several(parameter: Any) -> bool:
    return bool(getattr(parameter, "multiple", False)) or parameter.nargs == -1


def write_config(ctx: typer.Context, target: str, *, leave_out: frozenset[str]) -> None:
    """All options that have a value, given or not, as TOML; ``-`` is the output."""
    values = {key: ctx.params[one.name] for key, one in _parameters(ctx).items() if one.name not in leave_out}
    lines = [f"{key} = {_toml(value)}" for key, value in values.items() if value is not None and value not in ([], ())]
    text = f"# tillerman {ctx.info_name} --config FILE\n" + "\n".join(lines) + "\n"
    if target == "-":
        OUT.print(text, end="", soft_wrap=True)
        return
    write_text(Path(target), text)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return visible_json(json.dumps(str(value), ensure_ascii=False))
