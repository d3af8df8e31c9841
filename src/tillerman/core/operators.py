"""What is done to an activation: pure tensor functions ``(h, v, strength) -> h'``.

``h`` is ``[..., d]``; ``v`` broadcasts to it, on the same device and of the same dtype; ``strength`` is
a float or a tensor that broadcasts to ``[..., 1]``. With ``u = v / |v|``. Strength 0 means no steering
for every operator: whoever applies them leaves such rows out, so that they stay bit-equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Strength = float | Tensor
Operator = Callable[[Tensor, Tensor, Strength], Tensor]

_TINY = 1e-12
_NEAREST = 0.999  # cosine that a token can be brought to


def add(h: Tensor, v: Tensor, strength: Strength) -> Tensor:
    """``h + strength * v`` (PAS section 3.3; CAE section 2)."""
    return h + strength * v


def ablate(h: Tensor, v: Tensor, strength: Strength) -> Tensor:
    """``h - strength * (h . u) u``: strength 1 removes the component along v, 2 reflects it
    (directional ablation: Arditi et al. 2024, arXiv 2406.11717, section 2.4)."""
    wide, unit = h.float(), _unit(v.float())
    left: Tensor = wide - strength * _along(wide, unit) * unit
    return left.to(h.dtype)


def clamp(h: Tensor, v: Tensor, strength: Strength) -> Tensor:
    """``h + (strength * |v| - h . u) u``: the component along v becomes ``strength * |v|``, whatever it was
    (feature clamping: Templeton et al. 2024, Scaling Monosemanticity). To remove it, ``ablate``."""
    wide, direction = h.float(), v.float()
    unit = _unit(direction)
    wanted = strength * direction.norm(dim=-1, keepdim=True)
    held: Tensor = wide + (wanted - _along(wide, unit)) * unit
    return held.to(h.dtype)


def rotate(h: Tensor, v: Tensor, strength: Strength) -> Tensor:
    """``cos(a) h + sin(a) |h| w``, ``a = strength * pi/2``, w the unit of v's part orthogonal to h: h turned
    by a right angle times the strength towards v, in the plane of both, its norm kept (after angular steering,
    Vu & Nguyen 2025, arXiv 2510.26243, whose plane is fixed). An h parallel to v spans no plane and stays."""
    wide, direction = h.float(), v.float()
    unit, norm = _unit(wide), wide.norm(dim=-1, keepdim=True)
    aside = _unit(direction) - _along(_unit(direction), unit) * unit
    angle = torch.as_tensor(strength, device=h.device) * (math.pi / 2)
    turned = torch.cos(angle) * wide + torch.sin(angle) * norm * _unit(aside)
    plane = (aside.norm(dim=-1, keepdim=True) > 1e-6) & (norm > _TINY)
    return torch.where(plane, turned.to(h.dtype), h)


def slerp(h: Tensor, v: Tensor, strength: Strength) -> Tensor:
    """``|h| (sin((1 - t) a) h/|h| + sin(t a) u) / sin(a)``, a the angle between h and the direction u (of a strength
    below 0: ``-u``): h turned by the share ``t`` of it along the geodesic, its norm kept (spherical linear
    interpolation). ``t = min(1, |strength| g)`` with the gate ``g = doubt(h . mu / |h| - even)``, or 1 where kappa is 0
    (spherical steering: You et al. 2026, arXiv 2602.08169).

    ``v`` is ``core.confidence.Confidence.packed``: direction, prototype mu, kappa, threshold, even. An h that is
    parallel to the direction spans no plane with it and stays, and so does one at which the gate is shut.
    """
    width = h.shape[-1]
    wide = h.float()
    parts = v.float().split([width, width, 1, 1, 1], dim=-1)  # type: ignore[no-untyped-call]
    direction, prototype, kappa, threshold, even = parts
    unit, norm = _unit(wide), wide.norm(dim=-1, keepdim=True)
    asked = torch.as_tensor(strength, device=h.device)
    gate = doubt((_along(unit, _unit(prototype)) - even) * asked.sign(), kappa, threshold)
    share = (asked.abs() * torch.where(kappa > 0, gate, 1.0)).clamp_max(1)
    towards = _unit(direction) * asked.sign()
    cosine = _along(unit, towards)
    aside = towards - cosine * unit
    length = aside.norm(dim=-1, keepdim=True)
    angle = share * torch.atan2(length, cosine)
    turned = torch.cos(angle) * wide + torch.sin(angle) * norm * _unit(aside)
    moved = (share > 0) & (length > 1e-6) & (norm > _TINY)
    return torch.where(moved, turned.to(h.dtype), h)


def doubt(cosine: Tensor, kappa: Tensor, threshold: Tensor) -> Tensor:
    """``max(0, (d - threshold) / (1 - threshold))`` with ``d = p(-mu) - p(mu) = -tanh(kappa cosine)``, the posteriors
    of two von Mises-Fisher distributions around mu and -mu with concentration kappa: 0 up to the threshold, 1 where h
    is surely of -mu (arXiv 2602.08169). The cosine is counted from where both are as likely, 0 for equal weights."""
    open_by: Tensor = (-torch.tanh(kappa * cosine) - threshold) / (1 - threshold)
    return open_by.clamp_min(0)


def aim(h: Tensor, v: Tensor, strength: Strength) -> Tensor:
    """``h + a u`` with the ``a`` of the right sign and least size for which ``cos(h', v)`` is at least the strength (of
    a strength below 0: at most): each token gets what it lacks, and one that has it already stays.

    With p the part of h orthogonal to v, the component along v that makes a cosine c is ``|p| c / sqrt(1 - c^2)`` (the
    closed form of PIXEL, arXiv 2510.10205). No ``a`` makes a cosine of 1: from 0.999 on, 0.999 is aimed at."""
    wide, unit = h.float(), _unit(v.float())
    along = _along(wide, unit)
    cosine = torch.as_tensor(strength, device=h.device).clamp(-_NEAREST, _NEAREST)
    wanted = (wide - along * unit).norm(dim=-1, keepdim=True) * cosine / (1 - cosine**2).sqrt()
    lacks = torch.where(cosine > 0, (wanted - along).clamp_min(0), (wanted - along).clamp_max(0))
    aimed: Tensor = wide + lacks * unit
    return torch.where(lacks == 0, h, aimed.to(h.dtype))


def replace(h: Tensor, v: Tensor, strength: Strength) -> Tensor:
    """``(1 - strength) h + strength * v``, strength in [0, 1]: 1 puts v in h's place (activation patching)."""
    mixed: Tensor = (1 - strength) * h.float() + strength * v.float()
    return mixed.to(h.dtype)


