"""Keys and values of rows that come and go: room is kept for tokens to come, and rows can be left out or joined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from tillerman.core.errors import ModelError

_ROOM = 64  # columns, at least: a copy of everything for every token would cost as much as the model itself


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """As its base, which copies all it holds at every token; this writes into room that is there."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)  # type: ignore[no-untyped-call]
        self._rooms: tuple[Tensor, ...] = ()

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = int(self.get_seq_length())
        stop = start + key_states.shape[-2]
        new = (key_states, value_states)
        if not self._rooms or self._rooms[0].shape[-2] < stop:
            self._rooms = tuple(
                _moved([held], one.shape[0], start, _roomy(stop), one) for held, one in zip(self.held, new, strict=True)
            )
        for room, one in zip(self._rooms, new, strict=True):
            room[..., start:stop, :] = one
        self.show(stop)
        return self.held

    def show(self, columns: int) -> None:
        """Hold the first so many columns; what stands behind them is written over."""
        self.keys, self.values = (room[..., :columns, :] for room in self._rooms)

    @property
    def held(self) -> tuple[Tensor, Tensor]:
        if self.keys is None or self.values is None:
            raise ModelError("a block of the model has kept no keys and values")
        return self.keys, self.values

    @classmethod
    def of(cls, parts: Sequence[tuple[Tensor, Tensor]], columns: int) -> RoomyLayer:
        """The rows of several layers one after another, their last columns side by side."""
        made = cls()
        made.lazy_initialization(*parts[0])
        rows = sum(len(keys) for keys, _ in parts)
        sides = zip(*parts, strict=True)
        made._rooms = tuple(_moved(side, rows, columns, _roomy(columns), side[0]) for side in sides)
        made.show(columns)
        return made


class RoomyCache(DynamicCache):
    """Every token's keys and values in every block, those beyond a sliding window too: the masks see to windows."""

    def __init__(self, layers: Sequence[RoomyLayer] = ()) -> None:
        super().__init__()
        self.layers = list(layers)
        self.layer_class_to_replicate = RoomyLayer

    def show(self, columns: int) -> None:
        """Forget what a pass that failed has left in some of the layers."""
        for layer in self._own():
            if layer.held[0].shape[-2] > columns:
                layer.show(columns)

    def kept(self, rows: Sequence[int], first: int) -> RoomyCache:
        """Some rows, without the first columns."""
        made = []
        for layer in self._own():
            chosen = torch.tensor(rows, device=layer.held[0].device)
            keys, values = (side[..., first:, :].index_select(0, chosen) for side in layer.held)
            made.append(RoomyLayer.of([(keys, values)], keys.shape[-2]))
        return RoomyCache(made)

    def joined(self, other: RoomyCache, columns: int) -> RoomyCache:
        """The rows of both, so many columns wide; a shorter one begins with zeros, for masks to cover."""
        pairs = zip(self._own(), other._own(), strict=True)
        return RoomyCache([RoomyLayer.of([one.held, two.held], columns) for one, two in pairs])

    def _own(self) -> Iterator[RoomyLayer]:
        for layer in self.layers:
            if not isinstance(layer, RoomyLayer):
                raise ModelError(f"the model keeps a {type(layer).__name__} in its cache, whose rows cannot be joined")
            yield layer


def _roomy(columns: int) -> int:
    return columns + max(_ROOM, columns // 4)


def _moved(parts: Sequence[Tensor], rows: int, columns: int, room: int, like: Tensor) -> Tensor:
    """The parts' rows in new room, right-aligned at ``columns``."""
    made = like.new_zeros(rows, *like.shape[1:-2], room, like.shape[-1])
    at = 0
    for part in parts:
        if part.numel():
            made[at : at + len(part), ..., columns - part.shape[-2] : columns, :] = part
        at += len(part)
    return made
