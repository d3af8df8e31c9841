"""Gates on a live model: decided on the prompt, kept for what follows, row by row. And monitors, which follow the
answer too."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tillerman.core.errors import UsageError
from tillerman.core.gates import PromptGate
from tillerman.core.monitors import Monitor
from tillerman.core.plan import Scope
from tillerman.models.forward import ForwardInfo
from tillerman.steering.following import Following
from tillerman.steering.scopes import Sequences

_ONE_TEXT = (
    "a monitor follows one text in each row of the batch, and here a row has become another text (beams, a rejected "
    "draft, another number of rows): generate without num_beams and assistant_model"
)
_NEVER = 2**62  # a column that no text has


class Gatekeeper:
    """Remembers each gate's decision and what each monitor has read. Without a cache every step reads the whole text
    again; what was read first counts."""

    def __init__(self) -> None:
        self._open: dict[PromptGate, Bool[Tensor, " b"]] = {}
        self._followed: dict[Monitor, list[Following]] = {}
        self._columns: dict[Monitor, int] = {}  # up to where each has read
        self._told: Int[Tensor, "b k"] | None = None
        self._prompt = 0  # columns of the prompt

    def copy(self) -> Gatekeeper:
        """The same decisions and readings, to go on from."""
        twin = Gatekeeper()
        twin._open, twin._columns = dict(self._open), dict(self._columns)
        twin._told, twin._prompt = self._told, self._prompt
        twin._followed = {monitor: [one.copy() for one in rows] for monitor, rows in self._followed.items()}
        return twin

    def observe(self, sequences: Sequences) -> None:
        if sequences.fresh:
            self._open.clear()
            self._followed.clear()
            self._columns.clear()
            self._prompt = sequences.prompt_columns

    def tell(self, tokens: Int[Tensor, "b k"]) -> None:
        """The text up to the coming pass. ``UsageError`` where rows have changed places under a monitor."""
        if tokens.shape[1] < self._prompt:  # a piece of the prompt
            self._told = None
            return
        before, self._told = self._told, tokens
        if self._followed and before is not None and not _goes_on(tokens, before):
            raise UsageError(_ONE_TEXT)

    def read(self, gate: PromptGate, h: Float[Tensor, "b s d"], sequences: Sequences, info: ForwardInfo) -> None:
        """Decide, in the pass that holds the prompt; other passes change nothing."""
        if not sequences.fresh or gate in self._open:
            return
        if info.past > 0 or info.columns.stop < sequences.prompt_columns:
            raise UsageError(
                f"the gate ({gate}) is decided on the whole prompt, and this pass holds a part of it: "
                "give the prompt in one pass, inside the block"
            )
        chosen = sequences.mask(Scope("last" if gate.read == "last" else "prompt"), info).to(h.device)[..., None]
        # where, not multiply: what stands in padding may be NaN
        total = torch.where(chosen, h.detach().float(), 0.0).sum(1)
        self._open[gate] = gate.opens(total / chosen.sum(1).clamp(min=1))

    def open(self, gate: PromptGate, rows: int) -> Bool[Tensor, " b"]:
        if gate not in self._open:
            raise UsageError(f"the gate ({gate}) has read no prompt: run the prompt inside the block, in one pass")
        known = self._open[gate]
        if rows % len(known):
            raise UsageError(f"the gate ({gate}) was decided for {len(known)} rows, this pass has {rows}")
        return known.repeat_interleave(rows // len(known))

    def follow(
        self, monitor: Monitor, h: Float[Tensor, "b s d"], sequences: Sequences, info: ForwardInfo
    ) -> list[Following]:
        """Read the tokens of this pass that are new; gives what is known of each row."""
        if monitor not in self._followed:
            if not sequences.fresh and info.past > 0:
                raise UsageError(
                    f"the monitor ({monitor}) meets the middle of a text: run its prompt inside the block too"
                )
            self._followed[monitor] = [Following(monitor) for _ in range(len(h))]
        rows, done = self._followed[monitor], self._columns.get(monitor, 0)
        first, stop = info.columns.start, info.columns.stop
        if len(rows) != len(h) or 0 < first < done:
            raise UsageError(_ONE_TEXT)
        if stop <= done:  # run anew
            return rows
        self._columns[monitor], prompt = stop, sequences.prompt_columns
        seen = monitor.projections(h.detach())
        if first < prompt and done < prompt:
            last = sequences.mask(Scope("last"), info).to(h.device)
            ended, values = last.any(1).tolist(), torch.where(last, seen, 0.0).sum(1).tolist()
            for row, there, value in zip(rows, ended, values, strict=True):
                if there:
                    row.see_prompt(value)
        new = seen[:, max(done, prompt) - first :] if stop > prompt else seen[:, :0]
        for row, answer in zip(rows, new.tolist(), strict=True):
            for value in answer:
                row.see(value)
        return rows

    def after(self, monitor: Monitor, sequences: Sequences, info: ForwardInfo) -> Bool[Tensor, "b s"]:
        """The tokens of this pass that come after the one with which their row has crossed."""
        rows = self._followed.get(monitor)
        if rows is None:  # its hook point comes later in this pass, the first one
            return torch.zeros_like(info.real)
        begins = [_NEVER if row.crossed is None else sequences.prompt_columns + row.crossed for row in rows]
        device = info.real.device
        columns = torch.arange(info.columns.start, info.columns.stop, device=device)
        return columns >= torch.tensor(begins, device=device)[:, None]


def _goes_on(now: Int[Tensor, "b now"], before: Int[Tensor, "b before"]) -> bool:
    return now.shape[1] >= before.shape[1] and torch.equal(now[:, : before.shape[1]], before)
