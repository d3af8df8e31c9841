"""What the methods share that train their vectors: the options of the training, and the loss as a choice."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import Row
from tillerman.core.spec import option
from tillerman.core.steerings.vector import SteeringVector
from tillerman.methods.base import Context, Method
from tillerman.models.capture import capture
from tillerman.models.gradients import Taught
from tillerman.models.objectives import Preference
from tillerman.models.training import TrainingOptions, train_vectors


@dataclass(frozen=True)
class Trained(Method):
    """Every hook point has a vector of its own, trained as if it were the only one. The stream's norm is that of the
    prompts' last tokens."""

    steps: int = option(TrainingOptions.steps, "steps of Adam", least=1)
    pairs: int = option(TrainingOptions.pairs, "examples in each step", least=1)
    rate: float = option(TrainingOptions.rate, "how far a step moves the vector, in units of the stream", above=0)

    @property
    def training(self) -> TrainingOptions:
        return TrainingOptions(self.steps, self.pairs, self.rate)


def stream_norms(context: Context, prompts: Sequence[tuple[int, ...]]) -> dict[HookPoint, float]:
    ends = capture(context.opened, [Row(prompt) for prompt in prompts], context.points)
    return {point: float(h.norm(dim=-1).mean()) for point, h in ends.items()}


@dataclass(frozen=True)
class OfPreferences(Trained):
    """Trained on pairs: of every item the wanted answer, and the one that ``caa`` holds against it."""

    title: ClassVar[str]

    @abstractmethod
    def objective(self, pairs: Sequence[Taught]) -> Preference:
        """The loss."""

    def fit(self, context: Context) -> SteeringVector:
        pairs = context.preferences(f"{self.title} trains on answers to a prompt")
        norms = stream_norms(context, [pair.prompt for pair in pairs])
        vectors = train_vectors(
            context.opened,
            self.objective(pairs),
            norms,
            self.training,
            seed=context.seed,
            progress=context.progress,
        )
        return SteeringVector(vectors, norms, context.provenance)
