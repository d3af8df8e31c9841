"""What every method did on every behaviour of a model, from logs of evaluations and of comparisons, as plain values.

A row holds what was measured and nothing else: a behaviour that was not run, or whose data the method refused, is
missing; where a method abstains, its effect is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from behaviours import BEHAVIOURS, DEFAULTS, FINE_TUNED
from measured import Measured, Refusals
from standing import is_written, works

from tillerman.logs.comparison import ComparisonLog, MethodResult
from tillerman.logs.evaluation import EvaluationLog
from tillerman.statistics.estimates import holm, t_interval
from tillerman.statistics.values import LEAST_ITEMS, NO_INTERVAL, Effect, Interval, MeanEffect

BASELINES = {"prompt": "prompt", "icl": "few-shot", "lora": "LoRA"}  # conditions of a log, as rows are called
KINDS = {"written": "ways of writing", "answered": "yes/no personas"}
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Cell:
    """One row on one behaviour: ``effect`` against unsteered, a score or a share of right answers. ``does_it``: by the
    rule of the page that the figures come from. ``beside``: the effects of the baselines on the same items, by their
    rows' names. What a log does not hold is None."""

    effect: float
    p_value: float
    does_it: bool
    abstains: bool = False
    beside: Mapping[str, float] = field(default_factory=dict)
    wrong: float | None = None  # share of items moved the wrong way
    kl: float | None = None
    repeated: float | None = None  # of the replies' runs of words, steered minus unsteered
    perplexity: float | None = None  # ratio, on neutral text
    at_kl: float | None = None  # effect at the strength of a common KL
    seconds: float | None = None
    time_ratio: float | None = None
    size: int | None = None  # bytes of the artefact
    unsafe: float | None = None  # change of the share of unsafe prompts that are refused
    safe: float | None = None  # the same of safe ones


@dataclass(frozen=True)
class Row:
    name: str
    cells: dict[str, Cell] = field(default_factory=dict)  # by behaviour
    refused: int = 0
    is_baseline: bool = False

    def mean(self, of: Callable[[Cell], float | None], steering: bool = False) -> float | None:
        """Over the behaviours that have the figure; ``steering``: of those where it does not abstain."""
        found = self._known(of, steering)
        return float(np.mean(found)) if found else None

    def median(self, of: Callable[[Cell], float | None], steering: bool = False) -> float | None:
        found = self._known(of, steering)
        return float(np.median(found)) if found else None

    def _known(self, of: Callable[[Cell], float | None], steering: bool) -> list[float]:
        return [v for c in self.cells.values() if not (steering and c.abstains) if (v := of(c)) is not None]


class Mean(NamedTuple):
    """Over ``n`` behaviours, which are what the interval is about."""

    value: float
    interval: Interval
    n: int


@dataclass(frozen=True)
class Board:
    """One model and one kind of behaviour: rows that can be compared. ``scale`` turns an effect into what is shown:
    1 for a score, 100 for percentage points. ``compared``: of one comparison of all methods, whose log holds more."""

    model: str
    kind: str
    behaviours: tuple[str, ...]
    rows: tuple[Row, ...]
    scale: float
    compared: bool = False

    def significant(self) -> dict[tuple[str, str], bool]:
        """By row and behaviour: an effect above 0 whose p is below 0.05 after Holm's adjustment for every test of the
        board, those of abstaining methods (p = 1) and of the baselines too."""
        keys = [(row.name, name) for row in self.rows for name in row.cells]
        cells = [cell for row in self.rows for cell in row.cells.values()]
        raised = holm([cell.p_value for cell in cells]) if cells else []
        return {key: cell.effect > 0 and p < SIGNIFICANT for key, cell, p in zip(keys, cells, raised, strict=True)}

    def is_whole(self, row: Row) -> bool:
        return set(row.cells) == set(self.behaviours)

    @property
    def tests(self) -> int:
        return sum(len(row.cells) for row in self.rows)


