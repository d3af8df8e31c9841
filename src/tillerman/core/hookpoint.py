"""Where in a model an activation is read or changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tillerman.core.errors import HookPointError, UnknownNameError

ROUTER_SITES = ("router", "router_weights")  # of mixtures of experts only
BLOCK_SITES = ("resid_pre", "heads", "attn_out", "mlp_out", "resid_post")
SITES = (*BLOCK_SITES, *ROUTER_SITES)
_RUN_ORDER = ("resid_pre", "heads", "attn_out", "router", "router_weights", "mlp_out", "resid_post")
_MOST_LAYERS = 99_999
_PATTERN = re.compile(r"layers\.(\d+)\.(\w+)")
_PATTERN_OF_SEVERAL = re.compile(r"layers\.(\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)\.(\w+)")


@dataclass(frozen=True, order=True)
class HookPoint:
    """A layer (0 = first decoder block) and a site; prints as ``layers.12.resid_post``.

    Sites: ``resid_pre`` block input, ``resid_post`` block output, ``attn_out`` and ``mlp_out`` what
    attention and MLP add to the residual stream, ``heads`` the heads' outputs side by side, before the
    output projection of attention (width heads * head_dim). In mixtures of experts also ``router`` the
    router's logits and ``router_weights`` what the chosen experts' outputs are multiplied by, 0 for the
    others (width: the number of experts).
    """

    layer: int
    site: str = "resid_post"

    def __post_init__(self) -> None:
        if self.layer < 0:
            raise HookPointError(f"layer {self.layer}: layers count from 0, the first block")
        if self.site not in SITES:
            raise UnknownNameError("site", self.site, SITES)

    @property
    def order(self) -> tuple[int, int]:
        """Sorts hook points as a pass meets them."""
        return self.layer, _RUN_ORDER.index(self.site)

    def __str__(self) -> str:
        return f"layers.{self.layer}.{self.site}"

    @classmethod
    def parse(cls, text: str) -> HookPoint:
        """Inverse of ``str``; a bare number means ``resid_post`` of that layer."""
        bare = text.strip()
        match = _PATTERN.fullmatch(f"layers.{bare}.resid_post" if bare.isdecimal() else bare)
        if match is None:
            raise HookPointError(f"{text[:60]!r} is not a hook point; write a layer ('12') or 'layers.12.resid_post'")
        return cls(_layer(match[1]), match[2])


def named(points: Sequence[HookPoint]) -> str:
    """Several hook points in one word: ``layers.0-3,7.heads``, a ``+`` between sites; one as itself."""
    sites = sorted({point.site for point in points}, key=_RUN_ORDER.index)
    layers = {site: sorted({point.layer for point in points if point.site == site}) for site in sites}
    return "+".join(f"layers.{_ranges(layers[site])}.{site}" for site in sites)


def parse_points(text: str) -> tuple[HookPoint, ...]:
    """Inverse of ``named``."""
    points: list[HookPoint] = []
    for part in text.split("+"):
        match = _PATTERN_OF_SEVERAL.fullmatch(part.strip())
        if match is None:
            points.append(HookPoint.parse(part))
            continue
        for layers in match[1].split(","):
            first, _, last = layers.partition("-")
            points += [HookPoint(layer, match[2]) for layer in range(_layer(first), _layer(last or first) + 1)]
    return tuple(points)


def _layer(digits: str) -> int:
    """Checked before a range is written out: ``0-9999999999`` would fill the memory."""
    if len(digits) > len(str(_MOST_LAYERS)) or int(digits) > _MOST_LAYERS:
        raise HookPointError(f"layer {digits[:20]}: no model has so many")
    return int(digits)


def _ranges(layers: Iterable[int]) -> str:
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
