"""The typed log of one evaluation: the product. Reports, cards and ``--json`` are views of it.

Every figure that compares carries n and a 95 % interval. Plain values only: it is written to JSON
and read back without a model. Accuracies are shares in [0, 1]; reports print percentage points.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, is_dataclass
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from tillerman.core.finding import Finding

LOG_VERSION = 1
EQUIVALENCE_ALPHA = 0.05


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Rate:
    """A share of items with its Wilson interval; ``balanced`` is the mean over the right answer's
    letters (or words), which a constant answer cannot raise."""

    value: float
    interval: Interval
    n: int
    balanced: float


@dataclass(frozen=True)
class Effect:
    """Steered minus unsteered on the same items: Tango's score interval, exact McNemar p."""

    value: float
    interval: Interval
    p_value: float
    n: int
    balanced: float  # difference of the balanced accuracies

    @property
    def found(self) -> bool:
        return self.interval.low > 0


@dataclass(frozen=True)
class MeanEffect:
    """Mean paired change of a real-valued score (log-odds, lengths, points): bootstrap interval, sign-flip p."""

    value: float
    interval: Interval
    p_value: float
    n: int

    @property
    def found(self) -> bool:
        return self.interval.low > 0


@dataclass(frozen=True)
class Equivalence:
    """Is an effect too small to matter? Two one-sided tests against ±``margin``; ``p_value`` is the larger of theirs.
    ``interval`` is the 90 % interval, which lies within the margin exactly where that p is below 0.05."""

    value: float
    interval: Interval
    margin: float
    p_value: float
    n: int

    @property
    def equivalent(self) -> bool:
        return self.p_value < EQUIVALENCE_ALPHA


@dataclass(frozen=True)
class Power:
    """Known before the run: on ``n`` test items an effect of ``minimum`` or more is found with probability
    ``power``, if a share ``discordant`` of the items change their answer. None: no effect is found that often."""

    n: int
    minimum: float | None
    discordant: float
    power: float
    alpha: float  # two-sided


@dataclass(frozen=True)
class Condition:
    """One way of running the model on the test items: its rate and its effect against unsteered."""

    name: str  # unsteered, steered, ungated, turned, constant, prompt, both, icl, lora, null:random, null:shuffled
    rate: Rate
    effect: Effect | None  # None for unsteered
    detail: str = ""  # the prompt, the number of shots, the null's cell, ...


@dataclass(frozen=True)
class Cell:
    """One cell of the grid, scored on the validation split."""

    method: str
    hook_point: str
    strength: float
    dose: float
    score: float
    kl: float | None = None  # nats per token on neutral text; None where not measured
    perplexity_ratio: float | None = None
    admissible: bool = True  # satisfies the constraints, as far as measured


@dataclass(frozen=True)
class DosePoint:
    """The chosen vector at one strength on the test items, with side effects: for the curve only,
    never used to choose."""

    strength: float
    dose: float
    rate: Rate
    perplexity_ratio: float
    kl: float


@dataclass(frozen=True)
class SideEffects:
    """What should not change. KL(unsteered || steered) in nats per token, on ``tokens`` of neutral text."""

    text: str  # name of the neutral text
    tokens: int
    perplexity_unsteered: float
    perplexity_ratio: float
    perplexity_ratio_interval: Interval
    kl: float
    unrelated_task: str
    unrelated_unsteered: Rate
    unrelated_steered: Rate
    unrelated_effect: Effect
    unrelated_equivalence: Equivalence | None = None  # None in logs of before it was tested


@dataclass(frozen=True)
class GateTrial:
    """A gate on labelled prompts: F1 on those that chose it and on others, and for what share of the others that
    were to be steered, and of those that were not, it opened."""

    data_name: str
    data_digest: str
    n_train: int
    n_test: int
    f1_train: float
    f1: float
    opened_wanted: Rate
    opened_others: Rate


