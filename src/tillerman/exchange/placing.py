"""Where the directions of a file belong in a model: by what its user says, never by a guess."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from tillerman.core.errors import UnknownNameError, UsageError
from tillerman.core.hookpoint import SITES, HookPoint, named
from tillerman.exchange.found import Found

Placed = dict[HookPoint, Float[Tensor, " d"]]
CONVENTIONS: Mapping[str, str] = {
    "output": "N is the output of block N, the first block 0, as repeng, llama.cpp, EasySteer, steering-vectors, CAA, "
    "EasyEdit and vllm-lens apply it",
    "input": "N is the input of block N: an index into hidden_states, 0 the embeddings, as in the tables of "
    "persona-vectors; where CAST adds; or the output of block N counted from 1",
}


@dataclass(frozen=True)
class Placing:
    """What the user says of a file: how its numbers count, at which site, at which hook point a direction without a
    number belongs, and which of its numbers are wanted."""

    convention: str | None = None
    site: str = "resid_post"
    at: HookPoint | None = None
    numbers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.convention is not None and self.convention not in CONVENTIONS:
            raise UnknownNameError("convention", self.convention, CONVENTIONS)
        if self.site not in SITES:
            raise UnknownNameError("site", self.site, SITES)
        if self.convention == "input" and self.site != "resid_post":
            raise UsageError(f"convention 'input' is about the residual stream; site {self.site!r} takes 'output'")

    def is_open(self, found: Found) -> bool:
        """Whether the file has numbers, and nothing says how they count."""
        return bool(found.numbers) and self.convention is None and self.at is None


def placed(found: Found, placing: Placing) -> Placed:
    """Each direction at its hook point. ``UsageError`` says what is missing, with the choices."""
    wanted = _wanted(found, placing)
    if None in wanted:
        if placing.at is None:
            raise UsageError(
                "the file holds one direction and no layer; say where it belongs: --at layers.N.resid_post, the output "
                "of block N, the first block 0"
            )
        return {placing.at: wanted[None]}
    if placing.at is not None:
        if len(wanted) > 1:
            raise UsageError(
                f"--at places one direction, and the file holds {len(wanted)}; choose one by --layers, or place all by "
                "--convention"
            )
        return {placing.at: next(iter(wanted.values()))}
    if placing.is_open(found):
        choices = "; ".join(f"{name}: {words}" for name, words in CONVENTIONS.items())
        raise UsageError(
            f"how does the file count its layers? --convention {choices}. Or give --data, and it is measured"
        )
    return {
        key if isinstance(key, HookPoint) else _point(key, placing): v for key, v in wanted.items() if key is not None
    }


def _wanted(found: Found, placing: Placing) -> dict[int | HookPoint | None, Float[Tensor, " d"]]:
    if placing.numbers is None:
        return dict(found.directions)
    numbers = [key.layer if isinstance(key, HookPoint) else key for key in found.directions]
    missing = sorted(set(placing.numbers) - {number for number in numbers if number is not None})
    if missing:
        there = ", ".join(map(str, numbers[:20])) or "none"
        raise UsageError(f"--layers {missing[0]}: the file has none of that number; it has {there}")
    pairs = zip(numbers, found.directions.items(), strict=True)
    return {key: v for number, (key, v) in pairs if number in placing.numbers}


def _point(number: int, placing: Placing) -> HookPoint:
    if placing.convention == "input":
        return HookPoint(number - 1) if number else HookPoint(0, "resid_pre")
    return HookPoint(number, placing.site)


def where(points: Placed) -> str:
    """The hook points in one word."""
    return named(tuple(points))
