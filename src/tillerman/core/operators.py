"""What is done to an activation: pure tensor functions ``(h, v, strength) -> h'``.

``h`` is ``[..., d]``, ``v`` and ``strength`` broadcast against it, on the same device and of the same dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

Operator = Callable[[Tensor, Tensor, float | Tensor], Tensor]


def add(h: Tensor, v: Tensor, strength: float | Tensor) -> Tensor:
    """``h + strength * v`` (PAS section 3.3; CAE section 2)."""
    return h + strength * v


OPERATORS: Mapping[str, Operator] = {"add": add}
