"""Jobs, servers and a small model on the disk, for the tests of the fleet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tillerman.core.artefact import Artefact, save
from tillerman.core.cell import Cell
from tillerman.core.opening import Opening
from tillerman.data.marked_scopes import after_instruction
from tillerman.fleet.replica import BatchOptions, ReplicaSpec
from tillerman.models.opened import open_model

from ..serving import made as serving


def written(path: Path, lines: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def line(id: str, steering: Any = "calm@0.1", **more: Any) -> dict[str, Any]:
    return {"id": id, "messages": [{"role": "user", "content": f"Who are you, {id}?"}], "steering": steering, **more}


def pilot_folder(path: Path) -> Path:
    """``calm`` and ``honesty`` for the pilot, made by hand."""
    path.mkdir()
    pilot = open_model("pilot")
    for layer, name in ((3, "calm"), (2, "honesty")):
        vector = pilot.vector({layer: [(-1.0) ** i for i in range(pilot.parts.width)]}, name=name)
        cell = Cell.of(vector, scope=after_instruction(pilot.tokenizer)).at_dose(0.2, vector)
        save(path / f"{name}.safetensors", Artefact(vector, cell, card=serving.card()))
    return path


def spec(folder: Path, rows: int = 16) -> ReplicaSpec:
    return ReplicaSpec("pilot", str(folder), asdict(Opening(device="cpu")), BatchOptions(rows).settings())


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
