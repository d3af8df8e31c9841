"""What is kept of prompts that are asked again and again, as the validation items of a search are: their unsteered
passes, and their scores under every cell that was asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.facts import digest_of
from tillerman.core.rows import Progress
from tillerman.models.cells import GridCell
from tillerman.models.families import Anatomy
from tillerman.models.grid import Ready
from tillerman.models.memory import kept_room, kept_size

Score = Callable[[Sequence[GridCell], Ready | None, Progress], Float[Tensor, "c b o"]]


@dataclass(frozen=True, eq=False)
class AskedPrompts:
    """Prompts as cells ask them. ``name`` tells them from all others; ``shared`` and ``edited`` tokens are what their
    unsteered pass keeps: of the former keys and values, of the latter what enters each block too. ``run`` makes that
    pass for cells at any border, ``score`` goes on from it (from None: from a pass of its own)."""

    name: str
    shared: int
    edited: int
    run: Callable[[Sequence[int]], Ready]
    score: Score


@dataclass(frozen=True, eq=False)
class PromptCache:
    """Unsteered passes as far as there is room, and scores. The same prompts and cell have the same scores each time,
    to the last bit."""

    _ready: dict[str, Ready] = field(default_factory=dict)
    _scores: dict[str, dict[str, Float[Tensor, "b o"]]] = field(default_factory=dict)
    _sizes: dict[str, int] = field(default_factory=dict)  # bytes of each pass

    def scores(
        self, parts: Anatomy, asked: AskedPrompts, cells: Sequence[GridCell], progress: Progress
    ) -> Float[Tensor, "c b o"]:
        """Of cells that were not asked before what ``score`` gives. ``progress`` is told prompts times cells."""
        known = self._scores.setdefault(asked.name, {})
        names = [digest_of(cell) for cell in cells]
        fresh = {name: cell for name, cell in zip(names, cells, strict=True) if name not in known}
        if fresh:
            found = asked.score([*fresh.values()], self._pass_of(parts, asked), progress)
            known |= zip(fresh, found, strict=True)
        scores = torch.stack([known[name] for name in names])
        progress((len(cells) - len(fresh)) * scores.shape[1])
        return scores

    def forget_passes(self) -> None:
        """Free their memory; scores stay."""
        self._ready.clear()
        self._sizes.clear()

    def _pass_of(self, parts: Anatomy, asked: AskedPrompts) -> Ready | None:
        if asked.name not in self._ready:
            size = kept_size(parts, asked.shared, asked.edited)
            if sum(self._sizes.values()) + size > kept_room(parts):
                return None
            self._ready[asked.name] = asked.run(range(len(parts.blocks) + 1))
            self._sizes[asked.name] = size
        return self._ready[asked.name]
