"""Methods by name. ``ipas-wrong`` has the usual estimator, ``ipas-wrong+pca`` another one; what follows a colon are
the method's own options: ``cold-fd:keep=0.01,loss=rejected``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tillerman.core.errors import TillermanError, UnknownNameError, UsageError
from tillerman.core.plugins import OpenRegistry
from tillerman.core.registry import Registry
from tillerman.core.spec import read_options, read_spec, split_specs
from tillerman.methods.ablation import Ablation
from tillerman.methods.actadd import ActAdd
from tillerman.methods.adaptive import Dsas, Ids
from tillerman.methods.alphasteer import AlphaSteer
from tillerman.methods.angular import Angular
from tillerman.methods.base import Habits, Method
from tillerman.methods.bipo import BiPO
from tillerman.methods.caa import Caa
from tillerman.methods.cdas import Cdas
from tillerman.methods.cold import (
    ColdFd,
    ColdJvp,
    ColdKernel,
    ColdKernelLinear,
    ColdKernelProjection,
    ColdKernelSingle,
)
from tillerman.methods.contrast import EstimatedMethod
from tillerman.methods.estimators import ESTIMATORS
from tillerman.methods.gcad import Gcad
from tillerman.methods.iti import Iti
from tillerman.methods.pas import IpasAll, IpasWrong, PasFull
from tillerman.methods.prompts import PromptContrast, PromptVector
from tillerman.methods.psr import Psr
from tillerman.methods.reft_r1 import ReftR1
from tillerman.methods.reps import Reps
from tillerman.methods.rice import Rice, RiceRenormalised
from tillerman.methods.sae.base import SaeMethod
from tillerman.methods.sae.difference import SaeDifference
from tillerman.methods.sae.feature import SaeFeature
from tillerman.methods.sae.sta import Sta
from tillerman.methods.spherical import Spherical
from tillerman.methods.target_cosine import TargetCosine
from tillerman.methods.transport import LinearAct
from tillerman.methods.w2s import W2s


def _wrong(name: str, value: Any) -> str | None:
    """What is wrong with a method that another package adds."""
    if not (isinstance(value, type) and issubclass(value, Method)):
        return f"expected a class that is a tillerman.Method, got {value!r}"
    return None if value.name == name else f"the class is named {value.name!r}"


METHODS: OpenRegistry[type[Method]] = OpenRegistry(
    "method",
    {
        kind.name: kind
        for kind in (
            Caa,
            PasFull,
            IpasAll,
            IpasWrong,
            PromptVector,
            PromptContrast,
            Psr,
            Gcad,
            Ablation,
            Angular,
            Spherical,
            TargetCosine,
            Dsas,
            Ids,
            AlphaSteer,
            LinearAct,
            W2s,
            Sta,
            SaeDifference,
            SaeFeature,
            ColdKernel,
            ColdKernelSingle,
            ColdKernelLinear,
            ColdKernelProjection,
            ColdFd,
            ColdJvp,
            BiPO,
            Reps,
            Cdas,
            ReftR1,
            Iti,
            ActAdd,
            Rice,
            RiceRenormalised,
        )
    },
    "tillerman.methods",
    _wrong,
)

# Names for several methods: all of them are fitted, the validation split chooses.
GROUPS: Registry[tuple[str, ...]] = Registry(
    "method group",
    {
        "pas": ("pas-full", "ipas-all", "ipas-wrong"),
        "auto": ("caa", "pas-full", "ipas-all", "ipas-wrong"),
        "writing": ("caa", "cold-kernel"),  # what ``auto`` is where a search goes by what is written
        "rice-grid": tuple(f"rice:experts={n}" for n in range(1, 6)),
    },
)
_RICE_OF = re.compile(r"rice-(\d+)")  # a short way to say how many experts

# A method by name or as a value, or several of them.
MethodLike = str | Method | Sequence[str | Method]


def methods(asked: MethodLike) -> tuple[Method, ...]:
    """``caa``, ``ipas-wrong+pca``, ``pas``, ``auto``, values of one's own, or a list of these; each once."""
    return tuple(dict.fromkeys(one for part in _parts(asked) for one in _each(part)))


def spec_of(asked: MethodLike) -> str:
    """The canonical text of methods: groups by their names, options that differ from the defaults."""
    return ",".join(part if isinstance(part, str) and part in GROUPS else _text(part) for part in _parts(asked))


def method(spec: str) -> Method:
    """One method from its text. ``UnknownNameError`` lists the known ones, ``UsageError`` the method's options."""
    head, given = read_spec(spec)
    if experts := _RICE_OF.fullmatch(head):
        head, given = "rice", {"experts": experts[1], **given}
    name, plus, estimator = head.partition("+")
    if not plus and name not in METHODS:
        if name in GROUPS:
            raise UsageError(f"{name} is a name for {', '.join(GROUPS[name])}, and takes no options; name one of them")
        raise UnknownNameError("method", name, [*METHODS.known, *GROUPS])
    kind, more = _combined(head, METHODS[name], estimator) if plus else (METHODS[name], {})
    return kind(**more, **read_options(head, kind, given))


def habits(name: str) -> Habits:
    """Of a method by name; nothing special for a name that this version does not know (an older artefact's)."""
    try:
        return method(name).habits
    except TillermanError:
        return Habits()


def _combined(head: str, kind: type[Method], estimator: str) -> tuple[type[Method], dict[str, Any]]:
    """The class of ``name+estimator`` and what its head says."""
    if estimator in METHODS and issubclass(METHODS[estimator], SaeMethod):
        return METHODS[estimator], {"pairing": kind.name}
    _ = ESTIMATORS[estimator]  # an unknown name is an error that lists the known ones
    if not issubclass(kind, EstimatedMethod):
        raise UsageError(f"{head}: {kind.name} takes no estimator; write {kind.name}")
    return kind, {"estimator": estimator}


def _parts(asked: MethodLike) -> list[str | Method]:
    if isinstance(asked, Method):
        return [asked]
    listed = [asked] if isinstance(asked, str) else asked
    return [part for one in listed for part in (split_specs(one) if isinstance(one, str) else [one])]


def _each(part: str | Method) -> list[Method]:
    if isinstance(part, Method):
        return [part]
    return [method(name) for name in GROUPS[part]] if part in GROUPS else [method(part)]


def _text(part: str | Method) -> str:
    return str(part if isinstance(part, Method) else method(part))
