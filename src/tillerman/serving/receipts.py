"""What a client is told of what was done, and whether it is what was asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tillerman.serving.engine import Ended, Touched
from tillerman.serving.monitors import ServedMonitor, told_of
from tillerman.serving.plans import Act, ServedPlan

_DIGITS = 12  # of an artefact's sha256


def receipt(
    plan: ServedPlan, ends: Sequence[Ended], engine: str, monitors: Sequence[ServedMonitor] = ()
) -> dict[str, Any]:
    """Over all answers of one request: tokens are sums. ``applied`` is empty for an unsteered answer; ``monitors`` and
    ``endings`` are there where the server has monitors."""
    warnings = dict.fromkeys([*plan.warnings, *(text for end in ends for text in end.warnings)])
    return {
        "plan": plan.fingerprint,
        "engine": engine,
        "cached_prompt_tokens": sum(end.cached_tokens for end in ends),
        "applied": [_applied(act, [end.touched[i] for end in ends]) for i, act in enumerate(plan.acts)],
        "warnings": list(warnings),
        **told_of(monitors, ends),
    }


def difference(plan: ServedPlan, ended: Ended) -> str | None:
    """How what was done differs from the plan, in words fit for the client; None where it does not.

    Nothing may be touched by an intervention of strength 0, or behind a shut gate; all others touch a token at each of
    their hook points, but in an answer that a monitor has ended before they could.
    """
    if len(ended.touched) != len(plan.acts):
        return f"{len(plan.acts)} interventions were asked for, the engine tells of {len(ended.touched)}"
    for act, touched in zip(plan.acts, ended.touched, strict=True):
        points = {str(point) for point in act.cell.points}
        if set(touched.tokens) != points:
            return f"{act.served.name}: asked for at {', '.join(sorted(points))}, done at {_named(touched)}"
        if act.intervention.gate is not None and touched.gate_open is None:
            return f"{act.served.name}: nothing is told of its gate"
        idle = act.cell.strength == 0 or touched.gate_open is False or ended.ending == "aborted"
        enough = any if act.intervention.steering.gates else all  # one that chooses its layer steers at one of them
        if not idle and not enough(count > 0 for count in touched.tokens.values()):
            return f"{act.served.name}: touched no token (scope {act.cell.scope})"
    return None


def _named(touched: Touched) -> str:
    return ", ".join(sorted(touched.tokens)) or "no hook point"


def _applied(act: Act, touched: Sequence[Touched]) -> dict[str, Any]:
    tokens = {str(point): sum(one.tokens[str(point)] for one in touched) for point in act.cell.points}
    gate = act.intervention.gate
    return {
        "artefact": act.served.name,
        "sha256": act.served.sha256[:_DIGITS],
        "operator": act.cell.operator,
        "at": tokens,
        "strength": act.cell.strength,
        "dose": act.dose,
        "scope": str(act.cell.scope),
        "gate": None if gate is None else {"condition": str(gate), "open": [one.gate_open for one in touched]},
    }
