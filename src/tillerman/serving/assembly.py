"""A door put together from a model, an engine and a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tillerman.core.artefact import Artefact
from tillerman.models.opened import OpenModel
from tillerman.serving.artefacts import Demands, read_shelf
from tillerman.serving.audit import Audit
from tillerman.serving.door import Door, Rules, make_rules
from tillerman.serving.engine import Engine
from tillerman.serving.metrics import Metrics
from tillerman.serving.prompts import PromptReader
from tillerman.serving.proof import Prover, Reference
from tillerman.serving.proving import Canary, ensure_new_proved
from tillerman.serving.settings import Settings


@dataclass(frozen=True)
class Parts:
    """``settings`` reads them anew, for a reload; ``folder`` holds the artefacts. ``reference``: what artefacts that a
    reload brings are held against, where the model may be asked beside the engine."""

    opened: OpenModel
    engine: Engine
    folder: Path
    settings: Callable[[], Settings]
    allow_mismatch: bool = False
    reference: Reference | None = None


def assemble(parts: Parts) -> Door:
    """``TillermanError`` for an artefact, plan or setting that cannot be served, before anything is listened to."""
    prompts = PromptReader(parts.opened.tokenizer)

    def belongs(artefact: Artefact) -> tuple[str, ...]:
        provenance = artefact.steering.provenance
        return parts.opened.check_provenance(provenance, allow_mismatch=parts.allow_mismatch)

    def rules() -> Rules:
        settings = parts.settings()
        demands = Demands(belongs, parts.engine.problem)
        return make_rules(read_shelf(parts.folder, settings.artefacts, demands), settings, prompts, parts.engine)

    first = rules()
    file = first.settings.audit.file
    door = Door(
        parts.engine, served_name(parts.opened.id), prompts, first, Audit(Path(file)) if file else None, Metrics()
    )
    door.read_anew = rules
    dtype = str(parts.opened.model.dtype).removeprefix("torch.")
    beside = Prover(parts.engine, prompts, dtype, live=True)
    door.prove_new = partial(ensure_new_proved, door, prover=replace(beside, reference=parts.reference))
    door.canary = Canary(door, beside).watch
    return door


def served_name(id: str) -> str:
    """What clients call the model: the last part of a path or hub name."""
    return Path(id).name or "model"