@dataclass(frozen=True)
class GateFigures:
    """The gate of what was tested: open where what it reads is above (or not above) the threshold. ``opened``: the
    share of the test items that were steered."""

    gate: str
    hook_point: str
    threshold: float
    above: bool
    opened: Rate
    trial: GateTrial | None = None  # None where the artefact tells nothing of it


@dataclass(frozen=True)
class Generation:
    """One prompt continued at several strengths with the same seed: (strength, text) pairs."""

    prompt: str
    continuations: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class SeedResult:
    """One seed's outcome in a run over several seeds."""

    seed: int
    method: str
    hook_point: str
    strength: float
    unsteered: float
    steered: float
    effect: float


@dataclass(frozen=True)
class SeedSummary:
    """Mean effect over seeds with a t-interval and a one-sided t-test (PAS section 4)."""

    mean: float
    interval: Interval
    p_value: float
    seeds: tuple[SeedResult, ...]


@dataclass(frozen=True)
class Fold:
    """One outer fold: the cell that the other folds chose, on the items it was chosen by and on the fold's own."""

    method: str
    hook_point: str
    strength: float
    n_validation: int
    validation: float
    validation_unsteered: float
    n_outer: int
    outer: float
    outer_unsteered: float


@dataclass(frozen=True)
class Nested:
    """How much choosing on validation items flatters: nested cross-validation over train and validation items.

    ``optimism`` is the mean over folds of (chosen cell's validation effect - its effect on the outer fold), with a
    t-interval; effects, since folds differ in what the unsteered model gets right."""

    folds: tuple[Fold, ...]
    validation_effect: float
    outer_effect: float
    outer_interval: Interval
    optimism: float
    optimism_interval: Interval


@dataclass(frozen=True)
class EvaluationLog:
    """Everything one ``fit`` or ``eval`` measured."""

    data_name: str
    model_id: str
    method: str
    hook_point: str
    strength: float
    dose: float
    scope: str
    n_train: int
    n_validation: int
    n_test: int
    conditions: tuple[Condition, ...]
    cells: tuple[Cell, ...]
    cells_compared: int
    curve: tuple[DosePoint, ...]
    side_effects: SideEffects
    diagnostics: tuple[Finding, ...]
    generations: tuple[Generation, ...]
    provenance: dict[str, Any]
    constraints: dict[str, float]
    seconds: float
    seeds: SeedSummary | None = None
    notes: tuple[str, ...] = ()
    seconds_to_choose: float | None = None  # fitting and searching, without the test
    gate: GateFigures | None = None
    power: Power | None = None
    nested: Nested | None = None
    version: int = field(default=LOG_VERSION)

    def condition(self, name: str) -> Condition:
        return next(c for c in self.conditions if c.name == name)

    @property
    def effect(self) -> Effect:
        effect = self.condition("steered").effect
        assert effect is not None  # every condition but 'unsteered' has one
        return effect

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> EvaluationLog:
        return build(cls, values)


T = TypeVar("T")


def build(kind: type[T], values: dict[str, Any]) -> T:
    """A dataclass of plain values from its JSON; fields that it does not know are left out."""
    hints = get_type_hints(kind)
    known = {f.name: _value(hints[f.name], values[f.name]) for f in fields(kind) if f.name in values}  # type: ignore[arg-type]
    return kind(**known)


def _value(hint: Any, value: Any) -> Any:
    """JSON back to the typed value: dataclasses, tuples of one type, pairs, optionals."""
    if value is None:
        return None
    if get_origin(hint) in (Union, UnionType):
        return _value(next(a for a in get_args(hint) if a is not type(None)), value)
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        if inner[-1] is Ellipsis:
            return tuple(_value(inner[0], v) for v in value)
        return tuple(_value(h, v) for h, v in zip(inner, value, strict=True))
    if is_dataclass(hint):
        return build(hint, value)  # type: ignore[arg-type]
    return value
