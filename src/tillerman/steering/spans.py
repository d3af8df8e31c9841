"""Spans of a text as it grows: thoughts between tags, fenced code and JSON tool calls."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tillerman.core.errors import UsageError
from tillerman.core.plan import Scope

_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})")
_CALL_TAGS = ("[TOOL_CALLS]",)  # Mistral; the JSON that follows begins the call
_JSON_START = re.compile(r"\s*(\[?)\s*")
_CALLS = {"<tool_call>": "</tool_call>", "<|python_tag|>": "<|eom_id|>"}  # Qwen, Hermes; Llama 3


def thinking_spans(scope: Scope, tokens: Int[Tensor, "b k"], reach: Bool[Tensor, "b k"]) -> Bool[Tensor, "b k"]:
    """True from the token that completes the opening tag to the one before the closing tag is complete."""
    if not scope.opening or not scope.closing:
        raise UsageError("scope 'thinking' needs the model's tags: tillerman.thinking(tokenizer) makes the scope")
    columns = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)

    def last(tag: tuple[int, ...]) -> Tensor:
        ends = tag_ends(tag, tokens, reach)
        return torch.where(ends, columns, -1).cummax(1).values

    return reach & (last(scope.opening) > last(scope.closing))


def tag_ends(tag: tuple[int, ...], tokens: Int[Tensor, "b k"], reach: Bool[Tensor, "b k"]) -> Bool[Tensor, "b k"]:
    """Where the tag is complete, all of it within reach. Token by token: no list has to go to the device."""
    found = torch.zeros_like(reach)
    wide = tokens.shape[1] - len(tag) + 1
    if wide > 0:
        each = [(tokens[:, at : at + wide] == token) & reach[:, at : at + wide] for at, token in enumerate(tag)]
        found[:, len(tag) - 1 :] = torch.stack(each).all(0)
    return found


@dataclass(frozen=True)
class Code:
    """Where a reader of the text stands after a character; ``inside`` code or a call.

    A fence is a line that begins with three or more backticks or tildes; it is closed by a line of as many,
    and nothing else, once that line ends. A call is a JSON object (or a list of them) that begins a line,
    or what stands between a model's call tags.
    """

    line: str = ""  # of the current line, what is read so far
    fence: str = ""
    first: bool = False  # on the line that opens the fence
    depth: int = 0  # open brackets of the JSON value
    string: bool = False  # in a JSON string
    escaped: bool = False
    closing: str = ""  # the tag that ends the call

    @property
    def inside(self) -> bool:
        return bool(self.fence or self.depth or self.closing)

    def read(self, text: str) -> Code:
        state = self
        for character in text:
            state = state._next(character)
        return state

    def _next(self, c: str) -> Code:
        line = "" if c == "\n" else self.line + c
        moved = replace(self, line=line)
        if self.closing:
            return Code(line="") if line.endswith(self.closing) else moved
        if self.depth:
            return moved._in_json(c)
        if self.fence:
            return moved._in_fence(c, self.line)
        return moved._in_prose(c)

    def _in_fence(self, c: str, before: str) -> Code:
        if self.first:  # the line that opens: the fence is as long as its run of characters
            run = _FENCE.fullmatch(self.line)
            return replace(self, fence=run[1] if run else self.fence, first=c != "\n")
        said = before.strip()
        closed = c == "\n" and len(said) >= len(self.fence) and set(said) == {self.fence[0]}
        return Code() if closed else self

    def _in_prose(self, c: str) -> Code:
        for opening, closing in _CALLS.items():
            if self.line.endswith(opening):
                return replace(self, closing=closing)
        fence = _FENCE.fullmatch(self.line)
        if fence:
            return replace(self, fence=fence[1], first=True)
        if c == "{":
            before = self.line[:-1]
            for tag in _CALL_TAGS:
                before = before.rpartition(tag)[2]
            start = _JSON_START.fullmatch(before)
            if start:
                return replace(self, depth=1 + len(start[1]))
        return self

    def _in_json(self, c: str) -> Code:
        if self.escaped:
            return replace(self, escaped=False)
        if self.string:
            return replace(self, escaped=c == "\\", string=c != '"')
        if c == '"':
            return replace(self, string=True)
        depth = self.depth + (c in "{[") - (c in "}]")
        return replace(self, depth=depth) if depth else Code(line=self.line)


class CodeReader:
    """Which tokens leave the reader inside code, row by row, over passes that each add some tokens.

    A step of decoding costs one transfer, of its new tokens, and reads these alone. Rows are known by their tokens,
    not by their place: beams change rows.
    """

    def __init__(self, scope: Scope) -> None:
        if scope.piece is None:
            raise UsageError(
                "scope 'not_in_code' reads the text of the tokens: tillerman.not_in_code(tokenizer) makes the scope"
            )
        self._piece = scope.piece
        self._pieces: dict[int, str] = {}
        self._states: list[Code] = []  # of each row, where its reader stands after what was read
        self._read: Int[Tensor, "b k"] | None = None  # the tokens; -1 for those out of reach
        self._inside: Bool[Tensor, "b k"] | None = None

    def inside(self, tokens: Int[Tensor, "b k"], reach: Bool[Tensor, "b k"]) -> Bool[Tensor, "b k"]:
        text = torch.where(reach, tokens, -1)
        rows, new = self._since(text)
        if rows is None or self._inside is None:
            states, before, new = [Code()] * len(text), reach[:, :0], text.tolist()
        else:
            states = [self._states[row] for row in rows]
            before = self._inside if rows == list(range(len(rows))) else self._inside[rows]
        flags = []
        for row, ids in enumerate(new):
            mine = []
            for token in ids:
                states[row] = states[row] if token < 0 else states[row].read(self._text(token))
                mine.append(token >= 0 and states[row].inside)
            flags.append(mine)
        added = torch.tensor(flags, dtype=torch.bool).reshape(len(text), -1).to(text.device)
        self._states, self._read = states, text
        self._inside = torch.cat([before, added], 1)
        return self._inside

    def _since(self, text: Int[Tensor, "b k"]) -> tuple[list[int] | None, list[list[int]]]:
        """Which row of the last pass each row goes on from, and what is new in it; None where a row goes on from
        none."""
        before = self._read
        if before is None or before.shape[1] > text.shape[1] or before.device != text.device:
            return None, []
        done = before.shape[1]
        rows = list(range(len(text)))
        if len(before) == len(text):
            same = (text[:, :done] == before).all(1, keepdim=True)
            told = torch.cat([same.to(text.dtype), text[:, done:]], 1).tolist()
            if all(row[0] for row in told):
                return rows, [row[1:] for row in told]
        alike = (text[:, None, :done] == before[None]).all(-1)
        told = torch.cat([alike.any(1)[:, None], alike.int().argmax(1)[:, None], text[:, done:]], 1).tolist()
        return ([row[1] for row in told] if all(row[0] for row in told) else None), [row[2:] for row in told]

    def _text(self, token: int) -> str:
        if token not in self._pieces:
            self._pieces[token] = self._piece(token)
        return self._pieces[token]
