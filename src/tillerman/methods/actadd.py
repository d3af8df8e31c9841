"""ActAdd: the difference of two prompts, token by token, added to the first tokens of any prompt
(Turner et al., arXiv 2308.10248, algorithm 1). It asks for two texts and no labels."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.errors import FitError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import Row
from tillerman.core.spec import option
from tillerman.core.steerings.sequence import SequenceSteering
from tillerman.methods.base import Context, Habits, Method
from tillerman.models.capture import capture
from tillerman.models.tokens import token_activations


@dataclass(frozen=True)
class ActAdd(Method):
    """``V_t = h_t(positive) - h_t(negative)``, the shorter text filled up with blanks on the right.

    The texts stand alone, without chat template, as in the authors' code. Train items only say how long the
    stream is there (the last token of their wanted answers), for doses.
    """

    name: ClassVar[str] = "actadd"
    habits: ClassVar[Habits] = Habits(scope="prompt", site="resid_pre")
    positive: str | None = option(None, "text that asks for the behaviour; the prompt baseline's if not given")
    negative: str = option("", "text that asks for its opposite; empty asks for nothing")

    def fit(self, context: Context) -> SequenceSteering:
        if context.items[0].example.kind == "text":
            raise FitError("ActAdd changes the tokens of a prompt; labelled texts have none: use --method caa")
        changes = _differences(context, *self.tokens(context))
        sizes = {p: change.norm(dim=-1) for p, change in changes.items()}
        if not all(float(size.max()) for size in sizes.values()):
            raise FitError(
                "the two texts have the same activations; give two that differ: actadd:positive=TEXT,negative=TEXT"
            )
        # A first token that both texts share (BOS) is not moved at all.
        norms = {p: float(size[size > 0].mean()) for p, size in sizes.items()}
        ends = capture(context.opened, [w.row(w.right) for w in context.written], context.points)
        streams = {p: float(h.norm(dim=-1).mean()) for p, h in ends.items()}
        context.progress(len(context.written))
        return SequenceSteering(norms, streams, context.provenance, changes)

    def tokens(self, context: Context) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Both texts as tokens, equally many: the shorter one goes on with blanks. There are no labels to shuffle, so
        in that null a coin says which text is the wanted one."""
        tokenizer = context.opened.tokenizer
        asking = context.prompt() if self.positive is None else self.positive
        if not asking and (self.positive is None or not self.negative):
            raise FitError(
                "ActAdd needs a text that asks for the behaviour, and no prompt was given or found that helps on "
                "validation items: give --prompt TEXT, or actadd:positive=TEXT"
            )
        texts = [asking, self.negative]
        if context.dealt is not None and random.Random(context.dealt).random() < 0.5:
            texts.reverse()
        sides = [list(tokenizer(text)["input_ids"]) for text in texts]
        blank = tokenizer(" ", add_special_tokens=False)["input_ids"]
        if len(blank) != 1 and len(sides[0]) != len(sides[1]):
            raise FitError(
                f"a blank is {len(blank)} tokens of this tokenizer, so no text can be filled up with blanks; "
                "give positive and negative texts of the same number of tokens"
            )
        longest = max(map(len, sides))
        wanted, other = (tuple(side + (longest - len(side)) * blank) for side in sides)
        return wanted, other


@torch.no_grad()
def _differences(
    context: Context, wanted: tuple[int, ...], other: tuple[int, ...]
) -> dict[HookPoint, Float[Tensor, "p d"]]:
    found = {}
    for point in context.points:
        batches = list(token_activations(context.opened, [Row(wanted), Row(other)], point, first=0))
        rows, h = (torch.cat(parts) for parts in zip(*batches, strict=True))
        found[point] = h[(rows == 0).to(h.device)] - h[(rows == 1).to(h.device)]
    return found
