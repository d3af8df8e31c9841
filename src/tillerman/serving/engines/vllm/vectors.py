"""Artefacts by the digest of their file, and the sums of their vectors."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.artefact import Artefact, load
from tillerman.core.errors import ArtefactError, MismatchError, UsageError
from tillerman.core.files import sha256_of
from tillerman.core.hookpoint import HookPoint
from tillerman.serving.lanes import Pulls, block_after, problem

_SUFFIX = ".safetensors"


class ServedVectors:
    """The artefacts of a folder. A file is read when its digest is asked for the first time; one that has changed
    since has another digest, and is another artefact."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, Artefact] = {}

    def named(self, name: str) -> tuple[Artefact, str]:
        """The artefact in ``name.safetensors``, and its digest."""
        path = self.folder / f"{name}{_SUFFIX}"
        if path.name != f"{name}{_SUFFIX}" or not path.is_file():
            there = ", ".join(sorted(one.stem for one in self._files())[:12]) or "none"
            raise ArtefactError(f"no artefact {name[:60]!r}; there are: {there}")
        digest = sha256_of(path)
        return self.of(digest), digest

    def of(self, digest: str) -> Artefact:
        """``ArtefactError`` where no file has this digest."""
        if digest not in self._known:
            found = next((path for path in self._files() if sha256_of(path) == digest), None)
            if found is None:
                raise ArtefactError(f"no artefact with the digest {digest[:12]}: its file was changed or removed")
            self._known[digest] = load(found)
        return self._known[digest]

    def layers(self) -> tuple[int, ...]:
        """The decoder blocks whose output the artefacts change, of those that this engine can serve."""
        plans = [load(path).plan() for path in self._files()]
        points = [p for plan in plans if problem(plan) is None for item in plan for p in item.steering.points]
        return tuple(sorted({layer for layer in map(block_after, points) if layer is not None}))

    def sum(
        self, pulls: Pulls, layers: tuple[int, ...], width: int, dtype: torch.dtype
    ) -> Float[Tensor, "layers width"]:
        """``sum of strength * v`` for each layer, added in float64 and rounded once. ``UsageError`` for a layer that is
        not among ``layers``, or where the sum overflows ``dtype``; ``MismatchError`` for another width."""
        total = torch.zeros(len(layers), width, dtype=torch.float64)
        for pull in sorted(pulls):
            if pull.layer not in layers:
                known = ", ".join(map(str, layers))
                raise UsageError(f"{pull.point}: steering is prepared at the outputs of blocks {known} only")
            direction = self.of(pull.digest).steering.directions.get(HookPoint.parse(pull.point))
            if direction is None or len(direction) != width:
                raise MismatchError(f"{pull.point}: the artefact has no vector of width {width} there")
            total[layers.index(pull.layer)] += pull.strength * direction.double()
        rounded = total.to(dtype)
        if not bool(torch.isfinite(rounded).all()):
            raise UsageError(f"the sum of the vectors overflows {str(dtype).removeprefix('torch.')}")
        return rounded

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{_SUFFIX}"))
