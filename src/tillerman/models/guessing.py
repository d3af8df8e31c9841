"""Guess the layout of an architecture that has no row in the table: only on request, and only what a pass confirms."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tillerman.core.hookpoint import HookPoint
from tillerman.models.chain import Chain, find_chain
from tillerman.models.edit import Edit, edit_forward
from tillerman.models.families import FAMILIES, Anatomy, Family, ensure_decoder_only

_LOG = logging.getLogger(__name__)
_GUESSED: set[str] = set()  # a model of the same type may multiply what its parts add, so each is looked at anew
_ATTENTION, _MLP = ("attn", "attention"), ("mlp", "feed_forward", "feedforward", "ffn", "moe")
_OTHER_MIXERS = ("mamba", "ssm", "conv", "recurrent", "temporal", "linear_attn", "delta", "mixer")
_OF_OTHER_TEXT = ("encoder_attn", "cross")
_PROJECTIONS = ("o_proj", "out_proj", "c_proj", "dense", "wo")


def guess_layout(causal: PreTrainedModel) -> None:
    """Put a guessed row for this architecture into the layout table, and say so once in the log.

    The blocks are the list of modules that a pass over text goes through one after another, each taking what the one
    before gave. That is enough for the residual sites. Attention and MLP are children whose names say so (norms after
    them included), and count only if what both add makes up every block: output = input + attention + MLP; else they
    are left out of the row. ``ModelError`` if there is no such list, or if the model is no causal decoder.
    """
    kind = causal.config.model_type
    if kind in FAMILIES and kind not in _GUESSED:
        return
    ensure_decoder_only(causal.config)
    found = find_chain(causal)
    family = next((one for one in _candidates(found) if _adds_up(causal, found, one)), None)
    if family is None:
        family = replace(_stream_only(found), attention="", mlp="", router="", experts="")
    known, FAMILIES[kind] = FAMILIES.get(kind), family
    _GUESSED.add(kind)
    if family == known:
        return
    lacking = [site for site, path in (("attn_out", family.attention), ("mlp_out", family.mlp)) if not path]
    lacking += [] if family.projections else ["heads"]
    _LOG.warning(
        "model type %r has no row in the layout table; guessed: %r: %s%s",
        kind,
        kind,
        family,
        f"; without {', '.join(lacking)}: no such parts were found that make up what a block adds" if lacking else "",
    )


def _stream_only(found: Chain) -> Family:
    """Blocks, decoder, heads and routers: all that is found by name alone."""
    inner = list(dict.fromkeys(name for block in found.blocks for name, _ in block.named_modules()))
    projections = tuple(
        n for n in inner if n.split(".")[-1] in _PROJECTIONS and _says(n, _ATTENTION) and not _says(n, _OF_OTHER_TEXT)
    )
    router, experts = next(filter(None, map(_routing, found.blocks)), ("", ""))  # the first blocks may be dense
    first = {n.partition(".")[0]: n for n in reversed(projections)}  # one per kind of attention
    return Family(
        found.path, projections=tuple(first.values()), router=router, experts=experts, decoder=found.decoder_path
    )


def _candidates(found: Chain) -> Iterator[Family]:
    row = _stream_only(found)
    kinds = {tuple(name for name, _ in block.named_children()) for block in found.blocks}
    names = list(dict.fromkeys(name for kind in kinds for name in kind))
    # Bare parts first: where they add up no norm follows them.
    attention, mlp = (
        sorted((n for n in names if _says(n, words)), key=lambda n: "norm" in n) for words in (_ATTENTION, _MLP)
    )
    others = [n for n in names if _says(n, _OTHER_MIXERS) and not _says(n, ("norm",))]
    for one, other in product(attention, mlp):
        if all(one in kind for kind in kinds):
            yield replace(row, attention=one, mlp=other)
            continue
        for linear in others:
            if linear != one and all(one in kind or linear in kind for kind in kinds):
                yield replace(row, attention=one, mlp=other, linear=linear)


def _says(name: str, words: Iterable[str]) -> bool:
    return any(word in name for word in words)


def _routing(block: nn.Module) -> tuple[str, str] | None:
    """Router and experts of a block, side by side as all of transformers 5 has them; None in a dense block."""
    parts = dict(block.named_modules())
    for name, part in parts.items():
        experts = f"{name.rpartition('.')[0]}.experts"
        if type(part).__name__.lower().endswith("topkrouter") and experts in parts:
            return name, experts
    return None


@torch.inference_mode()
def _adds_up(causal: PreTrainedModel, found: Chain, family: Family) -> bool:
    """Whether in every block output = input + attention + MLP."""
    parts = Anatomy(causal, found.decoder, found.blocks, family)
    sites = ("resid_pre", "attn_out", "mlp_out", "resid_post")
    points = {site: [HookPoint(layer, site) for layer in range(len(found.blocks))] for site in sites}
    if not all(parts.has(point) for site in sites for point in points[site]):
        return False
    got: dict[HookPoint, Tensor] = {}

    def keeper(point: HookPoint) -> Edit:
        def keep(h: Tensor) -> Tensor:
            got[point] = h.float().clone()  # some blocks add in place
            return h

        return keep

    tokens = torch.arange(3, 7, device=parts.device)[None]
    with edit_forward(parts, {p: keeper(p) for site in sites for p in points[site]}, lambda _: None):
        causal(input_ids=tokens, use_cache=False)
    if len(got) < len(sites) * len(found.blocks) or len({h.shape for h in got.values()}) > 1:
        return False
    tolerance = 1e-4 if causal.dtype == torch.float32 else 0.03
    for before, attention, mlp, after in zip(*(points[site] for site in sites), strict=True):
        added = got[attention] + got[mlp]
        if not bool((got[before] + added - got[after]).norm() / added.norm().clamp_min(1e-12) < tolerance):
            return False
    return True
