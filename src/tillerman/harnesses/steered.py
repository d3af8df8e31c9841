"""A model with the plan it runs under, as other harnesses take it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tillerman.core.errors import UsageError
from tillerman.core.named_plan import NamedPart, NamedPlan
from tillerman.core.plan import Plan
from tillerman.models.opened import OpenModel, open_model
from tillerman.steering.named import open_plan
from tillerman.steering.receipt import Receipt
from tillerman.steering.steer import steer


@dataclass(frozen=True, eq=False)
class SteeredModel:
    """An open model and a plan; an empty plan leaves it unsteered. ``warnings`` name allowed mismatches, ``named`` is
    the plan as it is written with the names of artefacts, for the harness's log; empty where it was made by hand."""

    opened: OpenModel
    plan: Plan = ()
    warnings: tuple[str, ...] = ()
    named: str = ""

    @contextmanager
    def running(self) -> Iterator[Callable[[], Receipt | None]]:
        """Steer what runs inside the block; what is handed out gives the receipt, None without a plan.
        ``NotAppliedError`` if the plan touched nothing."""
        if not self.plan:
            yield lambda: None
            return
        with steer(self.opened.model, self.plan, warnings=self.warnings) as steered:
            yield lambda: steered.receipt


def open_steered(
    model: str,
    artefact: str | Path | None = None,
    strength: float | None = None,
    *,
    plan: str | None = None,
    device: str = "auto",
    allow_mismatch: bool = False,
) -> SteeredModel:
    """Open a model and what steers it: an artefact at its own cell or at another strength, or a named plan such as
    ``science@0.3+calm@-0.2``; neither: unsteered.

    Raises ``ModelError``, ``ArtefactError``, ``MismatchError`` for an artefact of another model, and ``UsageError`` for
    a plan that cannot be read or stands beside an artefact."""
    if plan is not None and (artefact is not None or strength is not None):
        raise UsageError("a plan names its artefacts and doses; leave artefact and strength out")
    opened = open_model(model, device=device)
    if plan is not None:
        made, allowed = open_plan(plan, opened, allow_mismatch=allow_mismatch)
        return SteeredModel(opened, made, allowed, str(NamedPlan.parse(plan)))
    if artefact is None:
        return SteeredModel(opened)
    loaded, warnings = opened.load_artefact(artefact, allow_mismatch=allow_mismatch)
    applied = loaded if strength is None else replace(loaded, cell=loaded.cell.at(strength))
    named = NamedPart.of(str(Path(artefact).with_suffix("")), applied)
    return SteeredModel(opened, applied.plan(), warnings, str(named))


def receipt_json(receipt: Receipt) -> dict[str, Any]:
    """A receipt as the harnesses' logs hold it: plain mappings, lists, numbers and texts."""
    return asdict(receipt)
