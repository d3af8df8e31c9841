"""A file of another tool as an artefact: its directions at their hook points, with where they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tillerman.core.artefact import Artefact
from tillerman.core.cell import Cell
from tillerman.core.errors import HookPointError, MismatchError
from tillerman.core.hookpoint import HookPoint
from tillerman.exchange.found import Found
from tillerman.exchange.outgoing import unpack
from tillerman.exchange.placing import Placed
from tillerman.models.opened import OpenModel

METHOD = "imported"


def whole(found: Found) -> Artefact | None:
    """The artefact that an export of ours carries; None where there is none, or where the directions beside it were
    changed since: then they are as foreign as any."""
    return None if found.whole is None else unpack(found.whole, list(found.directions.values()))


def imported(
    opened: OpenModel, placed: Placed, found: Found, path: Path, strength: float, said: Mapping[str, Any]
) -> Artefact:
    """The artefact without a card: nothing was measured yet. ``said`` is how the file was read, for its provenance.

    ``strength`` multiplies the file's own factor. ``MismatchError`` and ``HookPointError`` name the file where the
    model has other widths or fewer layers."""
    try:
        keyed: dict[HookPoint | int | str, Any] = {point: v for point, v in placed.items()}  # noqa: C416 (invariant keys)
        vector = opened.vector(keyed, name=path.name)
    except (MismatchError, HookPointError) as error:
        raise type(error)(f"{path.name} does not fit {opened.id}: {error}") from None
    options = {"file": path.name, "sha256": digest(path), "format": found.what, **said}
    made = replace(vector.provenance, method=METHOD, options=options)
    vector = replace(vector, provenance=made)
    return Artefact(vector, Cell.of(vector, strength * found.strength))


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
