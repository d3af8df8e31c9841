"""What a hook point held before and after steering, pass by pass, seen by plain hooks of our own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from tillerman.core.plan import Scope


class Watch:
    """Hangs one hook before the block is entered and one inside it, on the same module."""

    def __init__(self, module) -> None:
        self.module = module
        self.before: list[Tensor] = []
        self.after: list[Tensor] = []

    @contextmanager
    def outside(self) -> Iterator[None]:
        with self._hung(self.before):
            yield

    @contextmanager
    def inside(self) -> Iterator[None]:
        with self._hung(self.after):
            yield

    @contextmanager
    def _hung(self, into: list[Tensor]) -> Iterator[None]:
        def keep(_, __, output):
            into.append((output[0] if isinstance(output, tuple) else output).detach().clone())

        handle = self.module.register_forward_hook(keep)
        try:
            yield
        finally:
            handle.remove()

    def touched(self, *, cached: bool, start: int = 0) -> list[set[tuple[int, int]]]:
        """Per pass the (row, column) whose activation was changed; columns count padding."""
        out = []
        for before, after in zip(self.before, self.after, strict=True):
            changed = (before != after).any(-1)
            out.append({(r, c + start) for r, c in changed.nonzero().tolist()})
            start += before.shape[1] if cached else 0
        return out


def meant(scope: Scope, rows: list[tuple[int, ...]], columns: range, side: str, prompt_columns: int | None = None):
    """Brute force: the (row, column) of these columns that a scope means, padding never."""
    width = max(map(len, rows)) if prompt_columns is None else prompt_columns
    found = set()
    for r, row in enumerate(rows):
        size = len(row)
        for c in columns:
            generated = c >= width
            first = width - size if side == "left" else 0
            if not generated and not first <= c < first + size:
                continue
            position = size + (c - width) if generated else c - first
            if scope.name == "all":
                chosen = True
            elif scope.name == "prompt":
                chosen = not generated
            elif scope.name == "generated":  # the last prompt token makes the first new one
                chosen = generated or position == size - 1
            elif scope.name == "last":
                chosen = position == size - 1
            elif scope.name == "positions":
                chosen = position in [p if p >= 0 else size + p for p in scope.positions]
            elif scope.name == "assistant_turns":
                chosen = generated or _in_turn(scope, row, position)
            else:
                marker = scope.marker
                starts = [i for i in range(size) if row[i : i + len(marker)] == marker]
                chosen = generated or (bool(starts) and position >= starts[-1])
            if chosen:
                found.add((r, c))
    return found


def _in_turn(scope: Scope, row: tuple[int, ...], position: int) -> bool:
    size = len(scope.marker)
    starts = [i for i in range(position + 1) if row[i : i + size] == scope.marker]
    ends = [i for i in range(position + 1) if row[i : i + 1] == scope.closing]
    return bool(starts) and max(starts) > max(ends, default=-1)


def equal_bits(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.contiguous().view(torch.int32), b.contiguous().view(torch.int32))
