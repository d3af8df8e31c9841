"""Methods that read two sides of rows and make a direction of their activations. The rows of all of them are read
in one pass over the model."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from tillerman.core.errors import FitError
from tillerman.core.provenance import Provenance
from tillerman.core.rows import ContrastSet
from tillerman.core.spec import in_head
from tillerman.core.steerings.base import Steering
from tillerman.data import pairings
from tillerman.methods.activations import Reading
from tillerman.methods.base import Context, Fitted, Method
from tillerman.methods.estimators import ESTIMATORS, OF_MEANS
from tillerman.methods.fit import Activations, fit

MEAN = "mean_difference"


@dataclass(frozen=True)
class ContrastMethod(Method):
    """A pairing (``pair``, those of ``caa`` if not overridden) and a rule that makes a direction of its two sides."""

    of_means: ClassVar[bool] = False  # whether the means of both sides are all that ``direction`` asks for
    reads_itself: ClassVar[bool] = False  # whether what it adds depends on the activation that it is added to

    def pair(self, context: Context) -> ContrastSet:
        """The rows of both sides; ``FitError`` where the items give none."""
        return pairings.caa(context.items, context.sides_writer)

    @abstractmethod
    def direction(
        self, positive: Float[Tensor, "n d"], negative: Float[Tensor, "m d"], paired: bool
    ) -> Float[Tensor, " d"]:
        """From the negative side to the positive, at one hook point, in float64; strength 1 adds it as it is."""

    @property
    def needs_rows(self) -> bool:
        return not self.of_means

    def vector(self, activations: Activations, provenance: Provenance) -> Steering:
        made = fit(activations, self.direction, provenance)
        operator = self.habits.operator
        return made if operator == "add" else replace(made, operator=operator)

    def fit(self, context: Context) -> Steering:
        return self.vector(self.sides(context).activations, context.provenance)

    def sides(self, context: Context) -> Reading:
        """What the run read for it; ``FitError`` where that is not what it will read while it steers."""
        assert context.sides is not None
        elsewhere = [str(p) for p in context.points if self.reads_itself and p.site != context.read_site]
        if elsewhere:
            raise FitError(
                f"{self.name} reads the activation that it changes ({elsewhere[0]}), and the run reads "
                f"{context.read_site}; leave out the site to read, or use --method caa"
            )
        return context.sides

    def fitted(self, context: Context) -> Fitted:
        """The nulls are made from the same activations."""
        sides, vector = self.sides(context), self.fit(context)
        return Fitted(
            self,
            vector,
            partial(self.random, vector),
            lambda seed: self.vector(sides.shuffled(seed), context.provenance),
        )


@dataclass(frozen=True)
class EstimatedMethod(ContrastMethod):
    """A pairing with one of the ``ESTIMATORS``, which its name says: ``caa+pca``."""

    estimator: str = in_head(MEAN)

    def __post_init__(self) -> None:
        _ = ESTIMATORS[self.estimator]  # an unknown name is an error that lists the known ones
        super().__post_init__()

    @property
    def head(self) -> str:
        return self.name if self.estimator == MEAN else f"{self.name}+{self.estimator}"

    @property
    def needs_rows(self) -> bool:
        return self.estimator not in OF_MEANS

    def direction(
        self, positive: Float[Tensor, "n d"], negative: Float[Tensor, "m d"], paired: bool
    ) -> Float[Tensor, " d"]:
        return ESTIMATORS[self.estimator](positive, negative, paired)
