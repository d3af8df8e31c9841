"""Vectors in the biases of writing maps: told by the base, or by the model's other blocks."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from tillerman.core.hookpoint import HookPoint
from tillerman.exchange.audit.maps import WritingMap
from tillerman.exchange.writers import BIAS_FLAGS

_OUTLIER = 3.0  # times the largest bias of the same map in another block


@dataclass(frozen=True, eq=False)
class AddedBias:
    """What a bias holds that it should not, or may not: ``vector`` ``[d]``, at ``point`` (None: before a norm).

    ``sure``: no training leaves this. ``why`` says what is odd of it, in words."""

    name: str
    point: HookPoint | None
    vector: Float[Tensor, " d"]
    sure: bool
    why: str


def added_to(maps: Sequence[WritingMap], base: Mapping[str, Tensor]) -> tuple[AddedBias, ...]:
    """Against the weights of the base, by name: every bias of a writing map that is another, and what was added."""
    found = []
    for one in maps:
        if one.bias is None:
            continue
        name = bias_name(one)
        before = base.get(name)
        vector = one.bias.float().cpu() - (0 if before is None else before.float().cpu())
        if bool(vector.any()):
            why = "the base has no bias here" if before is None else "differs from the base"
            found.append(AddedBias(name, one.point, vector, True, why))
    return tuple(found)


def odd_biases(causal: PreTrainedModel, maps: Sequence[WritingMap]) -> tuple[AddedBias, ...]:
    """Without a base: biases of some blocks where those of most others are exactly 0, biases that the architecture has
    only by a flag that is usually off, and one that is several times as long as in any other block."""
    by_flag = _by_flag(causal)
    found: list[AddedBias] = []
    for _, of_kind in groupby(sorted(maps, key=lambda one: (one.kind, one.layer)), key=lambda one: one.kind):
        found += _odd([one for one in of_kind if one.bias is not None], by_flag)
    return tuple(sorted(found, key=lambda one: -1 if one.point is None else one.point.layer))


def _odd(maps: Sequence[WritingMap], by_flag: frozenset[str]) -> list[AddedBias]:
    biases = [one.bias.float().cpu() for one in maps if one.bias is not None]
    lengths = [float(bias.norm()) for bias in biases]
    there = [i for i, length in enumerate(lengths) if length]
    if not there:
        return []
    if 2 * len(there) <= len(maps):
        words = f"exactly 0 in the other {len(maps) - len(there)} blocks"
        return [AddedBias(bias_name(maps[i]), maps[i].point, biases[i], True, words) for i in there]
    if bias_name(maps[there[0]]) in by_flag:
        words = "a model of this kind has none, unless a flag of its configuration is set"
        return [AddedBias(bias_name(maps[i]), maps[i].point, biases[i], False, words) for i in there]
    longest = max(there, key=lambda i: lengths[i])
    rest = max((length for i, length in enumerate(lengths) if i != longest), default=0.0)
    if not rest or lengths[longest] < _OUTLIER * rest:
        return []
    one, words = maps[longest], f"{lengths[longest] / rest:.1f} times as long as in any other block"
    return [AddedBias(bias_name(one), one.point, biases[longest], False, words)]


def _by_flag(causal: PreTrainedModel) -> frozenset[str]:
    """Names of biases that a configuration of this kind does not have by default."""
    usual = type(causal.config)()
    flags = [flag for flag in BIAS_FLAGS if getattr(causal.config, flag, None) and getattr(usual, flag, None) is False]
    if not flags:
        return frozenset()
    config = copy.deepcopy(causal.config)
    config.update(dict.fromkeys(flags, False))
    with torch.device("meta"):
        without = type(causal)(config).state_dict()
    return frozenset(set(causal.state_dict()) - set(without))


def bias_name(one: WritingMap) -> str:
    """Of the map's bias, in the model."""
    return f"{one.name.rpartition('.')[0]}.bias"
