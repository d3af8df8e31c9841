"""A decoder beside the model's own: the same modules and weights, but nobody's hooks and its own parameters."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from tillerman.models.families import Anatomy

_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def shadow(parts: Anatomy) -> Anatomy:
    """A second decoder that shares every tensor. What is set on its modules does not reach the model.

    Mixtures run their experts one by one in it: grouped matrix products have no forward derivative.
    """
    decoder = _copied(parts.decoder, {}, {})
    blocks = tuple(decoder.get_submodule(parts.family.blocks).children())
    return replace(parts, decoder=decoder, blocks=blocks)


def set_parameters(decoder: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Put tensors in the place of a shadow's parameters, by name; they need not be parameters themselves."""
    for name, value in values.items():
        path, _, own = name.rpartition(".")
        decoder.get_submodule(path)._parameters[own] = value  # type: ignore[assignment] # as functional_call does


def _copied(module: nn.Module, known: dict[int, nn.Module], configs: dict[int, Any]) -> nn.Module:
    if id(module) in known:
        return known[id(module)]
    twin: nn.Module = type(module).__new__(type(module))
    known[id(module)] = twin
    own = dict(module.__dict__)
    own.pop("forward", None)  # replaced on the instance: it would run the original
    own["_compiled_call_impl"] = None
    own |= {name: OrderedDict() for name in _HOOKS}
    own |= {name: dict(own[name]) for name in ("_parameters", "_buffers")}
    if "config" in own:
        own["config"] = _one_by_one(own["config"], configs)
    own["_modules"] = {
        name: None if child is None else _copied(child, known, configs) for name, child in module._modules.items()
    }
    twin.__dict__.update(own)
    return twin


def _one_by_one(config: Any, known: dict[int, Any]) -> Any:
    if id(config) not in known:
        known[id(config)] = copy.copy(config)
        known[id(config)]._experts_implementation = "eager"
    return known[id(config)]
