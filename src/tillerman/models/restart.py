"""Start a forward pass at the first block that an edit can change.

Below an edited block nothing differs from the unsteered pass, so a search over many strengths at one
hook point runs those blocks once, keeps what enters the next one, and starts there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from tillerman.core.hookpoint import HookPoint
from tillerman.models.families import Anatomy


@dataclass(frozen=True, eq=False)
class Restart:
    """What enters block ``border``, for the tokens of one pass."""

    border: int
    hidden: Float[Tensor, "b q d"]


def border_of(point: HookPoint) -> int:
    """The first block that has to run when this hook point is edited."""
    return point.layer + 1 if point.site == "resid_post" else point.layer


def entry(parts: Anatomy, border: int) -> HookPoint:
    """Where what enters a border can be read; above the last block, what leaves it."""
    if border == len(parts.blocks):
        return HookPoint(border - 1, "resid_post")
    return HookPoint(border, "resid_pre")


@contextmanager
def starting(parts: Anatomy, restart: Restart | None) -> Iterator[None]:
    """Inside the block, passes leave out the blocks below the border.

    These blocks' ``forward`` is replaced on the instance and put back; their hooks still run, so an edit
    of the last one left out still acts on what it hands on.
    """
    skipped = () if restart is None else parts.blocks[: restart.border]
    before = [block.__dict__.get("forward") for block in skipped]
    try:
        for i, block in enumerate(skipped):
            assert restart is not None
            last = i == restart.border - 1
            block.__dict__["forward"] = _hand_on(restart.hidden if last else None)
        yield
    finally:
        for block, old in zip(skipped, before, strict=True):
            if old is None:
                block.__dict__.pop("forward", None)
            else:
                block.__dict__["forward"] = old


def _hand_on(kept: Tensor | None) -> Callable[..., Tensor]:
    def forward(*args: Any, **kwargs: Any) -> Tensor:
        given: Tensor = args[0] if args else kwargs["hidden_states"]
        return given if kept is None else kept

    return forward