def mean_of(values: Sequence[float]) -> Mean | None:
    """A t-interval over behaviours from five on."""
    if not values:
        return None
    interval = t_interval(values)[1] if len(values) >= LEAST_ITEMS else NO_INTERVAL
    return Mean(float(np.mean(values)), interval, len(values))


def effect_of(row: Row) -> Mean | None:
    return mean_of([cell.effect for cell in row.cells.values()])


def lead(row: Row, baseline: str) -> Mean | None:
    """The row's effects minus a baseline's on the same items."""
    return mean_of([cell.effect - cell.beside[baseline] for cell in row.cells.values() if baseline in cell.beside])


def real_boards(many: Sequence[Measured], model: str, title: str) -> list[Board]:
    """Of a real model: ways of writing, then personas. Rows are all methods that the logs hold."""
    mine = [one for one in many if one.model == model]
    boards = []
    for kind in KINDS:
        here = [one for one in mine if BEHAVIOURS[one.behaviour].kind == kind]
        names = tuple(name for name, b in BEHAVIOURS.items() if b.kind == kind)
        if here:
            scale = 1.0 if kind == "written" else 100.0
            boards.append(Board(title, kind, names, _real_rows(here, kind == "written"), scale))
    return boards


def _real_rows(here: Sequence[Measured], written: bool) -> tuple[Row, ...]:
    found = []
    told: dict[str, dict[str, Cell]] = {name: {} for name in BASELINES.values()}
    for method in sorted(dict.fromkeys(one.method for one in here), key=_by_baselines):
        of_method = [one for one in here if one.method == method]
        cells = {}
        for one in of_method:
            if one.log is None:
                continue
            beside = _baselines(one, one.log, written)
            for name, baseline in beside.items():  # those of the method that comes first stand for all
                told[name].setdefault(one.behaviour, baseline)
                if told[name][one.behaviour].unsafe is None:  # whose run may not have asked
                    asked = {"unsafe": baseline.unsafe, "safe": baseline.safe}
                    told[name][one.behaviour] = replace(told[name][one.behaviour], **asked)
            cell = _cell(one, one.log, written, {name: baseline.effect for name, baseline in beside.items()})
            if cell is not None:
                cells[one.behaviour] = cell
        found.append(Row(method, cells, len(of_method) - len(cells)))
    found = [row if row.name == DEFAULTS else _beside_all(row, told) for row in found]
    baselines = (_beside_all(Row(name, of_name, is_baseline=True), told) for name, of_name in told.items())
    return (*baselines, *sorted(found, key=_by_effect))


def _by_baselines(method: str) -> tuple[bool, bool]:
    """Methods whose runs hold all baselines first, and those on prompts of their own last."""
    return method == DEFAULTS, method not in FINE_TUNED


def _beside_all(row: Row, told: Mapping[str, Mapping[str, Cell]]) -> Row:
    """With the baselines that the row's own logs do not hold and another method's do, on the same test items: what
    fine-tuning does is measured once for each behaviour."""

    def beside(name: str, cell: Cell) -> Cell:
        known = {baseline: of[name].effect for baseline, of in told.items() if name in of}
        return replace(cell, beside={**known, **cell.beside})

    return replace(row, cells={name: beside(name, cell) for name, cell in row.cells.items()})


def _by_effect(row: Row) -> tuple[bool, float]:
    mean = effect_of(row)
    return mean is None, 0.0 if mean is None else -mean.value


