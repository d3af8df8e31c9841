"""What an audit of weights found, in words: and what it cannot see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tillerman.logs.table import Table
from tillerman.reports.exchange import compact_small
from tillerman.reports.numbers import compact, percent

SHOWN = 20
_FIRST = 3


@dataclass(frozen=True)
class AddedRow:
    """A bias: its name, where it joins the stream, length, dose."""

    name: str
    where: str | None
    length: float
    dose: float | None
    sure: bool
    why: str


def added_table(rows: Sequence[AddedRow]) -> Table:
    """Vectors in biases, at most ``SHOWN``."""
    cells = tuple(
        (
            one.where or one.name,
            compact(one.length),
            "-" if one.dose is None else compact(one.dose),
            "found" if one.sure else "possible",
            one.why,
        )
        for one in rows[:SHOWN]
    )
    more = f", the first {SHOWN} of {len(rows)}" if len(rows) > SHOWN else ""
    return Table(f"Vectors in biases{more}", ("bias", "length", "dose", "", "why"), cells)


def removed_words(number: int, names: Sequence[str], least: float, most: float, reads: int) -> str:
    """Of a direction that projections took out of these weights."""
    share = percent(most) if most - least < 0.005 else f"{percent(least)} to {percent(most)}"
    sides = f" ({reads} of them in what they read)" if reads else ""
    return f"removed direction {number}: {share} of it is gone from {_listed(names)}{sides}"


def rank_one_words(names: Sequence[str]) -> str:
    """Of changes in one direction that remove nothing."""
    return f"changed in one direction each, which is no removal (a LoRA of rank 1 looks so): {_listed(names)}"


def absent_words(
    number: int, names: Sequence[str], maps: int, share: float, least: float, *, uniform: bool
) -> tuple[str, ...]:
    """Of a direction that these of all writing maps do not write."""
    said = (
        f"absent direction {number}: {len(names)} of {maps} writing matrices have {compact_small(share)} of a random "
        f"direction's share of it (least of 1,000 random ones: {compact(least)}): {_listed(names)}",
    )
    if not uniform:
        return said
    return (*said, "it is the direction of equal numbers, which a LayerNorm takes away: probably centred, not steered")


def other_words(changes: Sequence[tuple[str, float]], shapes: Sequence[str], *, template: bool) -> tuple[str, ...]:
    """Of what else differs from the base: weights with the size of their change, weights of another shape."""
    said = []
    if changes:
        largest = sorted(changes, key=lambda one: -one[1])[:_FIRST]
        words = ", ".join(f"{name} by {percent(size)}" for name, size in largest)
        said.append(f"{len(changes)} other weights differ, as after training; the most: {words}")
    if shapes:
        said.append(f"not in the base, or of another shape: {_listed(shapes)}")
    if template:
        said.append("the chat template is another than the base's: it may hold a system prompt; read it")
    return tuple(said)


def verdict_words(*, clean: bool, maps: int, base: str | None) -> str:
    """One line."""
    if not maps:
        return "the names of this architecture's writing matrices are not known: removed directions were not looked for"
    against = f"against {base}" if base else "without a base"
    return f"{'nothing found' if clean else 'found'}: {maps} writing matrices and their biases, {against}"


def blind_words(base: str | None) -> str:
    """What the audit cannot see."""
    if base is not None:
        return (
            "not seen: what the base has itself, what training spread over many directions, and code, prompts or "
            "hooks beside the weights"
        )
    return (
        "not seen without --base: vectors added to biases that every block has, removals of less than nine tenths or "
        "from square matrices alone, anything trained; and, with a base too, code, prompts or hooks beside the weights"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_FIRST]) + (f" and {len(names) - _FIRST} more" if len(names) > _FIRST else "")
