"""A door put together from a model, an engine and a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tillerman.core.artefact import Artefact
from tillerman.models.opened import OpenModel
from tillerman.serving.artefacts import Demands, read_library
from tillerman.serving.audit import Audit
from tillerman.serving.door import Door, Rules, make_rules
from tillerman.serving.engine import Engine
from tillerman.serving.metrics import Metrics
from tillerman.serving.prompts import PromptReader
from tillerman.serving.settings import Settings


@dataclass(frozen=True)
class Parts:
    """``settings`` reads them anew, for a reload; ``folder`` holds the artefacts."""

    opened: OpenModel
    engine: Engine
    folder: Path
    settings: Callable[[], Settings]
    allow_mismatch: bool = False


def assemble(parts: Parts) -> Door:
    """``TillermanError`` for an artefact, plan or setting that cannot be served, before anything is listened to."""
    prompts = PromptReader(parts.opened.tokenizer)

    def belongs(artefact: Artefact) -> tuple[str, ...]:
        provenance = artefact.steering.provenance
        return parts.opened.check_provenance(provenance, allow_mismatch=parts.allow_mismatch)

    def rules() -> Rules:
        settings = parts.settings()
        demands = Demands(belongs, parts.engine.problem)
        return make_rules(read_library(parts.folder, settings.artefacts, demands), settings, prompts, parts.engine)

    first = rules()
    file = first.settings.audit.file
    door = Door(
        parts.engine, served_name(parts.opened.id), prompts, first, Audit(Path(file)) if file else None, Metrics()
    )
    door.read_anew = rules
    return door


def served_name(id: str) -> str:
    """What clients call the model: the last part of a path or hub name."""
    return Path(id).name or "model"
