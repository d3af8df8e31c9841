"""Named plans on an open model: artefacts are found by name, checked and put together."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tillerman.core.artefact import Artefact
from tillerman.core.errors import ArtefactError
from tillerman.core.named_plan import NamedPlan
from tillerman.core.places import place_of
from tillerman.core.plan import Plan
from tillerman.data.marked_scopes import make_scope
from tillerman.models.opened import OpenModel

SUFFIX = ".safetensors"


def open_plan(
    plan: str | NamedPlan, opened: OpenModel, *, folder: str | Path = ".", allow_mismatch: bool = False
) -> tuple[Plan, tuple[str, ...]]:
    """A plan such as ``science@0.3+calm@-0.2:all`` for this model; a name is a file in ``folder``, with or without
    ``.safetensors``. Gives the plan, and the allowed mismatches as ``OpenModel.load_artefact`` does.

    ``UsageError`` for a text that is no plan, ``ArtefactError`` for a name without a file, ``MismatchError`` for an
    artefact of another model.
    """
    named = NamedPlan.parse(plan) if isinstance(plan, str) else plan
    warnings: list[str] = []

    def load(name: str) -> Artefact:
        artefact, allowed = opened.load_artefact(find_artefact(name, Path(folder)), allow_mismatch=allow_mismatch)
        warnings.extend(allowed)
        return artefact

    return named.resolve(load, partial(make_scope, opened.tokenizer)), tuple(dict.fromkeys(warnings))


def find_artefact(name: str, folder: Path) -> Path:
    """The artefact's file, or its address. ``ArtefactError`` says which there are."""
    if place_of(name) is not None:
        return Path(name)
    whole = folder / name
    found = [path for path in (whole.with_name(whole.name + SUFFIX), whole) if path.is_file()]
    if found:
        return found[0]
    there = sorted(path.stem for path in whole.parent.glob(f"*{SUFFIX}"))
    known = f"artefacts there: {', '.join(there)}" if there else "there is none; 'tillerman fit' writes artefacts"
    raise ArtefactError(f"no artefact {name!r}: neither {whole} nor {whole}{SUFFIX} is a file; {known}")
