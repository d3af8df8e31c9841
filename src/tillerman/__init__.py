"""Tillerman: labelled examples in, an evaluated steering vector out, on any open-weights model.

import tillerman

model = tillerman.open_model("pilot")                       # or a folder, a hub name, a loaded model
data = tillerman.load_examples("sample:interest-in-science")
outcome = tillerman.fit(tillerman.Experiment(method="pas"), model, data)
with tillerman.steer(model.model, outcome.artefact.plan()) as steered:
    ...                                                     # generate, score, evaluate as ever
print(outcome.log.effect, steered.receipt)
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tillerman.core.artefact import Artefact as Artefact, load as load, save as save
    from tillerman.core.errors import (
        ArtefactError as ArtefactError,
        DataError as DataError,
        FitError as FitError,
        HookPointError as HookPointError,
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
    from tillerman.core.plan import Intervention as Intervention, Plan as Plan, Scope as Scope
    from tillerman.core.provenance import Card as Card, Provenance as Provenance
    from tillerman.core.rows import Row as Row
    from tillerman.core.store import Store as Store
    from tillerman.core.vector import SteeringVector as SteeringVector
    from tillerman.data.examples import Example as Example
    from tillerman.data.loading import load_examples as load_examples
    from tillerman.data.writing import (
        after_instruction as after_instruction,
        not_in_code as not_in_code,
        thinking as thinking,
    )
    from tillerman.evaluation.comparison import Comparison as Comparison, ComparisonLog as ComparisonLog
    from tillerman.evaluation.log import EvaluationLog as EvaluationLog
    from tillerman.evaluation.report import render_comparison as render_comparison, render_report as render_report
    from tillerman.evaluation.thoughts import ThoughtLog as ThoughtLog
    from tillerman.methods.cold import ColdChanges as ColdChanges
    from tillerman.methods.gates import GateFit as GateFit, GateOptions as GateOptions, fit_gate as fit_gate
    from tillerman.methods.sae.options import SaeOptions as SaeOptions
    from tillerman.models.capture import capture as capture
    from tillerman.models.opened import OpenModel as OpenModel, open_model as open_model
    from tillerman.models.sae.autoencoder import SAE as SAE
    from tillerman.models.sae.files import open_sae as open_sae
    from tillerman.pipeline.comparing import Lineup as Lineup, compare as compare
    from tillerman.pipeline.experiment import Experiment as Experiment, pas_paper as pas_paper
    from tillerman.pipeline.flow import (
        Outcome as Outcome,
        evaluate as evaluate,
        fit as fit,
        fit_seeds as fit_seeds,
    )
    from tillerman.pipeline.thinking import evaluate_thoughts as evaluate_thoughts
    from tillerman.steering.generation import (
        Sampling as Sampling,
        continuation as continuation,
        continuations as continuations,
    )
    from tillerman.steering.receipt import Receipt as Receipt
    from tillerman.steering.steer import steer as steer, steer_rows as steer_rows

# name -> module; loaded on first use, so that `import tillerman` costs nothing.
_HOME = {
    "core.artefact": ("Artefact", "load", "save"),
    "core.errors": (
        "ArtefactError",
        "DataError",
        "FitError",
        "HookPointError",
        "MetricError",
        "MismatchError",
        "ModelError",
        "NotAppliedError",
        "TillermanError",
        "UnknownNameError",
        "UsageError",
    ),
    "core.gates": ("ProbeGate", "SimilarityGate"),
    "core.hookpoint": ("HookPoint",),
    "core.plan": ("Intervention", "Plan", "Scope"),
    "core.provenance": ("Card", "Provenance"),
    "core.rows": ("Row",),
    "core.store": ("Store",),
    "core.vector": ("SteeringVector",),
    "data.examples": ("Example",),
    "data.loading": ("load_examples",),
    "data.writing": ("after_instruction", "not_in_code", "thinking"),
    "evaluation.comparison": ("Comparison", "ComparisonLog"),
    "evaluation.log": ("EvaluationLog",),
    "evaluation.report": ("render_comparison", "render_report"),
    "evaluation.thoughts": ("ThoughtLog",),
    "methods.cold": ("ColdChanges",),
    "methods.gates": ("GateFit", "GateOptions", "fit_gate"),
    "methods.sae.options": ("SaeOptions",),
    "models.capture": ("capture",),
    "models.opened": ("OpenModel", "open_model"),
    "models.sae.autoencoder": ("SAE",),
    "models.sae.files": ("open_sae",),
    "pipeline.comparing": ("Lineup", "compare"),
    "pipeline.experiment": ("Experiment", "pas_paper"),
    "pipeline.flow": ("Outcome", "evaluate", "fit", "fit_seeds"),
    "pipeline.thinking": ("evaluate_thoughts",),
    "steering.generation": ("Sampling", "continuation", "continuations"),
    "steering.receipt": ("Receipt",),
    "steering.steer": ("steer", "steer_rows"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__version__ = "0.1.0"
__all__ = sorted([*_MODULE_OF, "__version__"])


class _Public(ModuleType):
    """Looks for our own names first. A module's ``__getattr__`` would be asked last, after what others hang
    on every object there is (nnsight: ``save``)."""

    def __getattribute__(self, name: str) -> Any:
        home = _MODULE_OF.get(name)
        if home is None or name in super().__getattribute__("__dict__"):
            return super().__getattribute__(name)
        return getattr(import_module(f"tillerman.{home}"), name)

    def __dir__(self) -> list[str]:
        return __all__


sys.modules[__name__].__class__ = _Public
