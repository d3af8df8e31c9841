"""Which weights a model has, in 16 letters: from a sample of every parameter, wherever it lies and however packed."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager, nullcontext
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

# Of models that were quantised on opening: state of the weights since, and the fingerprint of what they were before.
_BEFORE: WeakKeyDictionary[PreTrainedModel, tuple[int, str]] = WeakKeyDictionary()
_SAMPLED = 4096  # values hashed per tensor: enough to tell fine-tunes apart, cheap at any size


def original_fingerprint(model: PreTrainedModel) -> str:
    """``fingerprint_of``, and of a model that was quantised on opening that of its weights before, so that a vector
    belongs to the model in every precision."""
    state, before = _BEFORE.get(model, (0, ""))
    return before if before and state == weights_state(model) else fingerprint_of(model)


def remember_original(model: PreTrainedModel, fingerprint: str) -> None:
    """From now on the model's weights, as they are, count as these."""
    _BEFORE[model] = (weights_state(model), fingerprint)


def weights_state(model: PreTrainedModel) -> int:
    """Another number once a weight was written to or replaced."""
    return hash(tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for p in model.parameters()))


def fingerprint_of(model: PreTrainedModel) -> str:
    """Hash of names, shapes and a fixed sample of the weights, the same for every load dtype."""
    digest = hashlib.blake2b(digest_size=8)
    for name, (shape, sample) in sorted(_samples(model).items()):
        name = name.replace("_orig_mod.", "")  # a compiled part has the weights of the part
        digest.update(f"{name} {shape}".encode())
        digest.update(sample)
    return digest.hexdigest()


def _samples(model: PreTrainedModel) -> dict[str, tuple[tuple[int, ...], bytes]]:
    """Shape and sample of every parameter; tied ones once, offloaded ones read from where they lie."""
    tied = getattr(model, "all_tied_weights_keys", {})
    # Offloading makes two empty tensors of one that is shared; the second is left out, as it is elsewhere.
    counted = {name for name, parameter in model.named_parameters() if not (parameter.is_meta and name in tied)}
    found = {}
    for path, module in model.named_modules():
        own = {f"{path}.{name}": name for name, _ in module.named_parameters(recurse=False)}
        wanted = {full: name for full, name in own.items() if full in counted}
        offloaded = any(module.get_parameter(name).is_meta for name in wanted.values())
        with _brought_in(module) if offloaded else nullcontext():
            for full, name in wanted.items():
                parameter = module.get_parameter(name)
                found[full] = (tuple(parameter.shape), _sample(parameter).numpy().tobytes())
    return found


def _brought_in(module: nn.Module) -> AbstractContextManager[object]:
    from accelerate.utils import align_module_device  # whoever offloaded the weights has it

    return align_module_device(module, torch.device("cpu"))  # type: ignore[no-any-return]


def _sample(parameter: Tensor) -> Tensor:
    flat = _plain(parameter.detach()).flatten()
    step = max(1, -(-flat.numel() // _SAMPLED))  # rounded up: the sample reaches the tensor's end
    # bfloat16, so that a float32 copy of bf16 weights has the hash of the file it came from.
    return flat[::step][:_SAMPLED].to("cpu", torch.bfloat16).view(torch.int16)


def _plain(parameter: Tensor) -> Tensor:
    """Weights that are packed (torchao) or split over processes, as one ordinary tensor."""
    if type(parameter).__module__.startswith("torchao"):
        return parameter.dequantize()
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
