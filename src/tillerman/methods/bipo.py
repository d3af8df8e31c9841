"""BiPO: a vector trained so that, added, it makes the wanted answers likelier than the others, and subtracted,
the others likelier than the wanted ones (Cao et al., arXiv 2406.00045, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tillerman.core.rows import Row
from tillerman.core.spec import option
from tillerman.core.steerings.vector import SteeringVector
from tillerman.methods.base import Context, Method
from tillerman.models.capture import capture
from tillerman.models.training import TrainingOptions, train_vectors


@dataclass(frozen=True)
class BiPO(Method):
    """Train on pairs: of every item the wanted answer, and the one that ``caa`` holds against it.

    Every hook point has a vector of its own, trained as if it were the only one. The stream's norm is that of the
    prompts' last tokens.
    """

    name: ClassVar[str] = "bipo"
    steps: int = option(TrainingOptions.steps, "steps of Adam", least=1)
    pairs: int = option(TrainingOptions.pairs, "examples in each step", least=1)
    rate: float = option(TrainingOptions.rate, "how far a step moves the vector, in units of the stream", above=0)
    beta: float = option(TrainingOptions.beta, "weight of the margin in the loss", above=0)

    def fit(self, context: Context) -> SteeringVector:
        pairs = context.preferences("BiPO trains on answers to a prompt")
        ends = capture(context.opened, [Row(pair.prompt) for pair in pairs], context.points)
        norms = {p: float(h.norm(dim=-1).mean()) for p, h in ends.items()}
        options = TrainingOptions(self.steps, self.pairs, self.rate, self.beta)
        vectors = train_vectors(context.opened, pairs, norms, options, seed=context.seed, progress=context.progress)
        return SteeringVector(vectors, norms, context.provenance)
