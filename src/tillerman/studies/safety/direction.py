"""The direction of refusal at a vector's hook points, and what it and the vector have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.hookpoint import ROUTER_SITES, HookPoint
from tillerman.core.rows import Row
from tillerman.core.steerings.base import Steering
from tillerman.core.steerings.vector import SteeringVector
from tillerman.models.capture import capture
from tillerman.studies.base import MORE_DRAWS, Lab

DRAWS = 200  # of cosines; they cost no pass
_OF_DIRECTIONS = ("add", "ablate", "clamp", "rotate")  # operators that read v as a direction of the stream


@dataclass(frozen=True, eq=False)
class RefusalDirection:
    """Activations of the last token of each prompt, where the reply begins, ``[prompts, d]`` per hook point: of unsafe
    and safe prompts that make the direction, and of those that are tested."""

    made_of: Mapping[bool, Mapping[HookPoint, Float[Tensor, "n d"]]]
    tested: Mapping[bool, Mapping[HookPoint, Float[Tensor, "m d"]]]

    def direction(self, point: HookPoint) -> Float[Tensor, " d"]:
        """``r = mean h(unsafe) - mean h(safe)``, of length 1 (Arditi et al., equation 1, at one hook point)."""
        return _unit(self.made_of[True][point].mean(0) - self.made_of[False][point].mean(0))

    def shuffled(self, point: HookPoint, seed: int) -> Float[Tensor, " d"]:
        """The same of the same prompts with their labels dealt anew: a direction of what differs between prompts."""
        every = torch.cat([self.made_of[True][point], self.made_of[False][point]])
        order = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))
        count = len(self.made_of[True][point])
        return _unit(every[order[:count]].mean(0) - every[order[count:]].mean(0))

    def cosine(self, vector: SteeringVector) -> float:
        """Between v and r, the mean over hook points; above 0, adding v is adding refusal."""
        return self._mean_cosine(vector, {point: self.direction(point) for point in vector.points})

    def of_random(self, vector: SteeringVector) -> list[float]:
        return [self.cosine(vector.random_like(MORE_DRAWS + seed)) for seed in range(DRAWS)]

    def of_shuffled(self, vector: SteeringVector) -> list[float]:
        dealt = [{point: self.shuffled(point, seed) for point in vector.points} for seed in range(DRAWS)]
        return [self._mean_cosine(vector, one) for one in dealt]

    def without(self, vector: SteeringVector) -> SteeringVector:
        """``v - (v . r) r`` at every hook point."""
        found = {}
        for point, v in vector.directions.items():
            r = self.direction(point)
            found[point] = v - (v @ r) * r
        return replace(vector, directions=found)

    def projections(self, unsafe: bool) -> list[float]:
        """Of each tested prompt ``h . r``, in units of the spread over tested prompts, the mean over hook points."""
        found = []
        for point in self.tested[True]:
            r = self.direction(point)
            both = torch.cat([self.tested[True][point] @ r, self.tested[False][point] @ r])
            mine = self.tested[unsafe][point] @ r
            found.append((mine - both.mean()) / both.std().clamp_min(1e-12))
        mean: list[float] = torch.stack(found).mean(0).tolist()
        return mean

    def _mean_cosine(self, vector: SteeringVector, directions: Mapping[HookPoint, Float[Tensor, " d"]]) -> float:
        return float(torch.stack([_unit(vector.directions[p]) @ r for p, r in directions.items()]).mean())


def vector_of(steering: Steering, operator: str) -> SteeringVector | None:
    """The steering where it is one direction per hook point of the stream (or of heads); None of gradients that depend
    on the input, atoms of an autoencoder, and experts."""
    if not isinstance(steering, SteeringVector) or steering.atoms or operator not in _OF_DIRECTIONS:
        return None
    return None if any(point.site in ROUTER_SITES for point in steering.points) else steering


def read_refusal(
    lab: Lab, points: Sequence[HookPoint], made_of: Mapping[bool, Sequence[Row]], tested: Mapping[bool, Sequence[Row]]
) -> RefusalDirection:
    """Read off the unsteered model; kept in the store."""
    groups = {f"{part} {side}": rows[side] for part, rows in (("made", made_of), ("tested", tested)) for side in rows}
    rows = [row for group in groups.values() for row in group]

    def read() -> dict[str, Tensor]:
        with lab.stage("refusal direction", len(rows)) as progress:
            found = capture(lab.opened, rows, points, read="last", progress=progress)
        return {str(point): activations for point, activations in found.items()}

    kept = lab.store.scoped(lab.opened.identity, rows, [str(point) for point in points]).tensors("refusal", read)
    parts: dict[str, dict[HookPoint, Tensor]] = {name: {} for name in groups}
    for point in points:
        pieces = torch.split(kept[str(point)], [len(group) for group in groups.values()])
        for name, piece in zip(groups, pieces, strict=True):
            parts[name][point] = piece
    sides = (True, False)
    return RefusalDirection(
        {side: parts[f"made {side}"] for side in sides}, {side: parts[f"tested {side}"] for side in sides}
    )


def _unit(v: Tensor) -> Tensor:
    unit: Tensor = v / v.norm().clamp_min(1e-30)
    return unit
