"""The artefacts that a server offers: every file of one folder, read and checked together, all or none."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tillerman.core.artefact import Artefact
from tillerman.core.errors import ArtefactError, TillermanError
from tillerman.core.files import as_ours, sha256_of
from tillerman.core.packs import check_pack
from tillerman.core.plan import Plan
from tillerman.logs.cards import evaluation_on
from tillerman.models.artefacts import load
from tillerman.reports.summary import summary
from tillerman.serving.settings import ArtefactSettings

SUFFIX = ".safetensors"
_NAME = re.compile(r"[A-Za-z0-9._-]+")
# What a client is told of a card: the stable keys of ``--json``.
_TOLD = (
    "effect",
    "interval",
    "p_value",
    "effect_found",
    "verdict",
    "verdict_words",
    "unsteered",
    "steered",
    "prompt_baseline",
    "perplexity_ratio",
    "kl",
    "unrelated_effect",
    "dose_range",
    "n_test",
)


@dataclass(frozen=True)
class Served:
    """One artefact on offer. ``card`` is what was measured, in the keys of ``tillerman eval --json``; None: nothing."""

    name: str
    artefact: Artefact
    sha256: str
    card: Mapping[str, Any] | None
    warnings: tuple[str, ...] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """For clients: no tensors, no paths."""
        cell, steering = self.artefact.cell, self.artefact.steering
        told = None if self.card is None else {name: self.card.get(name) for name in _TOLD}
        return {
            "name": self.name,
            "sha256": self.sha256,
            "method": steering.provenance.method,
            "data": steering.provenance.data_name,
            "hook_points": [str(point) for point in cell.points],
            "operator": cell.operator,
            "strength": cell.strength,
            "dose": self.artefact.dose,
            "scope": str(cell.scope),
            "gate": None if self.artefact.gate is None else str(self.artefact.gate),
            "card": told,
            "warnings": list(self.warnings),
        }


Library = Mapping[str, Served]


@dataclass(frozen=True)
class Shelf:
    """What a folder has to offer: the artefacts that are served, and those that this engine cannot serve, with why."""

    library: Library
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Demands:
    """What a model and an engine ask of an artefact before it is offered.

    ``belongs`` raises ``MismatchError`` or gives warnings; ``problem`` says why the engine cannot serve a plan.
    """

    belongs: Callable[[Artefact], tuple[str, ...]]
    problem: Callable[[Plan], str | None]


def read_shelf(folder: Path, rules: ArtefactSettings, demands: Demands) -> Shelf:
    """Every artefact of the folder by the stem of its file. ``ArtefactError`` names each file that cannot be offered
    and why; then none is. With ``skip_unservable`` what this engine cannot serve is left out, if anything is left."""
    with as_ours(folder):
        if not folder.is_dir():
            raise ArtefactError(f"{folder}: no such folder; 'tillerman demo' writes one, or 'tillerman fit --out'")
        files = sorted(path for path in folder.iterdir() if path.suffix == SUFFIX)
    if not files:
        raise ArtefactError(f"{folder}: holds no artefact (*{SUFFIX}); 'tillerman fit --out' writes one")
    if rules.trust:
        check_pack(folder, rules.trust)
    found: dict[str, Served] = {}
    left_out: dict[str, str] = {}
    wrong: list[str] = []
    for path in files:
        try:
            found[path.stem] = _read(path, folder, rules, demands)
        except _Unservable as error:
            left_out[path.stem] = error.why
            wrong += [] if rules.skip_unservable else [str(error)]
        except TillermanError as error:
            wrong.append(str(error))
    strangers = sorted(set(rules.sha256) - {path.stem for path in files})
    wrong += [f"{name}: pinned by sha256, and no file of the folder" for name in strangers]
    if not (found or wrong):
        wrong = [f"{name}: this engine cannot serve it: {why}" for name, why in left_out.items()]
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise ArtefactError(f"{len(wrong)} of {len(files)} artefacts cannot be served: {'; '.join(wrong[:3])}{more}")
    return Shelf(MappingProxyType(found), MappingProxyType(left_out))


def read_library(folder: Path, rules: ArtefactSettings, demands: Demands) -> Library:
    """What ``read_shelf`` finds that is served."""
    return read_shelf(folder, rules, demands).library


class _Unservable(ArtefactError):
    """Right in itself, and not for this engine."""

    def __init__(self, file: str, why: str) -> None:
        self.why = why
        super().__init__(f"{file}: this engine cannot serve it: {why}; leave such artefacts out with --skip-unservable")


def _read(path: Path, folder: Path, rules: ArtefactSettings, demands: Demands) -> Served:
    name = path.stem
    if not _NAME.fullmatch(name):
        raise ArtefactError(f"{path.name}: a served name has letters, digits, '.', '_' and '-' only; rename the file")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ArtefactError(f"{path.name}: a link out of the folder; copy the file into it")
    digest = sha256_of(path)
    artefact = load(path)
    if sha256_of(path) != digest:
        raise ArtefactError(f"{path.name}: was replaced while it was read; try again")
    pinned = rules.sha256.get(name)
    if pinned is not None and pinned != digest:
        raise ArtefactError(f"{path.name}: its sha256 is {digest[:12]}..., the settings pin {pinned[:12]}...")
    warnings = demands.belongs(artefact)
    card = _measured(artefact)
    if rules.require_card and card is None:
        raise ArtefactError(f"{path.name}: has no card with a measured effect; run 'tillerman fit', or {_REMEDY}")
    if rules.require_effect and (card is None or not card["effect_found"]):
        raise ArtefactError(f"{path.name}: its card shows no effect (the interval includes 0); {_REMEDY}")
    problem = demands.problem(artefact.plan())
    if problem is not None:
        raise _Unservable(path.name, problem)
    return Served(name, artefact, digest, card, warnings)


_REMEDY = "serve it all the same with --allow-unproven"


def _measured(artefact: Artefact) -> Mapping[str, Any] | None:
    log = None if artefact.card is None else evaluation_on(artefact.card)
    return None if log is None else MappingProxyType(summary(log))
