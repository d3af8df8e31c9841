"""An artefact out of the door: said as it is, refused by name, or changed and measured."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tillerman.core.artefact import Artefact
from tillerman.core.errors import TillermanError, UsageError
from tillerman.core.hookpoint import BLOCK_SITES
from tillerman.core.rows import Row
from tillerman.data.loading import LoadedData
from tillerman.exchange.baking import FOLDERS, baked, lacks_weights, write_adapter, write_model
from tillerman.exchange.formats import FORMATS, lacks
from tillerman.exchange.items import LIMIT, exam_of, own_data
from tillerman.exchange.nearest import ChangeCost, change_cost, nearest
from tillerman.exchange.outgoing import outgoing
from tillerman.exchange.parity import Parity, ensure_same, parity
from tillerman.models.model_type import model_type_of
from tillerman.models.opened import OpenModel


@dataclass(frozen=True)
class Exported:
    """What was written: ``artefact`` is the one that the file expresses, ``changed`` what of the given one the format
    could not say, ``cost`` what that does to the items, ``parity`` how a baked model compares with ``steer``."""

    artefact: Artefact
    changed: tuple[str, ...] = ()
    cost: ChangeCost | None = None
    parity: Parity | None = None


def needs_model(form: str, artefact: Artefact) -> bool:
    """Whether the model has to be opened: to write weights, or to measure a change."""
    return form in FOLDERS or bool(lacking(form, artefact))


def lacking(form: str, artefact: Artefact) -> tuple[str, ...]:
    """What the format cannot say, in words."""
    return lacks_weights(artefact) if form in FOLDERS else lacks(FORMATS[form], artefact)


def ensure_said(form: str, artefact: Artefact) -> None:
    """``UsageError`` that names what the format cannot say."""
    said = lacking(form, artefact)
    if said:
        raise UsageError(
            f"{form} cannot say {'; '.join(said)}. --allow-change exports the nearest that it can, and prints what "
            "that costs on the artefact's own items or --data"
        )


def exported(
    form: str,
    artefact: Artefact,
    out: Path,
    opened: OpenModel | None = None,
    data: LoadedData | None = None,
    *,
    allow_change: bool = False,
    limit: int = LIMIT,
) -> Exported:
    """Write the artefact to ``out``, a file or, of ``FOLDERS``, a folder. The artefact as given travels along.

    ``opened`` is needed for what ``needs_model`` says. A change is measured before anything is written. ``UsageError``
    names what the format cannot say where no change is allowed, ``ModelError`` where a baked model does not do what
    ``steer`` does: then nothing is kept."""
    changed = lacking(form, artefact)
    if not allow_change:
        ensure_said(form, artefact)
    model_type = model_type_of(artefact.steering.provenance.model_id)
    if opened is None:
        if changed or form in FOLDERS:
            raise UsageError(f"{form} needs the model of the artefact opened")
        FORMATS[form].write(out, outgoing(artefact, model_type))
        return Exported(artefact)
    exam = exam_of(opened, artefact.steering.provenance, data or own_data(artefact), limit)
    made, cost = artefact, None
    if changed:
        made = _nearest(form, opened, artefact, [Row(w.prompt) for w in exam.written])
        cost = change_cost(exam, artefact.plan(), made.plan())
    vector = outgoing(made, opened.parts.causal.config.model_type, artefact)
    if form not in FOLDERS:
        FORMATS[form].write(out, vector)
        return Exported(made, changed, cost)
    prompts = [written.prompt for written in exam.written]
    if form == "peft":
        write_adapter(out, opened, made, vector)
        return Exported(made, changed, cost)
    model = baked(opened, made)
    found = parity(opened, made.plan(), model, prompts)
    ensure_same(found, "the baked model")
    try:
        write_model(out, opened, model, vector)
    except TillermanError:
        shutil.rmtree(out, ignore_errors=True)
        raise
    return Exported(made, changed, cost, found)


def _nearest(form: str, opened: OpenModel, artefact: Artefact, rows: Sequence[Row]) -> Artefact:
    if form in FOLDERS:
        return nearest(opened, artefact, rows, BLOCK_SITES)
    target = FORMATS[form]
    if target.most is not None and len(artefact.cell.points) > target.most:
        raise UsageError(f"{form} holds {target.most} hook point; export the artefact at one of them, or use torch")
    return nearest(opened, artefact, rows, target.sites, target.first)
