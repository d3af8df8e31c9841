"""Who may steer by what, and how strongly. Pure: a caller and a plan in, nothing or a ``Refusal`` out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tillerman.serving.artefacts import Library
from tillerman.serving.asked import FIELD, Asked
from tillerman.serving.keys import find_key
from tillerman.serving.plans import Act, ServedPlan
from tillerman.serving.refusals import Refusal
from tillerman.serving.settings import KeySettings, PolicySettings

_SLACK = 1e-6  # a dose that was typed as the cap is not over it


@dataclass(frozen=True)
class Caller:
    """Who asks. Without any key in the settings everyone is ``anonymous``, and no one is admin."""

    name: str = "anonymous"
    allow: tuple[str, ...] | None = None
    max_dose: float | None = None
    requests_per_minute: int | None = None
    admin: bool = False

    def may_use(self, artefact: str) -> bool:
        return self.allow is None or artefact in self.allow


ANONYMOUS = Caller()


def caller_of(authorization: str | None, keys: Sequence[KeySettings]) -> Caller:
    """``Refusal`` (invalid_api_key) where there are keys and none of them is given."""
    if not keys:
        return ANONYMOUS
    scheme, _, token = (authorization or "").partition(" ")
    found = find_key(token.strip(), keys) if scheme.lower() == "bearer" else None
    if found is None:
        raise Refusal("invalid_api_key", "this server asks for a key: Authorization: Bearer KEY")
    return Caller(found.name, found.allow, found.max_dose, found.requests_per_minute, found.admin)


def ensure_admin(caller: Caller) -> None:
    if not caller.admin:
        raise Refusal("forbidden", "this route is for keys with admin = true")


def cap_of(name: str, caller: Caller, settings: PolicySettings) -> float:
    """The highest |dose| at which this caller may use the artefact."""
    rule = settings.artefacts.get(name)
    caps = (settings.max_dose, caller.max_dose, None if rule is None else rule.max_dose)
    return min(cap for cap in caps if cap is not None)


def ensure_few(asked: Asked, settings: PolicySettings) -> None:
    """Before anything is looked up or computed."""
    if len(asked) > settings.max_artefacts:
        raise Refusal("over_cap", f"{FIELD}: {len(asked)} parts; at most {settings.max_artefacts}", FIELD)


def ensure_names(asked: Asked, caller: Caller, library: Library) -> None:
    """A name that the caller may not use is told apart from one that there is not."""
    for wanted in asked:
        if wanted.part.name in library and not caller.may_use(wanted.part.name):
            raise Refusal("forbidden", f"{FIELD}: this key may not use {wanted.part.name!r}", FIELD)


def ensure_within(plan: ServedPlan, caller: Caller, settings: PolicySettings) -> None:
    """Scopes and caps: each intervention, and the sum at each hook point."""
    for act in plan.acts:
        _ensure_scope(act, settings)
        dose, cap = act.dose, cap_of(act.served.name, caller, settings)
        if not abs(dose) <= cap + _SLACK:
            raise Refusal("over_cap", f"{FIELD}: {act.served.name}: dose {dose:.4g} is over the cap of {cap:g}", FIELD)
    for point, total in plan.totals.items():
        if not total <= settings.max_total_dose + _SLACK:
            raise Refusal(
                "over_cap",
                f"{FIELD}: all together reach dose {total:.4g} at {point}, over the cap of {settings.max_total_dose:g}",
                FIELD,
            )


def _ensure_scope(act: Act, settings: PolicySettings) -> None:
    rule, scope = settings.artefacts.get(act.served.name), act.cell.scope
    if rule is not None and rule.scopes is not None and scope.name not in rule.scopes:
        allowed = ", ".join(rule.scopes)
        raise Refusal("forbidden", f"{FIELD}: {act.served.name} on scope {scope}; allowed: {allowed}", FIELD)
