"""Monitors of a server: what follows every answer, what a crossing does, and what a client is told of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tillerman.core.alarms import Alarm
from tillerman.core.errors import TillermanError, UsageError
from tillerman.serving.artefacts import Library, Served
from tillerman.serving.asked import FIELD, Asked, read_steering
from tillerman.serving.doses import total_doses
from tillerman.serving.engine import Ended, Engine
from tillerman.serving.plans import ServedPlan
from tillerman.serving.policy import Caller, ensure_within
from tillerman.serving.refusals import Refusal
from tillerman.serving.settings import MonitorSettings, PolicySettings, Settings

_SLACK = 1e-6


@dataclass(frozen=True)
class ServedMonitor:
    """One of ``[monitors.NAME]``: the artefact that it is of, its alarm, and the plan that a crossing switches on."""

    served: Served
    alarm: Alarm
    plan: ServedPlan | None = None

    @property
    def name(self) -> str:
        return self.alarm.name


def make_monitors(
    settings: Settings, library: Library, ready: Callable[[Asked], ServedPlan], engine: Engine
) -> tuple[ServedMonitor, ...]:
    """``UsageError`` names the monitor that cannot be served, and why."""
    if settings.monitors and not engine.about.watches:
        names = ", ".join(f"[monitors.{name}]" for name in settings.monitors)
        raise UsageError(
            f"{names}: the engine {engine.about.engine} does not let anything read the stream while it answers; serve "
            "with --engine local, or take the monitors out of the settings"
        )
    return tuple(_made(name, one, settings, library, ready, engine) for name, one in settings.monitors.items())


def _made(
    name: str,
    wanted: MonitorSettings,
    settings: Settings,
    library: Library,
    ready: Callable[[Asked], ServedPlan],
    engine: Engine,
) -> ServedMonitor:
    where = f"monitors.{name}"
    served = library.get(wanted.artefact)
    if served is None:
        raise UsageError(f"{where}: no artefact named {wanted.artefact!r}; known: {', '.join(sorted(library)[:12])}")
    monitor = served.artefact.monitor
    if monitor is None:
        raise UsageError(
            f"{where}: the artefact {wanted.artefact} has no monitor; 'tillerman monitor DATA --artefact FILE' "
            "calibrates one"
        )
    if wanted.threshold is not None:
        monitor = replace(monitor, threshold=wanted.threshold)
    try:
        plan = None
        if wanted.action == "steer":
            plan = ready(read_steering(wanted.plan, f"{where}.plan") or ())
            ensure_within(plan, Caller(), settings.policy)
        alarm = Alarm(name, monitor, wanted.action, () if plan is None else plan.plan)
        problem = engine.problem(alarm.switched)
    except TillermanError as error:
        raise UsageError(f"{where}: {error}") from None
    if problem is not None:
        raise UsageError(f"{where}: this engine cannot serve its plan: {problem}")
    return ServedMonitor(served, alarm, plan)


def ensure_total(plan: ServedPlan, monitors: Sequence[ServedMonitor], policy: PolicySettings) -> None:
    """``Refusal`` (over_cap) where the plan, and what monitors may switch on beside it, are over the cap together."""
    switched = [item for one in monitors for item in one.alarm.switched]
    if not switched:
        return
    for point, total in total_doses((*plan.plan, *switched)).items():
        if not total <= policy.max_total_dose + _SLACK:
            names = ", ".join(one.name for one in monitors if one.plan is not None)
            raise Refusal(
                "over_cap",
                f"{FIELD}: with what this server's monitors ({names}) may switch on it reaches dose {total:.4g} at "
                f"{point}, over the cap of {policy.max_total_dose:g}",
                FIELD,
            )


def admitted_facts(monitors: Sequence[ServedMonitor]) -> dict[str, Any]:
    """What the audit says of them before an answer's first token; nothing where there is no monitor."""
    told = [
        {
            "monitor": one.name,
            "artefact": one.served.name,
            "sha256": one.served.sha256,
            "condition": str(one.alarm.monitor),
            "action": one.alarm.action,
            "plan": None if one.plan is None else one.plan.fingerprint,
        }
        for one in monitors
    ]
    return {"monitors": told} if told else {}


def told_of(monitors: Sequence[ServedMonitor], ends: Sequence[Ended]) -> dict[str, Any]:
    """What a receipt says of them, over all answers of one request; nothing where there is no monitor."""
    if not monitors:
        return {}
    return {"monitors": [_told(i, one, ends) for i, one in enumerate(monitors)], "endings": [e.ending for e in ends]}


def _told(place: int, one: ServedMonitor, ends: Sequence[Ended]) -> dict[str, Any]:
    """``crossed``: after how many tokens of each answer, 0 by its prompt, None not at all."""
    found = [end.followed[place] for end in ends]
    told: dict[str, Any] = {
        "monitor": one.name,
        "artefact": one.served.name,
        "condition": str(one.alarm.monitor),
        "action": one.alarm.action,
        "crossed": [each.token for each in found],
        "values": [each.value for each in found],
    }
    if one.plan is None:
        return told
    applied = [
        {
            "artefact": act.served.name,
            "dose": act.dose,
            "at": {str(p): sum(each.touched[i].tokens[str(p)] for each in found) for p in act.cell.points},
        }
        for i, act in enumerate(one.plan.acts)
    ]
    begins = [None if each.token is None else each.token + 1 for each in found]
    return {**told, "steered_from": begins, "applied": applied}
