"""What a method is given that asks the model itself: its gradients, its routing, its own training."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tillerman.core.hookpoint import HookPoint
from tillerman.core.provenance import Provenance
from tillerman.core.rows import Progress, Row, silent
from tillerman.data.presenting import Item
from tillerman.data.writing import Writer, Written
from tillerman.models.opened import OpenModel

if TYPE_CHECKING:
    from tillerman.methods.cold import ColdChanges  # which itself is taught by a lesson


@dataclass(frozen=True, eq=False)
class Lesson:
    """Training items as they are shown to the model, and where it may be steered.

    ``written[i]`` is ``items[i]`` as tokens; its ``right`` is the wanted answer.
    """

    opened: OpenModel
    items: tuple[Item, ...]
    written: tuple[Written, ...]
    writer: Writer
    points: tuple[HookPoint, ...]
    provenance: Provenance
    seed: int = 0
    progress: Progress = silent
    replies: Callable[[], Sequence[Row]] = tuple  # the unsteered model's own answers, prompts included
    dealt: int | None = None  # the seed by which labels were shuffled
    prompt: str = ""  # asks for the behaviour in words
    prompt_negative: str = ""  # asks for its opposite; empty: for nothing
    cold: ColdChanges | None = None  # what COLD methods are asked for

    def shuffled(self, seed: int) -> Lesson:
        """The shuffled-label null: of every item an answer drawn at random is the wanted one."""
        chance = random.Random(seed)
        drawn = [chance.randrange(len(w.answers)) for w in self.written]
        return replace(
            self,
            items=tuple(replace(item, right=k) for item, k in zip(self.items, drawn, strict=True)),
            written=tuple(replace(w, right=k) for w, k in zip(self.written, drawn, strict=True)),
            dealt=seed,
        )
