"""What a local engine may be told, and which plans it can serve."""

from __future__ import annotations

from dataclasses import dataclass

from tillerman.core.errors import TillermanError, UsageError
from tillerman.core.plan import Plan
from tillerman.models.opened import OpenModel
from tillerman.steering.lone import LoneText
from tillerman.steering.lookahead import ensure_in_order
from tillerman.steering.steer import ensure_fits

_CPU_PASS, _PASS = 256, 2048


@dataclass(frozen=True)
class LocalSettings:
    """``max_batch`` answers are made at once, ``max_waiting`` more may wait. An idle engine gathers jobs for
    ``max_wait_ms`` before it begins. ``max_tokens`` bounds every answer. Between two tokens of the answers under way,
    ``prompt_tokens`` of new prompts are run (None: 256 on a CPU, 2,048 elsewhere). ``allow_mismatch``: plans of other
    models are served, with a warning."""

    max_batch: int = 16
    max_waiting: int = 1024
    max_wait_ms: float = 20.0
    max_tokens: int = 4096
    prompt_tokens: int | None = None
    allow_mismatch: bool = False

    def __post_init__(self) -> None:
        counts = {"max_batch": self.max_batch, "max_waiting": self.max_waiting, "max_tokens": self.max_tokens}
        if self.prompt_tokens is not None:
            counts["prompt_tokens"] = self.prompt_tokens
        for name, count in counts.items():
            if count < 1:
                raise UsageError(f"{name} {count}: expected at least 1")
        if not 0 <= self.max_wait_ms < float("inf"):
            raise UsageError(f"max_wait_ms {self.max_wait_ms}: expected 0 or more milliseconds")

    def of_prompts(self, opened: OpenModel) -> int:
        """Tokens of prompts per pass."""
        return self.prompt_tokens or (_CPU_PASS if opened.device.type == "cpu" else _PASS)


def problem_of(opened: OpenModel, plan: Plan, *, allow_mismatch: bool) -> str | None:
    """Why the model cannot be steered by this plan, whatever the prompt; None where it can."""
    try:
        warnings_of(opened, plan, allow_mismatch=allow_mismatch)
        if plan:
            ensure_fits(opened.parts, plan)
        ensure_in_order(plan)
        LoneText(plan, (0,))  # a scope may lack its tags
    except TillermanError as error:
        return str(error)
    return None


def warnings_of(opened: OpenModel, plan: Plan, *, allow_mismatch: bool) -> tuple[str, ...]:
    """What of the vectors' provenance does not fit the model but is allowed. ``MismatchError`` where it is not."""
    made = {id(item.steering): item.steering.provenance for item in plan}.values()
    found = [opened.check_provenance(one, allow_mismatch=allow_mismatch) for one in made]
    return tuple(dict.fromkeys(line for lines in found for line in lines))