def _cell(one: Measured, log: EvaluationLog, written: bool, beside: Mapping[str, float]) -> Cell | None:
    abstains = log.strength == 0
    effect: Effect | MeanEffect | None = log.effect
    repeated = None if log.coherence is None else log.coherence.repeated_steered - log.coherence.repeated_unsteered
    if written:
        if not is_written(log) or log.written is None:
            return None  # no scorer could be made: nothing was measured
        plain, steered = log.written.condition("unsteered"), log.written.condition("steered")
        effect = None if steered is None else steered.change
        repeated = None if plain is None or steered is None else steered.repetition - plain.repetition
    if not abstains and effect is None:
        return None
    side = log.side_effects
    return Cell(
        effect=0.0 if abstains or effect is None else effect.value,
        p_value=1.0 if abstains or effect is None else effect.p_value,
        does_it=works(log),
        abstains=abstains,
        beside=beside,
        wrong=None if log.bias is None else log.bias.moved_wrong,
        kl=side.kl,
        repeated=repeated,
        perplexity=side.perplexity_ratio,
        seconds=one.cpu_seconds,
        size=one.size,
        unsafe=_changed(one.unsafe),
        safe=_changed(one.safe),
    )


def _changed(side: Refusals | None) -> float | None:
    return None if side is None else side.steered - side.unsteered


def _prompted(side: Refusals | None) -> float | None:
    return None if side is None or side.prompt is None else side.prompt - side.unsteered


def _baselines(one: Measured, log: EvaluationLog, written: bool) -> dict[str, Cell]:
    """By their rows' names, each with those beside it. Of refusals the prompt's alone are measured."""
    effects: dict[str, Effect | MeanEffect | None] = {c.name: c.effect for c in log.conditions}
    again: dict[str, float] = {}
    if written:
        conditions = () if log.written is None else log.written.conditions
        effects = {c.name: c.change for c in conditions}
        plain = log.written and log.written.condition("unsteered")
        again = {c.name: c.repetition - plain.repetition for c in conditions} if plain else {}
    found = _told(effects, again)
    if "prompt" in found:
        found["prompt"] = replace(found["prompt"], unsafe=_prompted(one.unsafe), safe=_prompted(one.safe))
    return found


def _told(effects: Mapping[str, Effect | MeanEffect | None], again: Mapping[str, float]) -> dict[str, Cell]:
    found = {name: e for condition, name in BASELINES.items() if (e := effects.get(condition)) is not None}
    beside = {name: effect.value for name, effect in found.items()}
    conditions = {name: condition for condition, name in BASELINES.items()}
    return {
        name: Cell(e.value, e.p_value, e.found, beside=beside, repeated=again.get(conditions[name]))
        for name, e in found.items()
    }


def compared_board(log: ComparisonLog, title: str) -> Board:
    """Of a comparison: a method does it where it clears both its nulls (docs/results.md)."""
    parts = log.comparisons
    names = tuple(part.data_name for part in parts)
    methods = dict.fromkeys(m.method for part in parts for m in part.methods)
    methods |= dict.fromkeys(one.method for part in parts for one in part.left_out)
    told = {part.data_name: _told({c.name: c.effect for c in part.baselines}, {}) for part in parts}
    rows = [
        Row(
            name,
            {p.data_name: _compared(m, told[p.data_name]) for p in parts for m in p.methods if m.method == name},
            sum(one.method == name for part in parts for one in part.left_out),
        )
        for name in methods
    ]
    baselines = [
        Row(name, {data: of[name] for data, of in told.items() if name in of}, is_baseline=True)
        for name in BASELINES.values()
    ]
    return Board(title, "answered", names, (*baselines, *sorted(rows, key=_by_effect)), 100.0, compared=True)


def _compared(m: MethodResult, told: Mapping[str, Cell]) -> Cell:
    return Cell(
        effect=m.effect.value,
        p_value=m.effect.p_value,
        does_it=m.clears_nulls,
        abstains=m.strength == 0,
        beside={name: cell.effect for name, cell in told.items()},
        wrong=m.moved_wrong,
        kl=m.side_effects.kl,
        perplexity=m.side_effects.perplexity_ratio,
        at_kl=None if m.at_budget is None else m.at_budget.effect.value,
        seconds=m.cost.fit_seconds,
        time_ratio=m.cost.time_ratio,
        size=m.cost.artefact_bytes,
    )
