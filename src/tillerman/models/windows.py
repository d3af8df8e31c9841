"""Prompts in which one stretch of tokens, the window, is free: run with many fillings at once, and differentiated
with respect to the filling. Knows no plan: steering that runs around a pass acts on it, or edits are handed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tillerman.core.hookpoint import HookPoint
from tillerman.models.batches import Batch, token_budget
from tillerman.models.branches import Branches, Stem, pass_over, run_stem, unshared
from tillerman.models.edit import Edit
from tillerman.models.gradients import only_wanted
from tillerman.models.head import all_logits, token_logprobs
from tillerman.models.opened import OpenModel


@dataclass(frozen=True)
class Window:
    """``width`` free tokens between what stands before them (at least one token) and after them."""

    before: tuple[int, ...]
    width: int
    after: tuple[int, ...]

    def filled(self, tokens: Sequence[int]) -> tuple[int, ...]:
        return (*self.before, *tokens, *self.after)

    @property
    def start(self) -> int:
        """The column that predicts the window's first token."""
        return len(self.before) - 1


@dataclass(frozen=True, eq=False)
class OpenWindow:
    """A window on a live model. The ``stem`` holds what all fillings share and was run once, or nothing; ``edits``
    act on the columns after it."""

    opened: OpenModel
    window: Window
    stem: Stem
    edits: Mapping[HookPoint, Edit]

    @property
    def rows(self) -> int:
        """How many fillings a pass holds."""
        lead = len(self.window.before) - self.stem.real.shape[1]
        return max(1, token_budget(self.opened.parts) // (lead + self.window.width + len(self.window.after)))

    def hidden(self, tokens: Int[Tensor, "n w"], soft: Float[Tensor, "n w v"] | None = None) -> Float[Tensor, "n q d"]:
        """What the decoder gives from the token before the window on, under the grad mode of the caller. ``soft``:
        weights over the vocabulary that take the place of each window token's one-hot vector."""
        parts, window, shared = self.opened.parts, self.window, self.stem.real.shape[1]
        row = torch.tensor(window.filled([0] * window.width)[shared:], device=parts.device).repeat(len(tokens), 1)
        first = len(window.before) - shared
        here = slice(first, first + window.width)
        row[:, here] = tokens.to(parts.device)
        step = torch.arange(row.shape[1], device=parts.device).expand_as(row)
        with _embedded(self.opened, here, soft):
            out = pass_over(parts, self.stem, Branches(row, torch.zeros_like(row), step), self.edits)
        return out[:, first - 1 :]

    def next_logits(self, hidden: Float[Tensor, "n q d"]) -> Float[Tensor, "n v"]:
        """Of the token that follows the prompt."""
        return all_logits(self.opened.parts, hidden[:, -1]).float()

    def cross_entropy(
        self, hidden: Float[Tensor, "n q d"], tokens: Int[Tensor, "n w"], soft: Float[Tensor, "n w v"] | None = None
    ) -> Float[Tensor, " n"]:
        """Mean ``-log p`` of the window's tokens given all before each, in nats; of ``soft`` its expectation."""
        predicting = hidden[:, : self.window.width]
        if soft is not None:
            return -(soft * all_logits(self.opened.parts, predicting).float().log_softmax(-1)).sum(-1).mean(1)
        flat = token_logprobs(self.opened.parts, predicting.flatten(0, 1)[:, None], tokens.to(hidden.device).flatten())
        return -flat.reshape(tokens.shape).mean(1)


@torch.inference_mode(False)  # a later pass may want gradients
def open_window(
    opened: OpenModel, window: Window, *, edits: Mapping[HookPoint, Edit] | None = None, shared: bool = True
) -> OpenWindow:
    """A window on a model. ``shared``: all before the token that predicts the window runs once, unsteered; so no
    steering may mean a token of it. Else every filling runs the whole prompt."""
    ids = torch.tensor([window.before[: max(1, window.start)]])
    batch = Batch(torch.zeros(1, dtype=torch.long), ids, torch.ones_like(ids))
    stem = run_stem(opened.parts, batch, 0) if shared and window.start else unshared(opened.parts, batch)
    return OpenWindow(opened, window, stem, edits or {})


def vocabulary(opened: OpenModel) -> int:
    """Rows of the embedding; a tokenizer may know fewer tokens."""
    embedding: Any = opened.model.get_input_embeddings()
    return int(embedding.weight.shape[0])


def one_hot(opened: OpenModel, tokens: Int[Tensor, "n w"]) -> Float[Tensor, "n w v"]:
    found = torch.nn.functional.one_hot(tokens, vocabulary(opened))
    return found.to(opened.device, opened.parts.causal.dtype)


@contextmanager
def frozen_weights(opened: OpenModel) -> Iterator[None]:
    """Gradients are on, and no weight wants one."""
    with torch.inference_mode(False), only_wanted(opened.parts, ()):
        yield


@contextmanager
def _embedded(opened: OpenModel, columns: slice, soft: Float[Tensor, "n w v"] | None) -> Iterator[None]:
    """The window's embeddings are mixtures of the vocabulary's."""
    if soft is None:
        yield
        return
    embedding: nn.Module = opened.model.get_input_embeddings()
    with torch.no_grad():  # asked, not read: some families scale what they look up
        table = embedding(torch.arange(soft.shape[2], device=soft.device))

    def mixed(_: nn.Module, __: Any, out: Tensor) -> Tensor:
        return torch.cat([out[:, : columns.start], soft @ table, out[:, columns.stop :]], dim=1)

    handle = embedding.register_forward_hook(mixed)
    try:
        yield
    finally:
        handle.remove()
