"""What is done to one token at one block's output as a map of small rank, whatever operators a plan strings together.

``h + sum + y @ writers``, with one number ``y_k = f_k(readers_k . h_k)`` for each operator that reads the stream, where
``h_k`` is the stream as the operators before it left it. ``h_k`` is never made: ``readers_k . h_k`` is
``readers_k . h`` and a share of the additions and of each earlier y, both known beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.errors import MismatchError, UsageError
from tillerman.serving.pulls import Pull

NUMBERS = 5  # of each reader: what is added to what it reads, bias, least, floor, constant
_TINY = 1e-12
_NO = -torch.inf


@dataclass(frozen=True, eq=False)
class Change:
    """``r`` readers. ``y_k = max(x + bias, floor) + constant`` where ``x > least``, else ``constant``, with
    ``x = readers_k . h + offset + sum over j < k of mix[k, j] y_j``. All float64."""

    sum: Float[Tensor, " d"]
    readers: Float[Tensor, "r d"]
    writers: Float[Tensor, "r d"]
    numbers: Float[Tensor, "r 5"]
    mix: Float[Tensor, "r r"]


def change_of(
    pulls: Iterable[Pull], operand: Callable[[Pull], Float[Tensor, " k"]], width: int, reads: int = 0
) -> Change:
    """The pulls of one block in turn; ``operand`` gives what each one's operator takes as v. ``reads`` readers at
    least: those that nothing needs write zeros. ``MismatchError`` for another width."""
    added = torch.zeros(width, dtype=torch.float64)
    rows: list[tuple[Tensor, Tensor, tuple[float, ...]]] = []
    for pull in pulls:
        v = operand(pull).double()
        if len(v) != (2 * width + 2 if pull.operator == "clamp_atom" else width):
            raise MismatchError(f"{pull.point}: the artefact has no vector of width {width} there")
        if pull.operator == "add":
            added = added + pull.strength * v
        else:
            reader, writer, numbers = _READERS[pull.operator](v, pull.strength)
            rows.append((reader, writer, (float(reader @ added), *numbers)))
    idle = (torch.zeros(width, dtype=torch.float64),) * 2
    rows += [(*idle, (0.0,) * NUMBERS)] * (reads - len(rows))
    if not rows:
        none = torch.zeros(0, width, dtype=torch.float64)
        return Change(added, none, none, none.new_zeros(0, NUMBERS), none.new_zeros(0, 0))
    readers = torch.stack([reader for reader, _, _ in rows])
    writers = torch.stack([writer for _, writer, _ in rows])
    of_readers = torch.tensor([told for _, _, told in rows], dtype=torch.float64)
    return Change(added, readers, writers, of_readers, torch.tril(readers @ writers.T, diagonal=-1))


def written(
    stream: Float[Tensor, "n d"],
    readers: Float[Tensor, "n r d"],
    writers: Float[Tensor, "n r d"],
    numbers: Float[Tensor, "n r 5"],
    mix: Float[Tensor, "n r r"],
) -> Float[Tensor, "n d"]:
    """``y @ writers`` for each token, in float32: what readers make of the stream, beside the sum that is added."""
    plain = (stream.float()[:, None] * readers).sum(-1)  # [n, r]
    made: list[Tensor] = []
    for k in range(readers.shape[1]):
        offset, bias, least, floor, constant = numbers[:, k].unbind(-1)
        x = plain[:, k] + offset
        for j, y in enumerate(made):
            x = x + mix[:, k, j] * y
        made.append(torch.where(x > least, torch.maximum(x + bias, floor), 0.0) + constant)
    return (torch.stack(made, -1)[..., None] * writers).sum(1)


def ensure_finite(change: Change, dtype: torch.dtype) -> None:
    """``UsageError`` where the sum overflows ``dtype``, or anything else float32."""
    told = [change.sum.to(dtype)]
    if len(change.readers):
        told += [one.float() for one in (change.readers, change.writers, change.mix, change.numbers[:, [0, 1, 4]])]
    if not all(bool(torch.isfinite(one).all()) for one in told):
        raise UsageError(f"the sum of the vectors overflows {str(dtype).removeprefix('torch.')}")


def _ablate(v: Tensor, strength: float) -> tuple[Tensor, Tensor, tuple[float, ...]]:
    unit = _unit(v)
    return unit, -strength * unit, (0.0, _NO, _NO, 0.0)


def _clamp(v: Tensor, strength: float) -> tuple[Tensor, Tensor, tuple[float, ...]]:
    unit = _unit(v)
    return unit, -unit, (0.0, _NO, _NO, -strength * float(v.norm()))


def _clamp_atom(v: Tensor, strength: float) -> tuple[Tensor, Tensor, tuple[float, ...]]:
    width = (len(v) - 2) // 2
    direction, encoder, bias, least = v[:width], v[width:-2], float(v[-2]), float(v[-1])
    return encoder, -direction, (bias, least, 0.0, -strength)


# Operator -> reader, writer and (bias, least, floor, constant), as ``core.operators`` has its formula.
_READERS: dict[str, Callable[[Tensor, float], tuple[Tensor, Tensor, tuple[float, ...]]]] = {
    "ablate": _ablate,
    "clamp": _clamp,
    "clamp_atom": _clamp_atom,
}


def _unit(v: Tensor) -> Tensor:
    unit: Tensor = v / v.norm().clamp_min(_TINY)
    return unit
