"""Which tokens of a forward pass a scope means."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tillerman.core.errors import UsageError
from tillerman.core.plan import Scope
from tillerman.models.batches import Batch
from tillerman.models.forward import ForwardInfo
from tillerman.models.generating import Prompt
from tillerman.steering.spans import CodeReader, tag_ends, thinking_spans

_UNKNOWN = -(2**40)  # a length that no position matches
OF_GENERATED = {
    "all": True,
    "generated": True,
    "after_instruction": True,
    "assistant_turns": True,
    "prompt": False,
    "last": False,
}


class Sequences:
    """Remembers where the prompt ends, over the passes of one stream.

    ``prompt`` is what ``generate`` was given: every later column is generated, with any cache or none. Without it, a
    pass that starts at column 0 is a prompt, and what follows it over the cache counts as generated.
    """

    def __init__(self, *, keep_text: bool = False, prompt: Prompt | None = None) -> None:
        self._prompt = prompt
        self._prompt_columns = 0
        self._lengths: Int[Tensor, " b"] = torch.tensor([_UNKNOWN])
        self._whole: ForwardInfo | None = None  # the prompt, where a pass holds a part of it
        self._begun = False
        self.fresh = False  # this pass begins a prompt that no pass has shown before
        self._keep_text = keep_text
        self._told: Int[Tensor, "b k"] | None = None
        self._text: _Text | None = None
        self._readers: dict[Scope, CodeReader] = {}

    @property
    def prompt_columns(self) -> int:
        return self._prompt_columns

    def tell(self, tokens: Int[Tensor, "b k"]) -> None:
        """All tokens up to the coming pass, as ``generate`` knows them: beams change rows between passes."""
        self._told = tokens

    def observe(self, info: ForwardInfo) -> None:
        """Learn where the prompt ends from a pass."""
        columns = info.columns.stop if self._prompt is None else self._prompt.columns
        self.fresh = info.past == 0 if self._prompt is None else not self._begun
        self._begun, self._whole = True, None
        if info.past == 0 or (self._prompt is not None and info.past < columns):
            self._prompt_columns = columns
            self._whole = _whole_prompt(self._prompt, info)
            if self._whole is not None:
                self._lengths = self._whole.real.sum(1)
            else:
                inside = _columns(info) < columns
                lengths = (info.positions * (info.real & inside)).amax(1) + 1
                ended = info.columns.stop >= columns  # a prompt given in chunks ends in its last one
                self._lengths = lengths if ended else torch.full_like(lengths, _UNKNOWN)
        if self._keep_text:
            grown = _grown(self._text, info, self._told)
            self._text = grown if self._whole is None else _told_by_prompt(grown, self._whole)
        self._told = None

    def text(self) -> tuple[Int[Tensor, "b k"], Bool[Tensor, "b k"]]:
        """All tokens up to this pass's last, and which of them are real."""
        if self._text is None or self._text.tokens is None:
            raise UsageError("a look ahead reads token ids; this call gives embeddings")
        if bool((self._text.tokens < 0).any()):
            raise UsageError("a look ahead needs the whole text: run the prompt inside the block")
        return self._text.tokens, self._text.real

    def means_none(self, scope: Scope, info: ForwardInfo) -> bool:
        """Whether the scope means no token of this pass, where that is known without a look at the tokens."""
        return info.past >= self._prompt_columns and OF_GENERATED.get(scope.name) is False

    def mask(self, scope: Scope, info: ForwardInfo) -> Bool[Tensor, "b s"]:
        """True for the tokens of this pass that the scope means; never for padding."""
        if info.past >= self._prompt_columns and scope.name in OF_GENERATED:  # the steps of ``generate``
            return info.real if OF_GENERATED[scope.name] else torch.zeros_like(info.real)
        return info.real & self._chosen(scope, info, _columns(info) >= self._prompt_columns)

    def _chosen(self, scope: Scope, info: ForwardInfo, generated: Tensor) -> Tensor:
        if scope.name == "all":
            return torch.ones_like(info.real)
        if scope.name == "prompt":
            return (~generated).expand_as(info.real)
        if scope.name in ("after_instruction", "assistant_turns"):
            find = _from_marker if scope.name == "after_instruction" else _in_turns
            whole = self._whole
            if whole is None or whole.tokens is None:
                return generated | find(scope, info, ~generated)
            return generated | _spread(find(scope, whole, torch.ones_like(whole.real[0])), info)
        if scope.name in ("thinking", "not_in_code"):
            return self._in_text(scope, info)
        rows = info.real.shape[0]
        # A cache with other rows than the prompt's: its tokens come after the prompt, so no length is needed.
        known = self._lengths if len(self._lengths) in (1, rows) else info.positions.new_full((1,), _UNKNOWN)
        lengths = known.to(info.real.device).expand(rows)[:, None]
        if scope.name in ("last", "generated"):
            last = (info.positions == lengths - 1) & ~generated
            return last | generated if scope.name == "generated" else last
        wanted = [torch.full_like(lengths, p) if p >= 0 else lengths + p for p in scope.positions]
        return torch.stack([info.positions == w for w in wanted]).any(0)

    def _in_text(self, scope: Scope, info: ForwardInfo) -> Bool[Tensor, "b s"]:
        """The scopes that follow the text, over all columns so far: from the marker on where there is one."""
        if self._text is None or self._text.tokens is None:
            raise UsageError(f"scope '{scope.name}' reads token ids; this call gives embeddings")
        tokens, real = self._text.tokens, self._text.real
        if self._whole is not None and self._whole.tokens is not None:  # what comes later may matter: the marker
            tokens, real = (
                torch.cat([done, whole[:, done.shape[1] :]], 1)
                for done, whole in ((tokens, self._whole.tokens), (real, self._whole.real))
            )
        generated = torch.arange(tokens.shape[1], device=tokens.device) >= self._prompt_columns
        whole = ForwardInfo(0, real, tokens)
        reach = real
        if scope.marker:
            reach = real & (generated | _from_marker(scope, whole, ~generated))
        if scope.name == "thinking":
            return _spread(thinking_spans(scope, tokens, reach), info)
        if scope not in self._readers:
            self._readers[scope] = CodeReader(scope)
        return _spread(reach & ~self._readers[scope].inside(tokens, reach), info)