def scale(h: Tensor, v: Tensor, strength: Strength) -> Tensor:
    """``h * (1 + strength * v)``, coordinate by coordinate. At ``router_weights``, with v = 1 for the experts
    that are to speak louder, this is RICE's ``w <- beta * w`` with ``beta = 1 + strength`` (arXiv 2505.14681)."""
    louder: Tensor = h.float() * (1 + strength * v.float())
    return louder.to(h.dtype)


def reweigh(h: Tensor, v: Tensor, strength: Strength) -> Tensor:
    """``scale``, and then all coordinates rescaled so that their sum is what it was: at ``router_weights`` the
    louder experts take from the others (the renormalised variant of RICE)."""
    wide = h.float()
    louder = wide * (1 + strength * v.float())
    total = louder.sum(-1, keepdim=True)
    # a sum of 0 (no coordinate is left) has nothing to be rescaled
    kept: Tensor = louder * torch.where(total.abs() > _TINY, wide.sum(-1, keepdim=True) / total, 1.0)
    return kept.to(h.dtype)


def clamp_atom(h: Tensor, v: Tensor, strength: Strength) -> Tensor:
    """``h + (strength - a(h)) d``: the activation of a sparse autoencoder's atom becomes ``strength`` units, and what
    the autoencoder does not explain of h stays (Templeton et al. 2024, Scaling Monosemanticity).

    ``v`` is ``core.atoms.Atom.packed``: direction d, encoder e, bias, least; ``a(h) = relu(e . h + bias)`` where
    ``e . h > least``, else 0. Strength 0 is no steering as ever; to put an atom out, clamp it to 1e-6.
    """
    width = h.shape[-1]
    wide = h.float()
    direction, encoder, bias, least = v.float().split([width, width, 1, 1], dim=-1)  # type: ignore[no-untyped-call]
    read = (wide * encoder).sum(-1, keepdim=True)
    active = torch.where(read > least, (read + bias).relu(), 0.0)
    held: Tensor = wide + (strength - active) * direction
    return held.to(h.dtype)


OPERATORS: Mapping[str, Operator] = {
    "add": add,
    "ablate": ablate,
    "clamp": clamp,
    "clamp_atom": clamp_atom,
    "rotate": rotate,
    "slerp": slerp,
    "aim": aim,
    "replace": replace,
    "scale": scale,
    "reweigh": reweigh,
}


# Operators whose strength says by itself how far they go, whatever the length of v.
RELATIVE = frozenset({"ablate", "rotate", "slerp", "aim", "replace", "scale", "reweigh"})


def prepared(
    operator: str, directions: Sequence[Tensor], strengths: Sequence[float], like: Tensor
) -> tuple[Tensor, Tensor]:
    """Vectors ``[k, d]`` and strengths ``[k, 1]`` for ``applied``, on the device of ``like`` and for its type.

    Whoever searches, scores and steers goes through here, so that a cell is the same to the last bit: in half
    precision a strength that is rounded first gives another vector. The vectors of ``add`` hold the strength already.
    """
    home = directions[0].device
    vectors = torch.stack([v.to(home, like.dtype) for v in directions]).to(like.device)  # one transfer for all
    if operator == "add":
        vectors = torch.stack([strength * v for strength, v in zip(strengths, vectors, strict=True)])
    return vectors, torch.tensor(strengths, device=like.device)[:, None]


def applied(operator: str, h: Tensor, vectors: Tensor, strengths: Tensor) -> Tensor:
    """What the operator makes of ``h`` with what ``prepared`` gave, which broadcasts to it."""
    return h + vectors if operator == "add" else OPERATORS[operator](h, vectors, strengths)


def _unit(x: Tensor) -> Tensor:
    unit: Tensor = x / x.norm(dim=-1, keepdim=True).clamp_min(_TINY)
    return unit


def _along(h: Tensor, unit: Tensor) -> Tensor:
    return (h * unit).sum(-1, keepdim=True)
