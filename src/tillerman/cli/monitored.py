"""Answers of ``tillerman generate`` under monitors: what was asked for, and what is told of a crossing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tillerman.core.errors import UsageError

if TYPE_CHECKING:
    from tillerman.core.alarms import Alarm
    from tillerman.core.plan import Plan
    from tillerman.models.opened import OpenModel
    from tillerman.steering.generation import Sampling


@dataclass(frozen=True)
class MonitorChoice:
    """Artefacts whose monitors follow every answer, what a crossing does, and the named plan that it switches on."""

    files: tuple[Path, ...] = ()
    action: str = "warn"
    plan: str | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        if not self.files and (self.action != "warn" or self.plan is not None or self.threshold is not None):
            raise UsageError("--on-crossing, --switch-on and --threshold are about a --monitor; give one")
        if (self.action == "steer") != (self.plan is not None):
            raise UsageError("--on-crossing steer and --switch-on 'NAME@DOSE' go together")
        if self.threshold is not None and len(self.files) > 1:
            raise UsageError("--threshold is of one monitor, in the units of its own direction; give one --monitor")

    def opened(self, opened: OpenModel, *, allow_mismatch: bool) -> tuple[tuple[Alarm, ...], tuple[str, ...]]:
        """The alarms on this model, and what should be known of them."""
        from tillerman.core.alarms import Alarm
        from tillerman.logs.monitor import MonitorLog
        from tillerman.reports.monitor import verdict
        from tillerman.steering.named import open_plan

        plan: Plan = ()
        warnings: list[str] = []
        if self.plan is not None:
            plan, allowed = open_plan(self.plan, opened, allow_mismatch=allow_mismatch)
            warnings += allowed
        alarms = []
        for path in self.files:
            artefact, allowed = opened.load_artefact(path, allow_mismatch=allow_mismatch)
            if artefact.monitor is None:
                raise UsageError(f"{path}: has no monitor; 'tillerman monitor DATA --artefact {path}' calibrates one")
            warnings += allowed
            monitor = artefact.monitor
            log = MonitorLog.from_json(dict(monitor.measured)) if monitor.measured else None
            if log is None:
                warnings.append(f"{path}: nothing was measured of its monitor")
            elif not log.chosen.tells:
                warnings.append(f"{path}: its monitor was calibrated, and: {verdict(log)}")
            if self.threshold is not None:
                monitor = replace(monitor, threshold=self.threshold)
                warnings.append(f"{path}: threshold {self.threshold:g} instead of the calibrated one")
            alarms.append(Alarm(path.stem, monitor, self.action, plan))
        return tuple(alarms), tuple(dict.fromkeys(warnings))


def answer(
    opened: OpenModel, tokens: tuple[int, ...], plan: Plan, sampling: Sampling, alarms: Sequence[Alarm]
) -> dict[str, Any]:
    """The text of a continuation and, where alarms are on, what became of them."""
    from tillerman.steering.generation import continuation
    from tillerman.steering.watching import watched_continuations

    if not alarms:
        return {"text": continuation(opened, tokens, plan, sampling)}
    (made,) = watched_continuations(opened, [tokens], [plan], sampling, alarms)
    crossings = [
        {
            "monitor": one.alarm,
            "action": one.action,
            "token": one.token,
            "value": one.value,
            "threshold": one.threshold,
            **({"steered_from": one.token + 1} if one.action == "steer" else {}),
        }
        for one in made.crossings
    ]
    return {"text": made.text, "crossings": crossings, "ending": "aborted" if made.aborted else "usual"}
