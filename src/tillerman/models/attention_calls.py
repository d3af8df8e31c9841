"""Calls of attention: what it compares and what it gives, seen where a family's code looks its attention function up.

Steering changes what modules give; queries and keys as attention compares them, with positions turned in, are met
nowhere but inside.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from tillerman.models.families import Anatomy

_INTERFACE = "ALL_ATTENTION_FUNCTIONS"  # the name by which it is looked up
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """One call of the attention function: what it compares, its heads side by side, and those for other values."""

    query: Float[Tensor, "b h s k"]
    key: Float[Tensor, "b g s k"]
    value: Float[Tensor, "b g s v"]
    scale: float
    whole: Float[Tensor, "b s hv"]
    heads: Callable[[Tensor], Float[Tensor, "b s hv"]]


See = Callable[[int, AttentionCall], Tensor | None]


@contextmanager
def watched(parts: Anatomy, layers: Sequence[int], see: See) -> Iterator[None]:
    """Inside, ``see`` is shown every call of the attention function that this thread makes in these layers. What the
    call gives, and calls of other threads and models, are left as they are."""
    owner = {module: layer for layer in layers for module in parts.blocks[layer].modules()}
    places = [found for module in owner if (found := _globals_of(module)) is not None]
    with _ONE_AT_A_TIME:
        before = {id(place): (place, place[_INTERFACE]) for place in places}
        for place, interface in before.values():
            place[_INTERFACE] = _Shown(interface, owner, see, threading.get_ident())
        try:
            yield
        finally:
            for place, interface in before.values():
                place[_INTERFACE] = interface


def _globals_of(module: nn.Module) -> dict[str, Any] | None:
    """Where the code of this module looks the attention function up, if it does."""
    found: dict[str, Any] = getattr(inspect.unwrap(type(module).forward), "__globals__", {})
    return found if _INTERFACE in found else None


class _Shown:
    """Attention functions by name, each of which shows its calls before it gives what it gives."""

    def __init__(self, plain: Any, owner: Mapping[nn.Module, int], see: See, thread: int) -> None:
        self._plain, self._owner, self._see, self._thread = plain, owner, see, thread

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)

    def get_interface(self, name: str, default: Callable[..., Any]) -> Callable[..., Any]:
        attend = self._plain.get_interface(name, default)

        def shown(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *given: Any, **more: Any) -> Any:
            out = attend(module, query, key, value, *given, **more)
            if threading.get_ident() == self._thread and module in self._owner:

                def heads(values: Tensor) -> Tensor:
                    return _side_by_side(attend(module, query, key, values, *given, **more)[0])

                scale = float(more.get("scaling") or query.shape[-1] ** -0.5)
                call = AttentionCall(query, key, value, scale, _side_by_side(out[0]), heads)
                self._see(self._owner[module], call)
            return out

        return shown


def _side_by_side(heads: Float[Tensor, "b s h v"]) -> Float[Tensor, "b s hv"]:
    return heads.reshape(*heads.shape[:2], -1)
