"""What a file of another tool holds, before anyone has said where in a model it belongs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.errors import ArtefactError, HookPointError
from tillerman.core.hookpoint import HookPoint

Key = int | HookPoint | None  # the file's own number, a hook point that it names, or neither
_INSIDE = ("layer_activations", "directions")  # of steering-vectors and CAST: the mapping that is meant
_SHOWN = 4


@dataclass(frozen=True, eq=False)
class Found:
    """Directions ``[d]``, float32, by the file's own keys, and what the file says besides.

    ``strength`` is the factor that the file itself names. ``whole`` is the artefact that an export of ours carries."""

    what: str
    directions: Mapping[Key, Float[Tensor, " d"]]
    strength: float = 1.0
    whole: bytes | None = None

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(sorted(key for key in self.directions if isinstance(key, int)))


def directions_in(values: Any, where: str) -> dict[Key, Float[Tensor, " d"]]:
    """Directions of a tensor, an array, a list of numbers, or a mapping of these.

    A table ``[n, d]`` is numbered by its rows; one of heads ``[layers, heads, head_dim]`` has the heads of a row side
    by side. Rows of zeros steer nothing and are left out. ``ArtefactError`` names what cannot be told apart.
    """
    if isinstance(values, Mapping):
        inside = next((values[name] for name in _INSIDE if isinstance(values.get(name), Mapping)), values)
        found = _of_mapping(inside, where)
    else:
        found = _of_table(_numbers(values, where), where)
    kept = {key: v for key, v in found.items() if bool(v.any())}
    if not kept:
        raise ArtefactError(f"{where}: it holds no direction but zeros")
    return kept


def _of_table(values: Tensor, where: str) -> dict[Key, Tensor]:
    if values.ndim == 3:
        values = values.flatten(1)  # heads side by side
    if values.ndim == 1 or (values.ndim == 2 and len(values) == 1):
        return {None: values.reshape(-1)}
    if values.ndim == 2:
        return dict(enumerate(values))
    raise ArtefactError(
        f"{where}: expected a direction [d], a table [layers, d] or heads [layers, heads, head_dim], got "
        f"{list(values.shape)}"
    )


def _of_mapping(values: Mapping[Any, Any], where: str) -> dict[Key, Tensor]:
    alone = len(values) == 1
    found: dict[Key, Tensor] = {}
    for name, value in values.items():
        direction = _numbers(value, f"{where}, {name!r}")
        if alone and direction.ndim > 1 and len(direction) > 1:
            return _of_table(direction, where)
        if direction.numel() != direction.shape[-1]:
            raise ArtefactError(
                f"{where}, {name!r}: expected one direction [d], got {list(direction.shape)}: one per position or "
                "component. Write the one you want to a file of its own"
            )
        key = _key(name)
        if key is None and not alone:
            raise ArtefactError(
                f"{where}: {_some(values)}: no layer can be read from {str(name)[:40]!r}; name the directions as "
                "hook points ('layers.12.resid_post'), or write the one you want to a file of its own"
            )
        if key in found:
            raise ArtefactError(f"{where}: {_some(values)}: two of them are of layer {key}")
        found[key] = direction.reshape(-1)
    return found


def _key(name: Any) -> Key:
    """A number, a hook point, the only number in a name (``layer_20``), or nothing."""
    if isinstance(name, int) and not isinstance(name, bool):
        return name
    text = str(name)
    if text.startswith("layers."):
        try:
            return HookPoint.parse(text)
        except HookPointError:
            pass  # a module of the model: layers.3.mlp.down_proj
    digits = re.findall(r"(?<![A-Za-z0-9])\d+|(?<=[A-Za-z])\d+$", text)
    return int(digits[0]) if len(digits) == 1 else None


def _numbers(value: Any, where: str) -> Float[Tensor, ...]:
    try:
        found = torch.as_tensor(value).detach().to("cpu", torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArtefactError(f"{where}: expected numbers, got {type(value).__name__} ({error})") from None
    if found.ndim == 0 or not found.numel():
        raise ArtefactError(f"{where}: expected a direction, got a tensor of shape {list(found.shape)}")
    return found


def _some(names: Iterable[Any]) -> str:
    every = [str(name)[:30] for name in names]
    return ", ".join(every[:_SHOWN]) + (", ..." if len(every) > _SHOWN else "")
