"""What is tried when a model is opened: that it can be steered, and that reading it changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tillerman.core.errors import ModelError
from tillerman.core.hookpoint import HookPoint
from tillerman.models.edit import edit_forward
from tillerman.models.families import Anatomy
from tillerman.models.forward import DecoderInputs
from tillerman.models.head import learn_head

_PLAIN_PASSES = 5


@torch.inference_mode()
def check(model: PreTrainedModel, parts: Anatomy, name: str) -> None:
    """Three passes of three tokens: an identity edit at every layer leaves the output as it is, a real edit changes it,
    the decoder tells of each pass, and the head is one that can be asked alone."""
    points = [HookPoint(layer, "resid_post") for layer in range(len(parts.blocks))]
    tokens = torch.tensor([[1, 2, 3]], device=parts.device) % model.config.get_text_config().vocab_size
    kept: list[Any] = []

    def run(shift: float) -> tuple[Tensor, int, int]:
        seen, passes = 0, 0

        def edit(h: Tensor) -> Tensor:
            nonlocal seen
            seen += 1
            if h.shape != (1, 3, parts.width):
                raise ModelError(f"a block gives {tuple(h.shape)}, expected (1, 3, {parts.width})")
            # One coordinate: a norm after the block would cancel a shift of the mean.
            return h if shift == 0 else h + shift * torch.eye(1, h.shape[-1], dtype=h.dtype, device=h.device)[0]

        def announced(_: DecoderInputs) -> None:
            nonlocal passes
            passes += seen == 0  # before its first block

        with edit_forward(parts, dict.fromkeys(points, edit), announced):
            return model(input_ids=tokens, use_cache=False).logits, seen, passes

    def unsteered() -> Tensor:
        return model(input_ids=tokens, use_cache=False).logits  # type: ignore[no-any-return]

    handle = parts.decoder.register_forward_hook(lambda _, __, out: kept.append(out))
    try:
        plain = unsteered()
    finally:
        handle.remove()
    same, calls, passes = run(0.0)
    if passes != 1 or kept[-1][0].shape[-1] != parts.width:
        raise ModelError(
            f"{name}: {type(parts.decoder).__name__} is not what this model calls to make a stream of "
            "the tokens; name the module that is in its layout row, as a path from model.base_model: decoder=..."
        )
    scale = float(plain.abs().mean()) + 1.0
    if calls != len(points) or not _same(unsteered, plain, same):
        raise ModelError(f"{name}: an edit that changes nothing changed the output, or missed a block")
    if torch.equal(plain, run(scale)[0]):
        raise ModelError(f"{name}: an edit of the blocks does not reach the output; the layout row is wrong")
    learn_head(parts, kept[-1][0], plain)


def _same(unsteered: Callable[[], Tensor], plain: Tensor, other: Tensor) -> bool:
    """Bit-equal; or no further from a plain pass than plain passes are from each other, since some kernels differ in
    the last bit from pass to pass."""
    passes = [plain]
    while not any(torch.equal(one, other) for one in passes) and len(passes) < _PLAIN_PASSES:
        passes.append(unsteered())
    apart = [float((one - other).abs().max()) for one in passes]
    noise = [float((one - another).abs().max()) for one, another in combinations(passes, 2)]
    return min(apart) <= 2 * max(noise, default=0.0)
