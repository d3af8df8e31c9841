"""Turning a model's answer round by a text at the end of the question: the objective of the attack on steering
(CAE, arXiv 2505.03189, finding 3)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tillerman.core.errors import UsageError
from tillerman.core.plan import Plan
from tillerman.data.presenting import Item, lengthened
from tillerman.data.writing import Writer, Written
from tillerman.models.batches import batches, token_budget
from tillerman.models.grid import branch_fault
from tillerman.models.logits import next_logprobs
from tillerman.models.opened import OpenModel
from tillerman.models.windows import OpenWindow, Window, frozen_weights, one_hot, open_window, vocabulary
from tillerman.steering.static import is_known, known_edits, meant_tokens
from tillerman.steering.steer import steer

_MARK, _FILL = "<<window>>", " the"


@dataclass(frozen=True)
class TextSlot:
    """Where in a written item a text of so many tokens may stand: at the end of the question, inside the user's
    turn. ``head`` and ``tail`` are the prompt's text around it."""

    window: Window
    head: str
    tail: str
    add_special: bool

    def prompts(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """The prompts with these texts, as the tokenizer reads them."""
        whole = [self.head + text + self.tail for text in texts]
        return list(map(tuple, tokenizer(whole, add_special_tokens=self.add_special)["input_ids"]))


def place_in(item: Item, writer: Writer, width: int) -> TextSlot:
    """``UsageError`` where the tokenizer merges what stands beside the window into it."""
    head, mark, tail = writer.after(item.example).prompt_text(lengthened(item, _MARK).prompt).rpartition(_MARK)
    before, seam, whole = (writer.encode(text) for text in (head, head + _FILL, head + _FILL + tail))
    if not mark or not before or whole[: len(seam)] != seam or seam[: len(before)] != before:
        raise UsageError("with this tokenizer or chat template no text can be appended cleanly to a question")
    return TextSlot(Window(before, width, whole[len(seam) :]), head, tail, writer.template == "none")


def allowed_tokens(opened: OpenModel) -> Bool[Tensor, " v"]:
    """Tokens a user can type: no special or added ones, none that is part of a character only."""
    size, tokenizer = vocabulary(opened), opened.tokenizer
    ids = list(range(min(size, len(tokenizer))))
    barred = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    pieces = tokenizer.batch_decode([[i] for i in ids], skip_special_tokens=False)
    out = torch.zeros(size, dtype=torch.bool)
    out[ids] = torch.tensor(
        [i not in barred and piece != "" and "\ufffd" not in piece for i, piece in zip(ids, pieces, strict=True)]
    )
    return out


@dataclass(frozen=True, eq=False)
class Reversal:
    """``f = max logit of the answers that are not wanted - max logit of all other tokens`` at the answer position,
    under a plan; X the mean cross-entropy of the window under the **unsteered** model. Above 0, an unwanted answer
    is what the model says next.

    Where the scopes leave all before the answer alone, the prompt before the window runs once for all texts, and
    the steered pass itself gives X.
    """

    opened: OpenModel
    plan: Plan
    place: TextSlot
    unwanted: tuple[int, ...]
    allowed: Bool[Tensor, " v"]
    steered: OpenWindow
    plain: OpenWindow | None  # None: the steered pass reads the window as the unsteered model does

    @classmethod
    def of(
        cls,
        opened: OpenModel,
        plan: Plan,
        place: TextSlot,
        written: Written,
        allowed: Bool[Tensor, " v"],
        *,
        share: bool = True,
    ) -> Reversal:
        """``share`` False runs the whole prompt every time, whatever the scopes leave alone."""
        window = place.window
        meant = meant_tokens(plan, window.filled(window.before[-1:] * window.width)) if is_known(plan) else {}
        early = not is_known(plan) or any(bool(m[: window.start + window.width].any()) for m in meant.values())
        can = share and branch_fault(opened) is None
        plain = open_window(opened, window, shared=can) if early else None
        if can and is_known(plan) and not any(bool(m[: window.start].any()) for m in meant.values()):
            edits = known_edits(plan, {scope: m[window.start :] for scope, m in meant.items()})
            return cls(opened, (), place, unwanted(written), allowed, open_window(opened, window, edits=edits), plain)
        return cls(opened, plan, place, unwanted(written), allowed, open_window(opened, window, shared=False), plain)

    @property
    def width(self) -> int:
        return self.place.window.width

    def scores(self, tokens: Int[Tensor, "n w"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        values, entropies = [], []
        with torch.inference_mode():
            for some in tokens.split(self.steered.rows):  # type: ignore[no-untyped-call]
                f, x = self._both(some, None)
                values.append(f)
                entropies.append(x)
        return torch.cat(values).cpu(), torch.cat(entropies).cpu()

    def soft_scores(
        self, tokens: Int[Tensor, "n w"], soft: Float[Tensor, "n w v"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """f and X as functions of weights over the vocabulary in the place of one-hot vectors."""
        return self._both(tokens, soft)

    def gradient(self, tokens: Int[Tensor, "m w"], weights: Float[Tensor, " m"]) -> Float[Tensor, "m w v"]:
        with frozen_weights(self.opened):
            soft = one_hot(self.opened, tokens).requires_grad_()
            f, x = self._both(tokens, soft)
            (slope,) = torch.autograd.grad((f - weights.to(x.device) * x).sum(), soft)
        return slope.float().cpu()

    def survives(self, tokens: Int[Tensor, "n w"]) -> Bool[Tensor, " n"]:
        rows = tokens.tolist()
        texts = self.opened.tokenizer.batch_decode(rows, clean_up_tokenization_spaces=False)
        read = self.place.prompts(self.opened.tokenizer, texts)
        # Templates may strip a user's turn.
        kept = [
            ids == self.place.window.filled(row) and text == text.rstrip()
            for ids, row, text in zip(read, rows, texts, strict=True)
        ]
        return torch.tensor(kept, dtype=torch.bool)

    def _both(self, tokens: Tensor, soft: Tensor | None) -> tuple[Tensor, Tensor]:
        with self._steering():
            hidden = self.steered.hidden(tokens, soft)
        f = margin(self.steered.next_logits(hidden), self.unwanted)
        if self.plain is None:
            return f, self.steered.cross_entropy(hidden, tokens, soft)
        return f, self.plain.cross_entropy(self.plain.hidden(tokens, soft), tokens, soft)

    def _steering(self) -> AbstractContextManager[object]:
        return steer(self.opened.model, self.plan) if self.plan else nullcontext()


def unwanted(written: Written) -> tuple[int, ...]:
    """The first tokens of all answers but the wanted one."""
    if written.whole:
        raise UsageError(
            "the answers share their first token, or are texts: an attack needs answers that differ in "
            "their first token; try `as_choice`, or lettered questions"
        )
    return tuple(answer[0] for k, answer in enumerate(written.answers) if k != written.right)


def margin(logits: Float[Tensor, "n v"], unwanted: Sequence[int]) -> Float[Tensor, " n"]:
    """``max over the unwanted - max over all others``."""
    chosen = torch.tensor(unwanted, device=logits.device)
    return logits[:, chosen].amax(1) - logits.index_fill(1, chosen, -torch.inf).amax(1)


@torch.inference_mode()
def margins(
    opened: OpenModel, prompts: Sequence[tuple[int, ...]], written: Sequence[Written], plan: Plan
) -> Float[Tensor, " n"]:
    """f of whole prompts under a plan."""
    out = torch.empty(len(prompts))
    with steer(opened.model, plan) if plan else nullcontext():
        for batch in batches(prompts, pad=opened.pad_id, budget=token_budget(opened.parts)):
            logprobs = next_logprobs(opened, batch)
            for at, i in enumerate(batch.rows.tolist()):
                out[i] = margin(logprobs[at : at + 1], unwanted(written[i]))[0]
    return out
