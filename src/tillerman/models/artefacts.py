"""Artefacts from files, with all that they say checked once: tensors, cell, provenance, and what was measured."""

from __future__ import annotations

from pathlib import Path

from tillerman.core import artefact as core
from tillerman.core.artefact import Artefact
from tillerman.core.errors import ArtefactError, LogError
from tillerman.logs.cards import evaluation_on, studies_on
from tillerman.logs.monitor import MonitorLog


def load(path: str | Path, *, trust: str | None = None) -> Artefact:
    """Read an artefact; ``ArtefactError`` for a file that is missing, foreign, truncated or changed since it was
    written, and for one whose card holds no readable report or study, or whose monitor no readable calibration."""
    artefact = core.load(path, trust=trust)
    try:
        if artefact.card is not None:
            evaluation_on(artefact.card)
            studies_on(artefact.card)
    except LogError as error:
        raise ArtefactError(f"{path}: its card: {error}") from error
    try:
        if artefact.monitor is not None and artefact.monitor.measured:
            MonitorLog.from_json(dict(artefact.monitor.measured))
    except LogError as error:
        raise ArtefactError(f"{path}: its monitor: {error}") from error
    return artefact
