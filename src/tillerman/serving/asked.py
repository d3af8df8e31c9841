"""The field ``steering`` in all its forms: what a request asks for, by name, before anything is looked up.

::

    "honesty@0.4"                     the grammar of ``core.named_plan``, as the header and the model alias have it
    ["honesty@0.4", "calm@-0.2:all"]  several such texts
    [{"artefact": "honesty", "dose": 0.4, "scope": "generated"}, {"artefact": "calm", "strength": 1.5}]
    []                                explicitly none, also where the server has a default
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tillerman.core.errors import TillermanError
from tillerman.core.named_plan import NamedPart, NamedPlan
from tillerman.serving.refusals import Refusal

FIELD = "steering"
_PART: Mapping[str, Any] = {
    "type": "object",
    "required": ["artefact"],
    "additionalProperties": False,
    "properties": {
        "artefact": {"type": "string", "minLength": 1},
        "dose": {"type": ["number", "null"]},
        "strength": {"type": ["number", "null"]},
        "scope": {"type": ["string", "null"]},
    },
}
# As ``/openapi.json`` says it.
STEERING_SCHEMA: Mapping[str, Any] = {
    "description": "which artefacts and how strongly; [] for none, left out for the server's default",
    "examples": ["honesty@0.4", [{"artefact": "honesty", "dose": 0.4, "scope": "generated"}], []],
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"anyOf": [{"type": "string", "minLength": 1}, _PART]}},
        {"type": "null"},
    ],
}
_FORMS = 'write "honesty@0.4", a list of such texts, or a list of objects with artefact, dose or strength, and scope'


@dataclass(frozen=True)
class Wanted:
    """One artefact by name, at a dose or at a strength (None, None: its own), on a scope (None: its own)."""

    part: NamedPart
    strength: float | None = None


Asked = tuple[Wanted, ...]


def read_steering(value: Any, param: str = FIELD) -> Asked | None:
    """What is asked for; None where the request does not say. ``Refusal`` (malformed) for what is no plan."""
    if value is None:
        return None
    try:
        if isinstance(value, str):
            return tuple(Wanted(part) for part in NamedPlan.parse(value).parts)
        if isinstance(value, list | tuple):
            return tuple(one for place, each in enumerate(value, start=1) for one in _each(place, each))
    except (TillermanError, OverflowError) as error:
        raise Refusal("malformed", f"{param}: {error}", param) from None
    raise Refusal("malformed", f"{param}: {_FORMS}", param)


def _each(place: int, value: Any) -> Asked:
    if isinstance(value, str):
        return tuple(Wanted(part) for part in NamedPlan.parse(value).parts)
    if not isinstance(value, Mapping):
        raise Refusal("malformed", f"{FIELD}, part {place}: {_FORMS}", FIELD)
    rest = {name: each for name, each in value.items() if name != "strength"}
    strength = value.get("strength")
    if strength is not None and (isinstance(strength, bool) or not isinstance(strength, int | float)):
        raise Refusal("malformed", f"{FIELD}, part {place}: strength is a number", FIELD)
    if strength is not None and not math.isfinite(float(strength)):
        raise Refusal("malformed", f"{FIELD}, part {place}: strength {strength}: expected a finite number", FIELD)
    if strength is not None and rest.get("dose") is not None:
        raise Refusal("malformed", f"{FIELD}, part {place}: give dose or strength, not both", FIELD)
    (part,) = NamedPlan.from_json([rest]).parts
    return (Wanted(part, None if strength is None else float(strength)),)
