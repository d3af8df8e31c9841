"""The typed log of a comparison: methods side by side on the same items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from tillerman.logs.base import Log
from tillerman.logs.evaluation import Condition, SideEffects
from tillerman.logs.tidy import Row, Tables, record
from tillerman.statistics.values import Effect, Interval, Rate


@dataclass(frozen=True)
class Cost:
    """What a method takes: time to fit and search as if it ran alone, the artefact without its card, and the
    time of a steered token over that of an unsteered one."""

    fit_seconds: float
    artefact_bytes: int
    time_ratio: float
    time_ratio_interval: Interval


@dataclass(frozen=True)
class AtBudget:
    """The same vector at the strength whose KL on neutral text is the budget. Not ``reached``: no strength has
    that KL, and this is the costliest one below it."""

    reached: bool
    strength: float
    dose: float
    kl: float
    perplexity_ratio: float
    rate: Rate
    effect: Effect
    p_holm: float


@dataclass(frozen=True)
class MethodResult:
    """One method, searched on the validation share and tested at the cell that was chosen there."""

    method: str  # as asked for
    fitted: str  # what the search chose of it, where it names several
    hook_point: str
    strength: float
    dose: float
    scope: str
    cells_compared: int
    rate: Rate
    effect: Effect
    p_holm: float  # adjusted for the number of methods compared
    nulls: tuple[Condition, ...]
    side_effects: SideEffects
    cost: Cost
    at_budget: AtBudget | None = None
    moved_wrong: float | None = None  # share of items whose log-odds fell, and the slope over the doses: see ``Bias``
    wrong_interval: Interval | None = None
    slope: float | None = None
    slope_interval: Interval | None = None

    @property
    def clears_nulls(self) -> bool:
        """The interval of the effect lies above zero and above the interval of each null."""
        tops = [null.effect.interval.high for null in self.nulls if null.effect is not None]
        return self.effect.interval.low > max(0.0, *tops)


@dataclass(frozen=True)
class MethodLeftOut:
    """A method that could not be fitted on these data or this model, and why."""

    method: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """Several methods on one data set: one split, one search budget, one set of test items."""

    data_name: str
    model_id: str
    seed: int
    n_train: int
    n_validation: int
    n_test: int
    test_digest: str  # of the test items' ids
    baselines: tuple[Condition, ...]  # unsteered, prompt, icl, lora
    methods: tuple[MethodResult, ...]
    left_out: tuple[MethodLeftOut, ...]
    equal_kl: float | None  # the budget, nats per token
    provenance: dict[str, Any]
    seconds: float

    @property
    def standing(self) -> tuple[MethodResult, ...]:
        """The methods whose effect stands: above 0, and p below 0.05 after Holm's adjustment."""
        return tuple(m for m in self.methods if m.effect.found and m.p_holm < 0.05)

    def method(self, name: str) -> MethodResult:
        return next(m for m in self.methods if m.method == name)


@dataclass(frozen=True, repr=False)
class ComparisonLog(Log):
    """Everything one ``compare`` measured, a table per data set."""

    kind: ClassVar[str] = "comparison"
    maker: ClassVar[str] = "tillerman compare --out FOLDER"

    comparisons: tuple[Comparison, ...]

    def tidy(self) -> Tables:
        return {
            "methods": (
                record(one, _about(part), ("nulls",)) | {"clears_nulls": one.clears_nulls}
                for part in self.comparisons
                for one in part.methods
            ),
            "conditions": (
                record(one, {**_about(part), "method": method, "condition": one.name})
                for part in self.comparisons
                for method, named in [("", part.baselines), *((m.method, m.nulls) for m in part.methods)]
                for one in named
            ),
            "left_out": (record(one, _about(part)) for part in self.comparisons for one in part.left_out),
        }


def _about(part: Comparison) -> Row:
    return {"data": part.data_name, "model": part.model_id}
