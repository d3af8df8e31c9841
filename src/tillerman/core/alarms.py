"""Alarms: a monitor, and what is done with an answer in which it is crossed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from tillerman.core.errors import UnknownNameError, UsageError
from tillerman.core.monitors import Monitor
from tillerman.core.plan import Plan

ACTIONS = ("warn", "abort", "steer")


@dataclass(frozen=True, eq=False)
class Alarm:
    """What a crossing of ``monitor`` does: ``warn`` nothing but to say so, ``abort`` end the answer with the token that
    crossed, ``steer`` apply ``plan`` from the next token of that text on.

    Up to the crossing the answer is the one without the alarm. ``UsageError`` for a plan without ``steer``, or none
    with it, and for one that has gates or means no tokens of an answer.
    """

    name: str
    monitor: Monitor
    action: str = "warn"
    plan: Plan = ()

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise UnknownNameError("action of a monitor", self.action, ACTIONS)
        if (self.action == "steer") != bool(self.plan):
            wanted = "say which plan it switches on" if self.action == "steer" else "only 'steer' switches a plan on"
            raise UsageError(f"monitor {self.name}: action {self.action!r}: {wanted}")
        if any(item.gates for item in self.plan):
            raise UsageError(
                f"monitor {self.name}: its plan has a gate, and an intervention is switched on by one thing"
            )
        assert len(self.switched) == len(self.plan)  # an intervention that cannot be switched on says so here

    @cached_property
    def switched(self) -> Plan:
        """The plan, switched on by the monitor."""
        return tuple(replace(item, gate=self.monitor) for item in self.plan)
