"""Rows that take their next token together."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tillerman.models.opened import OpenModel
from tillerman.models.running import Manner, Running
from tillerman.serving.engines.local.row import AnswerRow
from tillerman.serving.engines.local.taking import draw
from tillerman.steering.joining import JoiningPlans, PlannedRows
from tillerman.steering.lone import LoneText

_LITTLE = 4096  # cells of padding that do not matter


class RunningBatch:
    """Rows of one model, from their prompts on. ``at_once`` tokens of prompts are run in one pass, where rows may
    join; rows of a closed batch, and prompts with a gate, are run whole."""

    def __init__(self, opened: OpenModel, manner: Manner, rows: Sequence[AnswerRow], at_once: int) -> None:
        self._opened, self._manner, self._at_once = opened, manner, at_once
        self._whole = not manner.joins or any(row.text.wants_whole_prompt for row in rows)
        self._running = Running(opened, manner, [row.box.job.prompt for row in rows])
        self.halved = False
        self._hold(rows)

    def _hold(self, rows: Sequence[AnswerRow]) -> None:
        self.rows = list(rows)
        self._gone = [row.over for row in rows]
        texts = [LoneText((), row.text.tokens) if row.over else row.text for row in rows]
        self._planned = PlannedRows(self._opened.parts, texts)

    @property
    def answering(self) -> bool:
        """Whether the prompts have been run."""
        return self._running.past > 0 and self._running.past == self._running.width - 1

    @property
    def over(self) -> bool:
        return all(row.over for row in self.rows)

    def advance(self, plans: JoiningPlans) -> None:
        """One pass: the next tokens of the prompts, or one token for every row."""
        for row in self.rows:
            if row.box.cancelled:
                row.end("cancelled")
        if self.over:
            return
        if self._gone != [row.over for row in self.rows]:
            self._hold(self.rows)
        upto = self._upto()
        running = self._running
        with plans.over(self._planned, running.reach(upto), running.tokens[:, :upto], running.info(upto)):
            logits = running.run(upto)
        if upto < running.width:
            return
        alive = [i for i, row in enumerate(self.rows) if not row.over]
        here = logits if len(alive) == len(self.rows) else logits[torch.tensor(alive, device=logits.device)]
        tokens = [0] * len(self.rows)
        for i, drawn in zip(alive, draw(here, [self.rows[i].taker for i in alive]), strict=True):
            tokens[i] = self.rows[i].take(drawn)
        running.add(tokens)

    def _upto(self) -> int:
        past, width = self._running.past, self._running.width
        return width if self._whole else min(width, past + max(1, self._at_once // len(self.rows)))

    def drop(self) -> None:
        """Leave out the rows that are over, where rows may leave."""
        alive = [i for i, row in enumerate(self.rows) if not row.over]
        if self._manner.joins and 0 < len(alive) < len(self.rows):
            self._running = self._running.keep(alive)
            self._hold([self.rows[i] for i in alive])

    def takes(self, other: RunningBatch, most: int) -> bool:
        """Whether the other's rows may join these: both are answering, they are few enough, and most of what stands
        side by side then is no padding."""
        rows, width = len(self.rows) + len(other.rows), max(self._running.width, other._running.width)
        apart = sum(len(one.rows) * one._running.width for one in (self, other))
        ready = self._manner.joins and self.answering and other.answering
        return ready and rows <= most and rows * width <= 2 * apart + _LITTLE

    def join(self, other: RunningBatch) -> None:
        self._running = self._running.join(other._running)
        self._whole = False
        self._hold([*self.rows, *other.rows])

    def halves(self) -> list[RunningBatch]:
        """Two batches with half of the rows each; none where that cannot be."""
        middle = len(self.rows) // 2
        if middle == 0 or self.halved:
            return []
        parts = range(middle), range(middle, len(self.rows))
        made = []
        for part in parts:
            rows = [self.rows[i] for i in part]
            if self._running.past == 0:
                half = RunningBatch(self._opened, self._manner, rows, self._at_once)
            elif self._manner.joins:
                half = RunningBatch.__new__(RunningBatch)
                half.__dict__.update(self.__dict__, _running=self._running.keep(list(part)))
                half._hold(rows)
            else:
                return []
            half.halved = True
            made.append(half)
        return made
