"""What a step is given for one arm, task and seed, and how its settings become an ``Experiment``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, get_args, get_origin, get_type_hints

from tillerman.core.errors import UnknownNameError, UsageError
from tillerman.data.loading import LoadedData
from tillerman.logs.reproduction import Measured, Piece
from tillerman.logs.thoughts import Mean
from tillerman.methods.registry import MethodLike, methods
from tillerman.methods.sae.base import SaeMethod
from tillerman.models.opened import OpenModel
from tillerman.models.sae.files import open_sae
from tillerman.pipeline.experiment import Experiment
from tillerman.pipeline.presets import pas_paper
from tillerman.pipeline.run import Watch
from tillerman.recipes.recipe import Arm, Step
from tillerman.recipes.sources import Source
from tillerman.statistics.values import Effect, Interval, Rate

PROTOCOLS = {"": replace, "pas-paper": None}  # what a step may start from
# Papers chose without a budget, and their models read every item.
_UNLIMITED = {"max_kl": None, "max_perplexity_ratio": None, "skip_long": True}
_SET_ELSEWHERE = ("method", "seed", "gate")  # by the arm, by the run, not at all


@dataclass(frozen=True, eq=False)
class Work:
    """One arm of one step on one task with one seed."""

    step: Step
    arm: Arm
    source: Source
    seed: int
    limit: int
    opened: OpenModel
    sae: str | None
    watch: Watch

    @property
    def experiment(self) -> Experiment:
        made = experiment_of(self.step, self.arm, self.opened.layers, self.seed, self.sae)
        return replace(made, prompt=made.prompt or self.source.task.prompt or None)

    def data(self) -> LoadedData:
        return self.source.load(self.limit)

    def piece(self, figures: Mapping[str, Measured], **where: Any) -> Piece:
        return Piece(self.step.name, self.source.task.name, self.arm.name, self.seed, figures, **where)

    def facts(self) -> list[Any]:
        """Everything that the figures depend on, as plain values."""
        e, o = self.experiment, self.opened
        swept: list[Any] = [
            self.step.kind,
            self.step.layers and asdict(self.step.layers),
            self.strengths,
            self.arm.draws,
        ]
        swept += [self.step.study, dict(self.step.options)] if self.step.study else []
        swept += [[asdict(cell) for cell in self.arm.at]] if self.arm.at else []
        model = [o.fingerprint, o.template_hash, e.sources]
        return [
            e.to_json(),
            *swept,
            self.step.drift,
            *model,
            self.source.digest(),
            self.limit,
            {n: v for n, v in asdict(self.source.task).items() if n != "opposite" or v},  # came later
        ]

    @property
    def strengths(self) -> tuple[float, ...]:
        return self.arm.strengths or self.step.strengths


def experiment_of(step: Step, arm: Arm, layers: int, seed: int, sae: str | None) -> Experiment:
    """The step's settings, the arm's own before them. ``UnknownNameError`` or ``UsageError`` names the setting."""
    said = {**_UNLIMITED, **step.settings, **arm.settings}
    protocol = said.pop("protocol", "")
    if protocol not in PROTOCOLS:
        raise UnknownNameError("protocol", protocol, PROTOCOLS)
    values: dict[str, Any] = {
        name: None if value is None else _setting(step.name, name, value) for name, value in said.items()
    }
    if "sae" in step.needs and sae is not None:  # every arm at the layer that the autoencoder reads
        values["layers"] = (open_sae(sae).point.layer,)
    elif step.layers is not None:
        values["layers"] = tuple(sorted(set(step.layers.of_model(layers).values())))
    experiment = Experiment(
        method=_with_files(arm.method, sae),
        seed=seed,
        generations=(),
        **{"written_prompts": 0, "grid": "full", "read": "usual", **values},
    )
    return pas_paper(experiment) if protocol == "pas-paper" else experiment


def _with_files(asked: str, sae: str | None) -> MethodLike:
    """The arm's methods, with the run's autoencoder where they read one: a recipe knows no file of yours."""
    found = methods(asked)
    if not any(isinstance(one, SaeMethod) for one in found):
        return asked
    return tuple(replace(one, sae=sae) if isinstance(one, SaeMethod) and one.sae is None else one for one in found)


def _setting(step: str, name: str, value: Any) -> Any:
    """A TOML value as the field of ``Experiment`` wants it."""
    hints = get_type_hints(Experiment)
    known = [f.name for f in fields(Experiment) if f.name not in _SET_ELSEWHERE]
    if name in ("sae", "cold"):
        raise UsageError(f"step {step}: {name} options are now part of an arm's method: method = 'sta:share=0.35'")
    if name not in known:
        raise UnknownNameError(f"setting of step {step}", name, [*known, "protocol"])
    if name == "layers":
        raise UsageError(f"step {step}: name layers by 'layers = {{ of = 32, at = [...] }}' of the step")
    wants = [get_origin(part) or part for part in (get_args(hints[name]) or (hints[name],))]
    if isinstance(value, list):
        value = tuple(float(v) if isinstance(v, int) else v for v in value)
    if isinstance(value, int) and not isinstance(value, bool) and float in wants:
        value = float(value)
    is_tuple = get_origin(hints[name]) is tuple or tuple in wants
    if is_tuple != isinstance(value, tuple) or (not is_tuple and not isinstance(value, tuple(wants))):
        raise UsageError(f"step {step}: setting {name} = {value!r}: expected {hints[name]}")
    return value


def of_rate(rate: Rate) -> Measured:
    return Measured(rate.value, rate.interval.low, rate.interval.high, rate.n)


def of_effect(effect: Effect) -> Measured:
    return Measured(effect.value, effect.interval.low, effect.interval.high, effect.n)


def of_mean(mean: Mean) -> Measured:
    return of_interval(mean.value, mean.interval, mean.n)


def of_interval(value: float, interval: Interval, n: int) -> Measured:
    return Measured(value, interval.low, interval.high, n)


def of_value(value: float, n: int = 1) -> Measured:
    """A figure whose own error is not measured."""
    return Measured(value, value, value, n)
