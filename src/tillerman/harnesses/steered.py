"""A model with the plan it runs under, as other harnesses take it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tillerman.core.plan import Plan
from tillerman.models.opened import OpenModel, open_model
from tillerman.steering.receipt import Receipt
from tillerman.steering.steer import steer


@dataclass(frozen=True, eq=False)
class SteeredModel:
    """An open model and a plan; an empty plan leaves it unsteered. ``warnings`` name allowed mismatches."""

    opened: OpenModel
    plan: Plan = ()
    warnings: tuple[str, ...] = ()

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
    device: str = "cpu",
    allow_mismatch: bool = False,
) -> SteeredModel:
    """Open a model and the artefact that steers it, as its card says or at another strength; none: unsteered.

    Raises ``ModelError``, ``ArtefactError``, and ``MismatchError`` for an artefact of another model."""
    opened = open_model(model, device=device)
    if artefact is None:
        return SteeredModel(opened)
    loaded, warnings = opened.load_artefact(artefact, allow_mismatch=allow_mismatch)
    return SteeredModel(opened, loaded.plan(strength), warnings)


def receipt_json(receipt: Receipt) -> dict[str, Any]:
    """A receipt as the harnesses' logs hold it: plain mappings, lists, numbers and texts."""
    return asdict(receipt)
