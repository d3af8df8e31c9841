"""Vectors that nobody fitted: directions of the user's own, with the length of the model's stream beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.errors import FitError, HookPointError, MismatchError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import Row
from tillerman.core.steerings.vector import SteeringVector
from tillerman.models.opened import OpenModel
from tillerman.models.tokens import token_activations

METHOD = "hand-made"
# Plain sentences on many things. Their tokens give the mean norm of a stream to a few per cent, in one short pass.
_PLAIN = (
    "The river rises in the hills and reaches the sea after two hundred miles.",
    "She put the letter back into its envelope and went to find her brother.",
    "Most of the bread in the town is baked before five o'clock in the morning.",
    "A square has four sides of the same length, and four right angles.",
    "The train was late again, so we walked home along the old road.",
    "In 1907 the museum moved to a larger building near the station.",
    "How many people live here, and what do they do in winter?",
    "He said that the results were good, but that he would like to see them again.",
)


def vector_of(opened: OpenModel, directions: Mapping[HookPoint | int | str, Any], name: str) -> SteeringVector:
    """See ``OpenModel.vector``."""
    own: dict[HookPoint, Tensor] = {}
    for key, values in directions.items():
        point = _point(key)
        if point in own:
            raise UsageError(f"{point}: given twice; add the two directions, or leave one out")
        own[point] = _direction(opened, point, values)
    if not own:
        raise UsageError("a vector needs at least one direction: model.vector({layer: direction}, name=...)")
    made = opened.provenance(METHOD, name=name, site="+".join(sorted({point.site for point in own})))
    return SteeringVector(own, stream_norms(opened, tuple(own)), made)


def stream_norms(opened: OpenModel, points: Sequence[HookPoint]) -> dict[HookPoint, float]:
    """Mean ``|h|`` over the tokens of a few plain sentences at each hook point, one short pass each.

    The first token of a sentence is left out: many models keep a stream there that is a hundred times longer.
    """
    rows = [Row(tuple(opened.tokenizer(text)["input_ids"])) for text in _PLAIN]
    found = {point: [h.detach().norm(dim=-1) for _, h in token_activations(opened, rows, point)] for point in points}
    return {point: float(torch.cat(norms).mean()) for point, norms in found.items()}


def _point(key: HookPoint | int | str) -> HookPoint:
    if isinstance(key, HookPoint):
        return key
    if isinstance(key, str):
        return HookPoint.parse(key)
    if isinstance(key, bool) or not isinstance(key, int):
        raise HookPointError(f"{key!r} is no hook point; write a layer (3), a HookPoint or 'layers.3.resid_post'")
    return HookPoint(key)


def _direction(opened: OpenModel, point: HookPoint, values: Any) -> Float[Tensor, " d"]:
    opened.parts.part(point)  # says what is missing, and the layers that there are
    try:
        direction = torch.as_tensor(values).detach().to("cpu", torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise FitError(f"{point}: expected a tensor, an array or a list of numbers ({error})") from None
    width = opened.parts.width_at(point)
    if direction.shape != (width,):
        raise MismatchError(f"{point}: expected a direction of shape [{width}], got {list(direction.shape)}")
    if not direction.any():
        raise FitError(f"{point}: a direction of length 0 steers nothing; leave the hook point out")
    return direction
