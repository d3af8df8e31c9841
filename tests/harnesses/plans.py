"""An artefact that changes the pilot's answers."""

from __future__ import annotations

from dataclasses import replace

from tillerman.core.artefact import Artefact
from tillerman.core.cell import Cell
from tillerman.core.plan import Plan
from tillerman.data.marked_scopes import after_instruction
from tillerman.models.opened import OpenModel

from .. import tiny


def pilot_artefact(opened: OpenModel) -> Artefact:
    """A random direction, several times as long as the activations it is added to."""
    vector = tiny.vector(3, width=opened.parts.width, size=60.0)
    provenance = replace(
        vector.provenance,
        model_fingerprint=opened.fingerprint,
        layers=opened.layers,
        tokenizer_hash=opened.tokenizer_hash,
        template_hash=opened.template_hash,
    )
    return Artefact(replace(vector, provenance=provenance), Cell.of(vector, 2.0, after_instruction(opened.tokenizer)))


def pilot_plan(opened: OpenModel) -> Plan:
    return pilot_artefact(opened).plan()
