"""The typed log of one evaluation: the product. Reports, cards and ``--json`` are views of it.

Every figure that compares carries n and a 95 % interval. Plain values only: it is written to JSON
and read back without a model. Accuracies are shares in [0, 1]; reports print percentage points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tillerman.core.finding import Finding
from tillerman.logs.base import Log
from tillerman.logs.evidence import Bias, Coherence, DoseRange, ItemResult, PromptTrial, WrittenReplies, WrittenScorer
from tillerman.logs.forecast import EffectForecast
from tillerman.logs.tidy import Tables, record
from tillerman.statistics.values import Effect, Equivalence, Interval, Power, Rate


@dataclass(frozen=True)
class Condition:
    """One way of running the model on the test items: its rate and its effect against unsteered."""

    name: str  # unsteered, steered, ungated, turned, constant, prompt, both, icl, lora, null:random, null:shuffled
    rate: Rate
    effect: Effect | None  # None for unsteered
    detail: str = ""  # the prompt, the number of shots, the null's cell, ...
    lead: Effect | None = None  # of a baseline: steered minus it on the same items


@dataclass(frozen=True)
class SearchedCell:
    """One cell of the grid, scored on the validation split."""

    method: str
    hook_point: str
    strength: float
    dose: float
    score: float
    kl: float | None = None  # nats per token on neutral text (its first part where that decided); None: not measured
    perplexity_ratio: float | None = None
    admissible: bool = True  # satisfies the constraints, as far as measured
    written: float | None = None  # what the search for written replies went by; None where it did not
    read: str = ""  # where the vector was read, if not as the run reads


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
    """Selection optimism: nested cross-validation over train and validation items.

    ``optimism`` is the mean over folds of (chosen cell's validation effect - its effect on the outer fold), with a
    t-interval; effects, since folds differ in what the unsteered model gets right."""

    folds: tuple[Fold, ...]
    validation_effect: float
    outer_effect: float
    outer_interval: Interval
    optimism: float
    optimism_interval: Interval


@dataclass(frozen=True, repr=False)
class EvaluationLog(Log):
    """Everything one ``fit`` or ``eval`` measured."""

    kind: ClassVar[str] = "evaluation"
    maker: ClassVar[str] = "tillerman fit"

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
    cells: tuple[SearchedCell, ...]
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
    prompts: tuple[PromptTrial, ...] = ()  # candidates for the prompt baseline, the one taken (or no prompt) first
    seconds_for_prompt: float | None = None  # of the search for that prompt; None where there was none
    bias: Bias | None = None
    forecast: EffectForecast | None = None  # of the training pairs, before the fit
    written: WrittenReplies | None = None
    dose_range: DoseRange | None = None
    coherence: Coherence | None = None
    items: tuple[ItemResult, ...] = ()
    objective: str = "scored"  # or written: what the search maximised
    of_cells: int | None = None  # cells of the whole grid, of which ``cells_compared`` were looked at
    unchecked: tuple[str, ...] = ()  # what a fast run left out
    promptable: bool = True  # False of labelled texts, which no prompt precedes

    def check(self) -> None:
        """Every report compares: with both of the model's ways, and an effect for all but the unsteered one."""
        told = [("conditions", [condition.name for condition in self.conditions])]
        if self.bias is not None:
            told.append(("bias", [one.condition for one in self.bias.conditions]))
        for place, names in told:
            missing = {"unsteered", "steered"} - set(names)
            if missing:
                raise ValueError(f"{place}: none is called {min(missing)}")
        bare = [c.name for c in self.conditions if c.effect is None and c.name != "unsteered"]
        if bare:
            raise ValueError(f"conditions: {bare[0]} has no effect")

    def tidy(self) -> Tables:
        about = {"data": self.data_name, "model": self.model_id}
        names = ("method", "hook_point", "strength", "dose", "scope")
        mine = {**about, **{name: getattr(self, name) for name in names}}
        written = self.written or WrittenReplies(WrittenScorer("", math.nan, Interval(), 0), ())
        return {
            "conditions": (record(one, {**mine, "condition": one.name}) for one in self.conditions),
            "cells": (record(one, about) for one in self.cells),
            "curve": (record(one, {**about, "method": self.method}) for one in self.curve),
            "items": (
                record(
                    answer,
                    {**about, "item": item.id, "question": item.question, "options": list(item.options)}
                    | {"wanted": item.right, "slope": item.slope},
                )
                for item in self.items
                for answer in item.answers
            ),
            "side_effects": (record(one, mine) for one in (self.side_effects,)),
            "written": (record(one, {**mine, "condition": one.name}, ("replies",)) for one in written.conditions),
            "replies": (
                {**mine, "condition": one.name, "prompt": prompt, "reply": reply}
                for one in written.conditions
                for prompt, reply in zip(written.prompts, one.replies, strict=False)  # none where they were not kept
            ),
            "prompts": (record(one, about) for one in self.prompts),
            "seeds": (record(one, about) for one in (self.seeds.seeds if self.seeds else ())),
            "folds": (record(one, about) for one in (self.nested.folds if self.nested else ())),
        }

    def condition(self, name: str) -> Condition:
        return next(c for c in self.conditions if c.name == name)

    def for_card(self) -> dict[str, Any]:
        """The log as an artefact carries it: without the items, which are many and the data's, and of the forecast
        only the best place."""
        return replace(self, items=(), forecast=self.forecast and self.forecast.for_card()).to_json()

    @property
    def chosen(self) -> SearchedCell | None:
        """The cell of the search that was taken; None where nothing was searched."""
        mine = (self.method, self.hook_point, self.strength)
        found = [c for c in self.cells if (c.method, c.hook_point, c.strength) == mine]
        read = self.provenance.get("read_positions")
        return next((c for c in found if c.read == read), found[0] if found else None)

    @property
    def effect(self) -> Effect:
        effect = self.condition("steered").effect
        assert effect is not None  # every condition but 'unsteered' has one
        return effect
