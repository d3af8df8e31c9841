"""The options of opening a model: a command that takes an ``opening`` has them all on its command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Annotated, Any

import typer

from tillerman.core.opening import DEVICE_MAPS, DTYPES, QUANTISATIONS, Opening

_NAME = "opening"
_OPTIONS: dict[str, Any] = {
    "device": Annotated[str, typer.Option(help="auto (an accelerator if there is one), cpu, cuda, cuda:1, mps or xpu")],
    "device_map": Annotated[
        str | None,
        typer.Option(help=f"split the model over all accelerators, instead of --device: {', '.join(DEVICE_MAPS)}"),
    ],
    "dtype": Annotated[
        str, typer.Option(help=f"type of the weights: {', '.join(DTYPES)}; auto is bfloat16 where it is fast")
    ],
    "quantize": Annotated[
        str | None, typer.Option(help=f"round the weights of linear layers: {', '.join(QUANTISATIONS)}")
    ],
    "revision": Annotated[str | None, typer.Option(help="branch, tag or commit of a model on the hub")],
    "attention": Annotated[
        str | None, typer.Option(help="implementation of attention, e.g. eager, sdpa or flash_attention_2")
    ],
    "trust_remote_code": Annotated[
        bool, typer.Option("--trust-remote-code", help="run the code that comes with a model; read it first")
    ],
    "guess_layout": Annotated[
        bool,
        typer.Option(
            "--guess-layout", help="guess the layout of an architecture that has no row in the table of families"
        ),
    ],
}


def with_opening(hints: Mapping[str, Any]) -> dict[str, Any]:
    """Annotations of a command, the options in the place of the value."""
    return {**hints, **_OPTIONS} if _NAME in hints else dict(hints)


def parameters_of(function: Callable[..., None]) -> list[inspect.Parameter]:
    """By keyword only."""
    defaults = {field.name: field.default for field in fields(Opening)}
    found: list[inspect.Parameter] = []
    for one in inspect.signature(function).parameters.values():
        names = tuple(_OPTIONS) if one.name == _NAME else (one.name,)
        found += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults.get(name, one.default))
            if one.name == _NAME
            else one.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name in names
        ]
    return found


def device_of(given: Mapping[str, Any]) -> str:
    """The device that a command with these options has, or would have, used."""
    asked = str(given.get("device") or "cpu")
    if asked != "auto":
        return asked
    from tillerman.models.machine import device_named  # loads torch, which the help must not

    return str(device_named(asked))


def opening_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """What a command was given, the value in the place of the options."""
    if not _OPTIONS.keys() <= given.keys():
        return dict(given)
    rest = {name: value for name, value in given.items() if name not in _OPTIONS}
    return {**rest, _NAME: Opening(**{name: given[name] for name in _OPTIONS})}
