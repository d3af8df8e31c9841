"""A paper's protocol as one frozen value: data, steps, tables with the published figures, and claims.

What the words mean to a reader of the TOML stands in docs/reproductions.md. Nothing here runs anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from tillerman.core.errors import UnknownNameError, UsageError
from tillerman.recipes.layouts import TableLayout, Where
from tillerman.recipes.metrics import METRICS

NEEDS = ("experts", "sae", "thoughts")
_STRENGTHS = ("", "strengths", "two strengths")
SWEEPS = ("curve", "replies", "slopes")  # steps that steer at given strengths
T = TypeVar("T")


@dataclass(frozen=True)
class Task:
    """One data set. ``file`` is relative to the data folder, or ``sample:NAME``. ``instead`` stands in for a file that
    is not there; what it is says ``instead_note``. ``test``: items of another file are asked, not a share of these."""

    name: str
    file: str
    test: str = ""
    instead: str = ""
    instead_note: str = ""
    layout: str = ""
    positive: str = ""
    prompt: str = ""  # the prompt baseline's
    opposite: str = ""  # a prompt that asks for the opposite
    group: str = ""  # of an OpinionsQA folder: ATTRIBUTE/GROUP

    @property
    def files(self) -> tuple[str, ...]:
        return (self.file, self.test) if self.test else (self.file,)


@dataclass(frozen=True)
class Depths:
    """Blocks as the paper counts them, 0 the first, of a model with ``of`` blocks."""

    of: int
    at: tuple[int, ...]

    def __post_init__(self) -> None:
        outside = [layer for layer in self.at if not 0 <= layer < self.of]
        if outside or not self.at:
            raise UsageError(f"layers: expected blocks 0..{self.of - 1}, got {outside or 'none'}")

    def of_model(self, layers: int) -> dict[int, int]:
        """The paper's block -> the one that holds its middle in a model with ``layers`` blocks; itself where the
        depths are the same."""
        return {layer: (2 * layer + 1) * layers // (2 * self.of) for layer in self.at}


@dataclass(frozen=True)
class At:
    """One cell of a sweep: a strength, at a layer where the step has several."""

    strength: float
    layer: int | None = None


@dataclass(frozen=True)
class Arm:
    """A method under a name, with what it alone is set to. ``draws``: not the method's vector, but so many random
    ones of its norms. ``at``: of a sweep only these cells; all of them if none is named."""

    name: str
    method: str
    draws: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    strengths: tuple[float, ...] = ()  # instead of the step's
    at: tuple[At, ...] = ()


@dataclass(frozen=True)
class Step:
    """One kind of work over tasks, arms and seeds.

    ``fit``      a search on the validation items and one test per arm
    ``curve``    every layer and strength on the test items, nothing chosen
    ``replies``  the same for open questions that the model answers in its own words
    ``shares``   towards the answer shares of groups of people
    ``study``    a search, and one of ``tillerman.studies`` of what it chose, with its ``options``
    ``slopes``   the log-odds of every test item over the strengths at one layer, also under other prompts

    ``settings`` are fields of ``Experiment``. ``unit`` is what intervals are taken over.
    """

    name: str
    kind: Literal["fit", "curve", "replies", "shares", "study", "slopes"]
    words: str
    tasks: tuple[str, ...]
    arms: tuple[Arm, ...]
    unit: Literal["seed", "task", "item"]
    settings: Mapping[str, Any] = field(default_factory=dict)
    layers: Depths | None = None
    strengths: tuple[float, ...] = ()
    study: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    seeds: int | None = None  # only the first of the recipe's
    least: int = 0  # items of each task that it makes no sense without: --limit does not go below
    drift: bool = True  # curve: perplexity, KL and the unrelated task at every cell; not of random draws

    def __post_init__(self) -> None:
        _ensure_once("arm", [arm.name for arm in self.arms])
        if (self.kind == "study") != bool(self.study) or (self.options and not self.study):
            raise UsageError(f"step {self.name}: study and options are for steps of kind 'study', which must name one")
        if any(arm.draws for arm in self.arms) and self.kind not in SWEEPS:
            raise UsageError(f"step {self.name}: draws are for {', '.join(SWEEPS)}; a {self.kind} has its own nulls")
        if self.kind == "slopes" and (self.layers is None or len(self.layers.at) != 1):
            raise UsageError(f"step {self.name}: slopes are taken at one layer: layers = {{ of = 32, at = [13] }}")
        for need in self.needs:
            if need not in NEEDS:
                raise UnknownNameError("need", need, NEEDS)
        least = {"curve": 1, "replies": 1, "slopes": 2}.get(self.kind, 0)
        for arm in self.arms:
            if len(set(arm.strengths or self.strengths)) < least:
                raise UsageError(f"step {self.name}, arm {arm.name}: kind {self.kind!r} needs {_STRENGTHS[least]}")


@dataclass(frozen=True)
class Given:
    """What must hold before a claim can be tested: a figure lies clearly above a value."""

    select: Where
    above: float


@dataclass(frozen=True)
class Claim:
    """What the paper says, and how it is tested: the interval of ``select`` (minus ``against``) lies above, below or
    within ``margin`` of 0. ``also``: tested once more in other steps. ``untestable``: why no data could."""

    name: str
    words: str
    source: str
    select: Where = field(default_factory=Where)
    against: Where | None = None
    expect: Literal["above", "below", "within"] = "above"
    margin: float = 0.0
    given: Given | None = None
    also: tuple[str, ...] = ()
    untestable: str = ""

    def __post_init__(self) -> None:
        if self.expect == "within" and self.margin <= 0:
            raise UsageError(f"claim {self.name}: expect 'within' needs a margin above 0")
        if self.select.ranked and self.against is not None:
            raise UsageError(f"claim {self.name}: a rank correlation stands alone; leave out 'against'")

    def tested(self) -> Iterator[Where]:
        """The cells in every step that it is tested in."""
        for step in () if self.untestable else (self.select.step, *self.also):
            here = replace(self, select=replace(self.select, step=step), also=())
            yield from here.cells()

    def cells(self) -> Iterator[Where]:
        if not self.untestable:
            yield self.select
            if self.against is not None:
                yield self.select.but(self.against)
            if self.given is not None:
                yield self.select.but(self.given.select)


@dataclass(frozen=True)
class Recipe:
    """Everything of one paper. ``UsageError`` or ``UnknownNameError`` where its parts do not fit together."""

    name: str
    title: str
    paper: str
    about: str
    seeds: tuple[int, ...]
    limit: int
    tasks: tuple[Task, ...]
    steps: tuple[Step, ...]
    tables: tuple[TableLayout, ...]
    claims: tuple[Claim, ...]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind, names in (
            ("task", [*(task.name for task in self.tasks), *self.groups]),
            ("step", [step.name for step in self.steps]),
            ("claim", [claim.name for claim in self.claims]),
        ):
            _ensure_once(kind, names)
        if not self.seeds:
            raise UsageError("seeds: expected at least one")
        for group in self.groups.values():
            _ = [self.task(name) for name in group]
        for step in self.steps:
            _ = self.tasks_of(step.tasks)
        for table in self.tables:
            self._check(f"table {table.title!r}", table.cells(), table.also)
        for claim in self.claims:
            self._check(f"claim {claim.name}", claim.cells(), claim.also)

    def task(self, name: str) -> Task:
        return _named("task", name, {task.name: task for task in self.tasks})

    def step(self, name: str) -> Step:
        return _named("step", name, {step.name: step for step in self.steps})

    def tasks_of(self, names: Sequence[str]) -> tuple[Task, ...]:
        """Tasks by their own names or their groups', each once."""
        known = {task.name: (task.name,) for task in self.tasks} | dict(self.groups)
        single = [task for name in names for task in _named("task or group", name, known)]
        return tuple(self.task(name) for name in dict.fromkeys(single))

    def _check(self, place: str, cells: Iterator[Where], also: Sequence[str]) -> None:
        for cell in cells:
            for step in (cell.step, *also):
                try:
                    self._check_cell(replace(cell, step=step))
                except (UsageError, UnknownNameError) as error:
                    raise UsageError(f"{place}: {error}") from None

    def _check_cell(self, cell: Where) -> None:
        step = self.step(cell.step)
        _ = self.tasks_of([cell.tasks])
        for metric in (cell.metric, *([cell.ranked] if cell.ranked else [])):
            _ = _named("metric", metric, METRICS)
        arm = _named(f"arm of step {step.name}", cell.arm, {arm.name: arm for arm in step.arms})
        swept = step.kind in ("curve", "replies")
        if swept and (cell.layer is None) != (step.layers is None):
            raise UsageError(f"step {step.name}: expected {'a' if step.layers else 'no'} layer, got {cell.layer}")
        if cell.layer is not None and (step.layers is None or cell.layer not in step.layers.at):
            raise UsageError(f"step {step.name} has no layer {cell.layer}")
        strengths = (arm.strengths or step.strengths) if swept else ()
        if swept != (cell.strength is not None) or (swept and cell.strength not in strengths):
            known = f"one of {', '.join(f'{s:g}' for s in strengths)}" if swept else "none"
            raise UsageError(f"step {step.name}, arm {arm.name}: expected as strength {known}, got {cell.strength}")


def _named(kind: str, name: str, known: Mapping[str, T]) -> T:
    if name not in known:
        raise UnknownNameError(kind, name, known)
    return known[name]


def _ensure_once(kind: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{kind} {', '.join(twice)}: named twice")
