"""Methods by name: a pairing with an estimator, or a rule that asks the model itself. ``ipas-wrong`` is the
usual combination; ``ipas-wrong+pca`` asks for another one."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tillerman.core.errors import UnknownNameError
from tillerman.core.registry import Registry
from tillerman.core.steerings.base import Steering
from tillerman.data.pairings import PAIRINGS, Pairing
from tillerman.methods.actadd import fit_actadd
from tillerman.methods.base import Lesson
from tillerman.methods.bipo import fit_bipo
from tillerman.methods.cold import ColdOptions, fit_cold
from tillerman.methods.estimators import ESTIMATORS
from tillerman.methods.fit import random_like
from tillerman.methods.iti import ItiOptions, fit_iti
from tillerman.methods.rice import RICE_STRENGTHS, RiceOptions, fit_rice
from tillerman.methods.sae.estimators import SAE_ESTIMATORS
from tillerman.models.training import TrainingOptions


@dataclass(frozen=True)
class Habits:
    """What a method does where nothing else is asked for: its site, scope and doses (None: those of an
    experiment), the operator of its vectors, and whether it steers all its hook points at once (``joint``)
    or the validation split chooses one."""

    site: str | None = None
    scope: str | None = None
    doses: tuple[float, ...] | None = None
    operator: str = "add"
    joint: bool = False


@dataclass(frozen=True)
class Method:
    name: str
    pairing: Pairing
    estimator: str
    habits: Habits = Habits()

    @property
    def reads_sae(self) -> bool:
        return self.estimator in SAE_ESTIMATORS


@dataclass(frozen=True)
class DirectMethod:
    """A method that looks at the model itself. ``random`` makes the random null that fits it."""

    name: str
    fit: Callable[[Lesson], Steering]
    habits: Habits = Habits()
    random: Callable[[Steering, int], Steering] = random_like
    reads_sae = False


AnyMethod = Method | DirectMethod

# Directional ablation takes out, at every layer, the component along the direction found there; angular
# steering turns towards it. Strength 1 removes all, or turns by a right angle.
_ABLATION = Habits(scope="all", doses=(-1.0, -0.5, 0.5, 0.75, 1.0, 2.0), operator="ablate", joint=True)
_ANGULAR = Habits(doses=(-0.3, -0.2, -0.1, 0.05, 0.1, 0.2, 0.3, 0.5), operator="rotate")
_OPERATORS: dict[str, AnyMethod] = {
    name: Method(name, PAIRINGS["caa"], "mean_difference", habits)
    for name, habits in (("ablation", _ABLATION), ("angular", _ANGULAR))
}

_CONTRASTS: dict[str, AnyMethod] = {name: Method(name, PAIRINGS[name], "mean_difference") for name in PAIRINGS}
_OF_LABELS = tuple(name for name, pairing in PAIRINGS.items() if not pairing.reads_prompt)
_ROUTED = Habits(site="router_weights", scope="all", doses=RICE_STRENGTHS, joint=True)
_RICE = {"rice": RiceOptions(), "rice-renormalised": RiceOptions(renormalised=True)}
_RICE_OF = re.compile(r"rice-(\d+)")  # so many experts
_COLD = {
    "cold-kernel": ColdOptions(),
    "cold-kernel-single": ColdOptions(loss="rejected"),
    "cold-kernel-linear": ColdOptions(kernel="linear"),
    "cold-kernel-projection": ColdOptions(kernel="projection"),
    "cold-fd": ColdOptions("fd"),
    "cold-jvp": ColdOptions("jvp"),
}
# A dose is the mean over all layers, and most have no chosen head: small doses are large where there is one.
_ITI = Habits(site="heads", doses=(0.01, 0.02, 0.035, 0.05, 0.07, 0.1, 0.2, 0.4), joint=True)
# Pairs of one prompt with two answers, as in the papers of both.
_ENCODED: dict[str, AnyMethod] = {name: Method(name, PAIRINGS["caa"], name) for name in SAE_ESTIMATORS}
_DIRECT = (
    *(DirectMethod(name, partial(fit_cold, options=options)) for name, options in _COLD.items()),
    DirectMethod("bipo", partial(fit_bipo, options=TrainingOptions())),
    DirectMethod("iti", partial(fit_iti, options=ItiOptions()), _ITI),
    DirectMethod("actadd", fit_actadd, Habits(scope="prompt", site="resid_pre")),
    *(DirectMethod(name, partial(fit_rice, options=options), _ROUTED) for name, options in _RICE.items()),
)
METHODS: Registry[AnyMethod] = Registry(
    "method", {**_CONTRASTS, **_OPERATORS, **_ENCODED, **{method.name: method for method in _DIRECT}}
)

# Names for several methods: all of them are fitted, the validation split chooses.
GROUPS: Registry[tuple[str, ...]] = Registry(
    "method group",
    {
        "pas": ("pas-full", "ipas-all", "ipas-wrong"),
        "auto": _OF_LABELS,
        "rice-grid": tuple(f"rice-{n}" for n in range(1, 6)),
    },
)


def methods(text: str) -> tuple[AnyMethod, ...]:
    """Parse ``caa``, ``ipas-wrong+pca``, ``pas``, ``auto`` or a comma-separated list of these."""
    names = [name.strip() for name in text.split(",")]
    single = [n for name in names for n in (GROUPS[name] if name in GROUPS else (name,))]  # noqa: SIM401
    return tuple(dict.fromkeys(method(name) for name in single))


def reads_prompt(method: AnyMethod) -> bool:
    """Whether a vector is made of a prompt in words, and of no label."""
    return method.pairing.reads_prompt if isinstance(method, Method) else method.name == "actadd"


def cold_readers(option: str) -> tuple[str, ...]:
    """The COLD methods that a field of ``ColdChanges`` is for."""
    return tuple(name for name, options in _COLD.items() if option in options.reads)


def habits(name: str) -> Habits:
    """Of a method by name; nothing special for a name that this version does not know (an older artefact's)."""
    try:
        return method(name).habits
    except UnknownNameError:
        return Habits()


def method(name: str) -> AnyMethod:
    if experts := _RICE_OF.fullmatch(name):
        return DirectMethod(name, partial(fit_rice, options=RiceOptions(experts=int(experts[1]))), _ROUTED)
    pairing, plus, estimator = name.partition("+")
    if not plus:
        if name not in METHODS:
            raise UnknownNameError("method", name, [*METHODS, *GROUPS])
        return METHODS[name]
    if estimator not in SAE_ESTIMATORS:
        _ = ESTIMATORS[estimator]  # an unknown name is an error that lists the known ones
    return Method(name, PAIRINGS[pairing], estimator)
