"""Artefacts by the digest of their file, and what their vectors do to a token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.artefact import Artefact, load
from tillerman.core.errors import ArtefactError, MismatchError, UsageError
from tillerman.core.files import sha256_of
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention
from tillerman.serving.changes import Change, change_of, ensure_finite
from tillerman.serving.lanes import problem
from tillerman.serving.pulls import READING, Pull, Pulls, block_after

_SUFFIX = ".safetensors"
MOST_READS = 4  # at one block, unless the operator asks for more


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
        points = [point for item in self._servable() for point in item.steering.points]
        return tuple(sorted({layer for layer in map(block_after, points) if layer is not None}))

    def reads(self) -> Mapping[int, int]:
        """How many of them read the stream at each block; more than ``MOST_READS`` are not counted."""
        reading = [item for item in self._servable() if item.operator != "add"]
        blocks = Counter(block_after(point) for item in reading for point in item.steering.points)
        return {block: min(MOST_READS, count) for block, count in blocks.items() if block is not None}

    def changes(self, pulls: Pulls, reads: Mapping[int, int], width: int, dtype: torch.dtype) -> tuple[Change, ...]:
        """What is done at each prepared block, whose number of readers ``reads`` has. ``UsageError`` for another block,
        more readers, or numbers that overflow ``dtype``; ``MismatchError`` for another width."""
        for pull in pulls:
            if pull.layer not in reads:
                known = ", ".join(map(str, reads))
                raise UsageError(f"{pull.point}: steering is prepared at the outputs of blocks {known} only")
        made = []
        for block, most in reads.items():
            change = change_of([pull for pull in pulls if pull.layer == block], self._operand, width, most)
            if len(change.readers) > most:
                raise UsageError(too_many_reads(block, len(change.readers), most))
            ensure_finite(change, dtype)
            made.append(change)
        return tuple(made)

    def _operand(self, pull: Pull) -> Float[Tensor, " k"]:
        """``ArtefactError``, ``MismatchError`` or ``UsageError`` where the artefact has nothing for this operator."""
        point, steering = HookPoint.parse(pull.point), self.of(pull.digest).steering
        if point not in steering.directions:
            raise MismatchError(f"{pull.point}: the artefact has no vector there")
        steering.check_operator(pull.operator)
        return steering.operand(point, pull.operator)

    def _servable(self) -> list[Intervention]:
        plans = [load(path).plan() for path in self._files()]
        return [item for plan in plans if problem(plan) is None for item in plan]

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{_SUFFIX}"))


def too_many_reads(block: int, asked: int, most: int) -> str:
    """Why a plan is not served whose operators need more readers at a block than it has."""
    return (
        f"block {block}: {asked} interventions of the plan read the stream there ({', '.join(READING)}), and the "
        f"engine is prepared for {most}; start it anew with TILLERMAN_READS={asked} (arm_reads in serve.toml)"
    )
