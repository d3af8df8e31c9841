"""A model held against its base, or against itself: what of it looks like steering that was baked in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from tillerman.core.artefact import Artefact
from tillerman.core.cell import Cell
from tillerman.core.errors import MismatchError, ModelError
from tillerman.core.hookpoint import HookPoint
from tillerman.exchange.audit.absent import AbsentDirection, absent_from
from tillerman.exchange.audit.added import AddedBias, added_to, bias_name, odd_biases
from tillerman.exchange.audit.maps import writing_maps
from tillerman.exchange.audit.removed import OtherChange, RankOne, RemovedDirection, differences, shared
from tillerman.models.handmade import stream_norms
from tillerman.models.opened import OpenModel

METHOD = "audited"


@dataclass(frozen=True, eq=False)
class WeightAudit:
    """What was found. ``maps`` writing maps were looked at. ``doses`` are those of ``added``, None where a bias does
    not join the stream as it is.

    With a base: ``removed`` and ``other`` (every other weight that differs), and ``rank_one`` changes that are no
    projection. Without: ``absent``."""

    model: str
    base: str | None
    maps: int
    added: tuple[AddedBias, ...]
    doses: tuple[float | None, ...]
    removed: tuple[RemovedDirection, ...] = ()
    rank_one: tuple[RankOne, ...] = ()
    absent: tuple[AbsentDirection, ...] = ()
    other: tuple[OtherChange, ...] = ()
    template: bool = False  # another chat template than the base

    @property
    def clean(self) -> bool:
        """Whether nothing was found that could be steering."""
        return not (self.added or self.removed or self.rank_one or self.absent)


@torch.no_grad()
def weight_audit(opened: OpenModel, base: OpenModel | None = None) -> WeightAudit:
    """``ModelError`` where the weights are not as they were written, ``MismatchError`` for a base of another kind."""
    for one in (opened, base):
        if one is not None:
            _ensure_plain(one)
    maps = writing_maps(opened.parts)
    if base is None:
        added, absent = odd_biases(opened.parts.causal, maps), absent_from(maps)
        return WeightAudit(opened.id, None, len(maps), added, _doses(opened, added), absent=absent)
    _ensure_related(opened, base)
    weights = dict(base.parts.causal.named_parameters())
    added = added_to(maps, weights)
    ones, other = differences(opened.parts, weights, frozenset(bias_name(one) for one in maps if one.bias is not None))
    zero = frozenset(name for name, p in opened.parts.causal.named_parameters() if not bool(p.any()))
    other = tuple(one for one in other if not (one.name not in weights and one.name in zero))  # biases of a flag
    return WeightAudit(
        opened.id,
        base.id,
        len(maps),
        added,
        _doses(opened, added),
        removed=shared(ones),
        rank_one=tuple(one for one in ones if one.amount is None),
        other=other,
        template=opened.template_hash != base.template_hash,
    )


def found_artefacts(audit: WeightAudit, on: OpenModel) -> Iterator[tuple[str, Artefact]]:
    """What was found, as artefacts that do the same to ``on``: the base, or the model itself. Biases that do not join
    the stream as they are, and weights that do not write to it, are left out."""
    added = {one.point: one.vector for one in audit.added if one.point is not None}
    if added:
        yield "added", _artefact(on, added, audit.model, "add", 1.0)
    points = {one.name: one.point for one in writing_maps(on.parts) if one.point is not None}
    for number, gone in enumerate(audit.removed, start=1):
        of = {points[c.name]: gone.direction for c in gone.changes if not c.reads and c.name in points}
        if of:
            amounts = [c.amount or 0.0 for c in gone.changes if c.name in points]
            yield f"removed-{number}", _artefact(on, of, audit.model, "ablate", sum(amounts) / len(amounts))
    for number, absent in enumerate(audit.absent, start=1):
        of = {points[name]: absent.direction for name in absent.names if name in points}
        if of:
            yield f"absent-{number}", _artefact(on, of, audit.model, "ablate", 1.0)


def _artefact(on: OpenModel, directions: dict[HookPoint, Any], name: str, operator: str, strength: float) -> Artefact:
    keyed: dict[HookPoint | int | str, Any] = {point: v for point, v in directions.items()}  # noqa: C416 (invariant keys)
    vector = on.vector(keyed, name=name)
    vector = replace(vector, provenance=replace(vector.provenance, method=METHOD, options={"model": name}))
    return Artefact(vector, Cell(vector.points, strength, operator))


def _doses(opened: OpenModel, added: Sequence[AddedBias]) -> tuple[float | None, ...]:
    """Length of each vector in units of the stream behind the block that it joins."""
    streams = {one.point: HookPoint(one.point.layer) for one in added if one.point is not None}
    norms = stream_norms(opened, tuple(dict.fromkeys(streams.values()))) if streams else {}
    return tuple(None if one.point is None else float(one.vector.norm()) / norms[streams[one.point]] for one in added)


def _ensure_plain(opened: OpenModel) -> None:
    names = [name for name, p in opened.parts.causal.named_parameters() if "lora_" in name]
    if names:
        raise ModelError(
            f"{opened.id}: an adapter lies beside the weights ({names[0]}); it is itself the list of what it changes. "
            "Merge it (peft: model.merge_and_unload()) to audit the whole, or audit the model without it"
        )
    if opened.opening.quantize is not None or any(p.is_meta for p in opened.parts.causal.parameters()):
        raise ModelError(f"{opened.id}: weights that are quantised or offloaded cannot be audited; open it plainly")


def _ensure_related(opened: OpenModel, base: OpenModel) -> None:
    theirs, ours = ((one.parts.causal.config.model_type, one.layers, one.parts.width) for one in (base, opened))
    if theirs != ours:
        words = [
            f"{one.id} is {kind!r} with {layers} blocks of width {width}"
            for one, (kind, layers, width) in ((opened, ours), (base, theirs))
        ]
        raise MismatchError(f"{words[0]}, {words[1]}: the second is no base of the first; name the one it was made of")