def _columns(info: ForwardInfo) -> Int[Tensor, " s"]:
    """Made on the device: a list from here would have to wait for it."""
    return torch.arange(info.columns.start, info.columns.stop, device=info.real.device)


@dataclass(frozen=True)
class _Text:
    """All columns so far. Columns that were cached before the block and never told are not real."""

    tokens: Int[Tensor, "b k"] | None  # None once a pass gave embeddings
    real: Bool[Tensor, "b k"]


def _grown(before: _Text | None, info: ForwardInfo, told: Int[Tensor, "b k"] | None) -> _Text:
    """The text with this pass's tokens; a cache spread over more rows spreads its text too."""
    rows, past = len(info.real), info.past
    tokens, real = (None, info.real[:, :0]) if before is None else (before.tokens, before.real)
    if past == 0 or rows % len(real):
        tokens, real = info.real[:, :0].long(), info.real[:, :0]
    elif len(real) != rows:
        real = real.repeat_interleave(rows // len(real), 0)
        tokens = None if tokens is None else tokens.repeat_interleave(rows // len(tokens), 0)
    fits = told is not None and told.shape == (rows, info.columns.stop)
    unseen = max(0, past - real.shape[1])
    real = torch.cat([real.new_full((rows, unseen), fits), real[:, :past], info.real], 1)
    if fits:
        return _Text(told, real)
    if info.tokens is None or (tokens is None and past > 0 and before is not None):
        return _Text(None, real)
    old = info.tokens.new_full((rows, past), -1) if tokens is None or unseen else tokens[:, :past]
    return _Text(torch.cat([old, info.tokens], 1), real)


def _whole_prompt(prompt: Prompt | None, info: ForwardInfo) -> ForwardInfo | None:
    """The whole prompt, where this pass holds only a part of it (chunks, or the rest after a cached beginning)."""
    if prompt is None or (info.past == 0 and info.columns.stop >= prompt.columns):
        return None
    rows, seen = len(info.real), info.seen[:, : prompt.columns]
    given = [None if one is None or rows % len(one) else one for one in (prompt.tokens, prompt.mask)]
    tokens, mask = (None if one is None else one.repeat_interleave(rows // len(one), 0) for one in given)
    coming = (seen.new_ones(rows, prompt.columns) if mask is None else mask.bool())[:, seen.shape[1] :]
    return ForwardInfo(
        0, torch.cat([seen, coming.to(seen.device)], 1), None if tokens is None else tokens.to(seen.device)
    )


def _told_by_prompt(text: _Text, whole: ForwardInfo) -> _Text:
    """The text with the prompt's columns as ``generate`` was given them, cached ones among them."""
    if whole.tokens is None or text.tokens is None:
        return text
    columns = min(whole.real.shape[1], text.real.shape[1])
    return _Text(
        torch.cat([whole.tokens[:, :columns], text.tokens[:, columns:]], 1),
        torch.cat([whole.real[:, :columns], text.real[:, columns:]], 1),
    )


def _spread(found: Bool[Tensor, "b k"], info: ForwardInfo) -> Bool[Tensor, "b s"]:
    """What was found over columns from the first on, at those of this pass; nothing at columns beyond them."""
    here = found[:, info.past : info.columns.stop]
    missing = info.real.shape[1] - here.shape[1]
    return here if missing == 0 else torch.cat([here, here.new_zeros(len(here), missing)], 1)


def meant_in(scope: Scope, batch: Batch) -> Bool[Tensor, "b s"]:
    """The tokens of whole prompts that a scope means."""
    info = ForwardInfo(0, batch.mask.bool(), batch.tokens)
    sequences = Sequences()
    sequences.observe(info)
    return sequences.mask(scope, info)


def meant_after(scope: Scope, batch: Batch, steps: int) -> Bool[Tensor, "b a"]:
    """Which of the first ``steps`` tokens that follow each of these left-padded prompts a scope means."""
    prompt = ForwardInfo(0, batch.mask.bool(), batch.tokens)
    new = torch.zeros(len(batch.tokens), steps, dtype=torch.long)  # no scope that gets here looks at these tokens
    info = ForwardInfo(batch.tokens.shape[1], torch.cat([prompt.seen, torch.ones_like(new, dtype=torch.bool)], 1), new)
    sequences = Sequences()
    for one in (prompt, info):
        sequences.observe(one)
    return sequences.mask(scope, info)


def _from_marker(scope: Scope, info: ForwardInfo, prompt: Bool[Tensor, " s"]) -> Bool[Tensor, "b s"]:
    """From the marker's last occurrence in each row's prompt on; nothing where it does not occur. Padding
    and what the model itself says are no instruction, whatever tokens they are."""
    marker = scope.marker
    if not marker:
        raise UsageError(
            "scope 'after_instruction' needs the tokens that end the instruction: "
            "tillerman.after_instruction(tokenizer) makes the scope from the chat template"
        )
    if info.tokens is None:
        raise UsageError("scope 'after_instruction' reads token ids; this call gives embeddings")
    columns = torch.arange(info.real.shape[1], device=info.real.device)
    ends = tag_ends(marker, info.tokens, info.real & prompt)
    last = torch.where(ends, columns, -1).amax(1, keepdim=True) if len(columns) else columns[None]
    return (last >= 0) & (columns > last - len(marker))


def _in_turns(scope: Scope, info: ForwardInfo, prompt: Bool[Tensor, " s"]) -> Bool[Tensor, "b s"]:
    """The assistant's turns in each row's prompt, as ``core.turns.turn_spans`` has them."""
    if not scope.marker or len(scope.closing) != 1:
        raise UsageError(
            "scope 'assistant_turns' needs the tokens that open an answer and the one that ends it: "
            "tillerman.assistant_turns(tokenizer) makes the scope from the chat template"
        )
    if info.tokens is None:
        raise UsageError("scope 'assistant_turns' reads token ids; this call gives embeddings")
    reach, size = info.real & prompt, len(scope.marker)
    columns = torch.arange(info.real.shape[1], device=info.real.device).expand_as(info.tokens)
    opened = torch.where(tag_ends(scope.marker, info.tokens, reach), columns - size + 1, -1)
    opened = torch.cat([opened[:, size - 1 :], opened.new_full((len(opened), size - 1), -1)], 1)  # where it begins
    closed = torch.where(tag_ends(scope.closing, info.tokens, reach), columns, -1)
    return reach & (opened.cummax(1).values > closed.cummax(1).values)
