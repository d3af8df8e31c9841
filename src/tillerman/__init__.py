"""Tillerman: labelled examples in, an evaluated steering vector out, on any open-weights model.

import tillerman

model = tillerman.open_model("pilot")                       # or a folder, a hub name, a loaded model
data = tillerman.load_examples("sample:interest-in-science")
outcome = tillerman.fit(tillerman.Experiment(method="pas"), model, data)
with tillerman.steer(model, outcome.artefact) as steered:
    ...                                                     # generate, score, evaluate as ever
print(outcome.log.effect, steered.receipt)
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tillerman.core.alarms import Alarm as Alarm
    from tillerman.core.artefact import Artefact as Artefact, save as save
    from tillerman.core.cell import Cell as Cell
    from tillerman.core.errors import (
        ArtefactError as ArtefactError,
        DataError as DataError,
        FileError as FileError,
        FitError as FitError,
        HookPointError as HookPointError,
        LogError as LogError,
        MetricError as MetricError,
        MismatchError as MismatchError,
        ModelError as ModelError,
        NotAppliedError as NotAppliedError,
        TillermanError as TillermanError,
        UnknownNameError as UnknownNameError,
        UsageError as UsageError,
    )
    from tillerman.core.gates import ProbeGate as ProbeGate, SimilarityGate as SimilarityGate
    from tillerman.core.hookpoint import HookPoint as HookPoint
    from tillerman.core.monitors import Monitor as Monitor
    from tillerman.core.named_plan import NamedPart as NamedPart, NamedPlan as NamedPlan
    from tillerman.core.plan import Intervention as Intervention, Plan as Plan, Scope as Scope
    from tillerman.core.provenance import Card as Card, Provenance as Provenance
    from tillerman.core.rows import Row as Row
    from tillerman.core.steerings.vector import SteeringVector as SteeringVector
    from tillerman.core.store import Store as Store
    from tillerman.data.examples import Example as Example
    from tillerman.data.loading import load_examples as load_examples
    from tillerman.data.marked_scopes import (
        after_instruction as after_instruction,
        assistant_turns as assistant_turns,
        make_scope as make_scope,
        not_in_code as not_in_code,
        thinking as thinking,
    )
    from tillerman.logs.comparison import Comparison as Comparison, ComparisonLog as ComparisonLog
    from tillerman.logs.evaluation import EvaluationLog as EvaluationLog
    from tillerman.logs.monitor import MonitorLog as MonitorLog
    from tillerman.logs.thoughts import ThoughtLog as ThoughtLog
    from tillerman.methods.base import Context as Context, Habits as Habits, Method as Method
    from tillerman.methods.contrast import ContrastMethod as ContrastMethod
    from tillerman.methods.gates import GateFit as GateFit, GateOptions as GateOptions, fit_gate as fit_gate
    from tillerman.models.artefacts import load as load
    from tillerman.models.capture import capture as capture
    from tillerman.models.opened import OpenModel as OpenModel, open_model as open_model
    from tillerman.models.sae.autoencoder import SAE as SAE
    from tillerman.models.sae.files import open_sae as open_sae
    from tillerman.pipeline.compare import Lineup as Lineup, compare as compare
    from tillerman.pipeline.experiment import Experiment as Experiment
    from tillerman.pipeline.flow import Outcome as Outcome, evaluate as evaluate, fit as fit, fit_seeds as fit_seeds
    from tillerman.pipeline.from_texts import vector_from as vector_from
    from tillerman.pipeline.monitoring import (
        MonitorOptions as MonitorOptions,
        calibrate_monitor as calibrate_monitor,
    )
    from tillerman.pipeline.presets import pas_paper as pas_paper
    from tillerman.pipeline.progress import ProgressBar as ProgressBar
    from tillerman.pipeline.thoughts import evaluate_thoughts as evaluate_thoughts
    from tillerman.reports.pages import render_comparison as render_comparison, render_report as render_report
    from tillerman.reports.plots import plot as plot
    from tillerman.reports.trackers import track as track
    from tillerman.steering.generation import (
        Sampling as Sampling,
        continuation as continuation,
        continuations as continuations,
    )
    from tillerman.steering.named import open_plan as open_plan
    from tillerman.steering.receipt import Receipt as Receipt
    from tillerman.steering.steer import steer as steer, steer_rows as steer_rows
    from tillerman.steering.watching import (
        WatchedAnswer as WatchedAnswer,
        watched_continuations as watched_continuations,
    )


def _homes() -> dict[str, str]:
    """Public name -> module, from the imports above: the one list that type checkers, readers and this module share.
    A module is loaded when a name of it is first used, so that ``import tillerman`` costs nothing; the lines are read
    as text, since a parser would take longer to load than all else here."""
    homes: dict[str, str] = {}
    module = ""
    lines = __loader__.get_data(__file__).decode().splitlines()  # type: ignore[name-defined]
    for line in lines[lines.index("if TYPE_CHECKING:") + 1 :]:
        if line and not line.startswith(" "):  # the block's end
            break
        if line.startswith("    from "):
            module = line.split()[1]
        homes |= {part.split()[-1]: module for part in line.split(",") if " as " in part}
    return homes


_MODULE_OF = _homes()

__version__ = "0.1.0"
__all__ = sorted([*_MODULE_OF, "__version__"])


class _Public(ModuleType):
    """Looks for our own names first. A module's ``__getattr__`` would be asked last, after what others hang
    on every object there is (nnsight: ``save``)."""

    def __getattribute__(self, name: str) -> Any:
        home = _MODULE_OF.get(name)
        if home is None or name in super().__getattribute__("__dict__"):
            return super().__getattribute__(name)
        import_module("tillerman.reports.notebook")  # tells logs how to show themselves
        return getattr(import_module(home), name)

    def __dir__(self) -> list[str]:
        return __all__


sys.modules[__name__].__class__ = _Public
