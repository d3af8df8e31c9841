"""Preventative steering: a callback for transformers' ``Trainer`` and what is built on it (TRL).

Persona vectors (Chen et al., arXiv 2507.21509, section 5.2): a model that is fine-tuned while it is steered *towards* a
trait need not learn that trait from its data, and has less of it once the steering is gone.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tillerman.core.artefact import Artefact
from tillerman.core.errors import UsageError
from tillerman.core.plan import Intervention, Plan
from tillerman.steering.steer import steer

SCOPE = "all"


class PreventativeSteering(TrainerCallback):
    """Steers the forward passes of every training step, and nothing else: evaluation, and generation between steps, see
    the model as it is.

    ``plan``: an artefact, an intervention or several, with scope ``all``: what a trainer passes has no prompt that is
    known as such (``UsageError``). The model is asked once, before the first step, whether the vectors are its own
    (``MismatchError``; ``allow_mismatch`` as for ``steer``); from then on its weights change, as they should.
    ``steps`` counts the steps that were steered, each of which is checked to have been.
    """

    def __init__(self, plan: Plan | Intervention | Artefact, *, allow_mismatch: bool = False) -> None:
        whole = plan.plan() if isinstance(plan, Artefact) else plan
        self.plan: Plan = (whole,) if isinstance(whole, Intervention) else tuple(whole)
        self.allow_mismatch, self.steps = allow_mismatch, 0
        self._open = ExitStack()
        for item in self.plan:
            if str(item.scope) != SCOPE:
                raise UsageError(
                    f"scope {item.scope}: a trainer's batches have no prompt that is known as such; use scope "
                    f"'{SCOPE}' (in a plan NAME@STRENGTH:{SCOPE})"
                )

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **others: Any,
    ) -> None:
        with steer(_given(model), self.plan, allow_mismatch=self.allow_mismatch, must_apply=False):
            pass

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **others: Any,
    ) -> None:
        self._open.close()
        self._open.enter_context(steer(_given(model), self.plan, allow_mismatch=True))

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        """All passes of the step are behind it."""
        self._open.close()
        self.steps += 1

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        self._open.close()


def _given(model: nn.Module | None) -> nn.Module:
    if model is None:
        raise UsageError("PreventativeSteering: the trainer named no model; pass it to Trainer(callbacks=[...])")
    return model
