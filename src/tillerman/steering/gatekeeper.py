"""Gates on a live model: decided on the prompt, kept for what follows, row by row."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tillerman.core.errors import UsageError
from tillerman.core.gates import Gate
from tillerman.core.plan import Scope
from tillerman.models.forward import ForwardInfo
from tillerman.steering.scopes import Sequences


class Gatekeeper:
    """Remembers each gate's decision. Without a cache every step reads the prompt again; the first counts."""

    def __init__(self) -> None:
        self._open: dict[Gate, Bool[Tensor, " b"]] = {}

    def copy(self) -> Gatekeeper:
        """The same decisions, to go on from."""
        twin = Gatekeeper()
        twin._open = dict(self._open)
        return twin

    def observe(self, sequences: Sequences) -> None:
        if sequences.fresh:
            self._open.clear()

    def read(self, gate: Gate, h: Float[Tensor, "b s d"], sequences: Sequences, info: ForwardInfo) -> None:
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

    def open(self, gate: Gate, rows: int) -> Bool[Tensor, " b"]:
        if gate not in self._open:
            raise UsageError(f"the gate ({gate}) has read no prompt: run the prompt inside the block, in one pass")
        known = self._open[gate]
        if rows % len(known):
            raise UsageError(f"the gate ({gate}) was decided for {len(known)} rows, this pass has {rows}")
        return known.repeat_interleave(rows // len(known))
