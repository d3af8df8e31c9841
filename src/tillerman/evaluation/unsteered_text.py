"""What the unsteered model does on windows of text: run once, however many plans are held against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tillerman.models.batches import Batch
from tillerman.models.head import Predictions
from tillerman.models.logits import kept_text_predictions
from tillerman.models.opened import OpenModel
from tillerman.models.restart import Restart

KEPT = 8  # places between blocks whose activations are kept


@dataclass(frozen=True, eq=False)
class Unsteered:
    """What every token of some windows says of the next one, and what enters blocks some way apart."""

    said: Predictions
    entering: Mapping[int, Restart]

    def before(self, border: int) -> Restart | None:
        """Where a pass may begin that is the unsteered one below this block: the last place that was kept."""
        return self.entering.get(max((kept for kept in self.entering if kept <= border), default=-1))


@dataclass(frozen=True, eq=False)
class UnsteeredText:
    """The passes of one model over batches of windows. Kept are activations, and logits of a batch of one window alone,
    which is what a search asks of every cell first. Where the head cannot be asked alone, a batch runs anew each
    time."""

    opened: OpenModel
    _known: dict[tuple[int, ...], Unsteered] = field(default_factory=dict)

    def of(self, batch: Batch, border: int | None = None) -> Unsteered:
        """Of a batch of whole windows, which its rows name. ``border``: the only block that passes over it are known to
        begin at (a pass that begins below it runs all blocks); None: they may begin anywhere."""
        name = tuple(batch.rows.tolist())
        if name in self._known:
            return self._known[name]
        borders = self._borders if border is None else [max(b for b in (0, *self._borders) if b <= border)]
        found = Unsteered(*kept_text_predictions(self.opened, batch.tokens, [b for b in borders if b]))
        if found.said.hidden:
            found = replace(found, said=found.said.made()) if len(name) == 1 else found
            self._known[name] = found
        return found

    def forget(self) -> None:
        """Free the passes' memory."""
        self._known.clear()

    @property
    def _borders(self) -> list[int]:
        count = len(self.opened.parts.blocks)
        apart = -(-count // KEPT)
        return list(range(apart, count + 1, apart))
