"""Which tokens of a forward pass a scope means."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tillerman.core.errors import UsageError
from tillerman.core.plan import Scope
from tillerman.models.batches import Batch
from tillerman.models.forward import ForwardInfo

_UNKNOWN = -(2**40)  # a length that no position matches


class Sequences:
    """Remembers where the prompt ends, over all forward passes inside one ``with`` block.

    ``generating`` is told the number of prompt columns by the wrapper of ``generate``; every later
    column is generated, with any cache or none. Outside ``generate``, a pass that starts at column 0
    is a prompt, and what follows it over the cache counts as generated.
    """

    def __init__(self) -> None:
        self._declared: int | None = None
        self._prompt_columns = 0
        self._lengths: Int[Tensor, " b"] = torch.tensor([_UNKNOWN])

    def declare(self, columns: int | None) -> int | None:
        """Set the number of prompt columns (None: not inside ``generate``); gives back the old one."""
        before, self._declared = self._declared, columns
        return before

    def observe(self, info: ForwardInfo) -> None:
        """Learn where the prompt ends from a pass."""
        columns = self._declared if self._declared is not None else info.columns.stop
        if info.past == 0 or (self._declared is not None and info.past < columns):
            self._prompt_columns = columns
            inside = torch.tensor([c < columns for c in info.columns], device=info.real.device)
            lengths = (info.positions * (info.real & inside)).amax(1) + 1
            whole = info.columns.stop >= columns  # a prompt given in chunks ends in its last one
            self._lengths = lengths if whole else torch.full_like(lengths, _UNKNOWN)

    def mask(self, scope: Scope, info: ForwardInfo) -> Bool[Tensor, "b s"]:
        """True for the tokens of this pass that the scope means; never for padding."""
        generated = torch.tensor([c >= self._prompt_columns for c in info.columns], device=info.real.device)
        return info.real & self._chosen(scope, info, generated)

    def _chosen(self, scope: Scope, info: ForwardInfo, generated: Tensor) -> Tensor:
        if scope.name == "all":
            return torch.ones_like(info.real)
        if scope.name == "prompt":
            return (~generated).expand_as(info.real)
        if scope.name == "generated":
            return generated.expand_as(info.real)
        if scope.name == "after_instruction":
            return generated | _from_marker(scope.marker, info, ~generated)
        rows = info.real.shape[0]
        # A cache with other rows than the prompt's: its tokens come after the prompt, so no length is needed.
        known = self._lengths if len(self._lengths) in (1, rows) else torch.tensor([_UNKNOWN])
        lengths = known.to(info.real.device).expand(rows)[:, None]
        if scope.name == "last":
            return (info.positions == lengths - 1) & ~generated
        wanted = [torch.full_like(lengths, p) if p >= 0 else lengths + p for p in scope.positions]
        return torch.stack([info.positions == w for w in wanted]).any(0)


def meant_in(scope: Scope, batch: Batch) -> Bool[Tensor, "b s"]:
    """The tokens of whole prompts that a scope means."""
    info = ForwardInfo(0, batch.mask.bool(), batch.positions, batch.tokens)
    sequences = Sequences()
    sequences.observe(info)
    return sequences.mask(scope, info)


def _from_marker(marker: tuple[int, ...], info: ForwardInfo, prompt: Bool[Tensor, " s"]) -> Bool[Tensor, "b s"]:
    """From the marker's last occurrence in each row's prompt on; nothing where it does not occur. Padding
    and what the model itself says are no instruction, whatever tokens they are."""
    if not marker:
        raise UsageError(
            "scope 'after_instruction' needs the tokens that end the instruction: "
            "tillerman.after_instruction(tokenizer) makes the scope from the chat template"
        )
    if info.tokens is None:
        raise UsageError("scope 'after_instruction' reads token ids; this call gives embeddings")
    found = torch.zeros_like(info.real)
    size = len(marker)
    if info.tokens.shape[1] < size:
        return found
    windows = info.tokens.unfold(1, size, 1)
    match = (windows == torch.tensor(marker, device=windows.device)).all(-1)
    match &= (info.real & prompt).unfold(1, size, 1).all(-1)
    for row in range(match.shape[0]):
        at = match[row].nonzero()
        if len(at):
            found[row, int(at[-1]) :] = True
    return found
