"""What is on offer: models, presets, artefacts and their cards."""

from __future__ import annotations

from typing import Any

from openai.types import Model
from starlette.requests import Request

from tillerman.serving.artefacts import Served
from tillerman.serving.asked import Asked
from tillerman.serving.door import Door
from tillerman.serving.policy import Caller, cap_of
from tillerman.serving.refusals import Refusal

_PRIVATE = ("model",)  # of a card: where the model lay when it was measured


def known(door: Door, request: Request) -> Caller:
    """Who asks, counted as one request of the key."""
    caller = door.caller(request.headers.get("authorization"))
    door.rates.take(caller)
    return caller


def models(door: Door, caller: Caller) -> dict[str, Any]:
    """The model, each preset, and the model with each artefact at its own dose."""
    return {"object": "list", "data": [_model(door, name, plan) for name, plan in _ids(door, caller).items()]}


def model(door: Door, caller: Caller, name: str) -> dict[str, Any]:
    found = _ids(door, caller)
    if name not in found:
        raise Refusal("model_not_found", f"no model {name[:60]!r}; /v1/models lists them", "model")
    return _model(door, name, found[name])


def artefacts(door: Door, caller: Caller) -> dict[str, Any]:
    rules = door.rules
    shown = [one for one in rules.library.values() if caller.may_use(one.name)]
    return {
        "object": "list",
        "data": [{**one.facts, "max_dose": cap_of(one.name, caller, rules.settings.policy)} for one in shown],
    }


def artefact(door: Door, caller: Caller, name: str) -> dict[str, Any]:
    found = _served(door, caller, name)
    return {**found.facts, "max_dose": cap_of(name, caller, door.rules.settings.policy)}


def card(door: Door, caller: Caller, name: str) -> dict[str, Any]:
    """All that was measured, in the keys of ``tillerman eval --json``."""
    found = _served(door, caller, name)
    if found.card is None:
        raise Refusal("not_found", f"{name}: nothing was measured about it")
    told = {key: value for key, value in found.card.items() if key not in _PRIVATE}
    return {"artefact": name, "sha256": found.sha256, "card": told}


def _served(door: Door, caller: Caller, name: str) -> Served:
    found = door.rules.library.get(name)
    if found is None or not caller.may_use(name):
        raise Refusal("not_found", f"no artefact named {name[:60]!r}; /v1/artefacts lists them")
    return found


def _ids(door: Door, caller: Caller) -> dict[str, str]:
    rules = door.rules
    found = {door.name: ""}
    found |= {name: str(text) for name, text in rules.settings.presets.items() if _may(caller, rules.presets[name])}
    return found | {f"{door.name}+{name}": name for name in rules.library if caller.may_use(name)}


def _may(caller: Caller, asked: Asked) -> bool:
    return all(caller.may_use(wanted.part.name) for wanted in asked)


def _model(door: Door, name: str, plan: str) -> dict[str, Any]:
    made = Model(id=name, created=int(door.opened), object="model", owned_by="tillerman")
    return {**made.model_dump(mode="json"), "steering": plan or None}
