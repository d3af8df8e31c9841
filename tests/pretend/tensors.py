"""Tensors whose data lie on the CPU and whose ``device`` says otherwise, under CUDA's rules for mixing devices.

Every operation passes through ``run``, which refuses what CUDA refuses and notes what CUDA waits for. Kernels' own
limits, memory, streams and speed are not seen.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from .record import ACROSS, DOUBLE, DOWN, SYNC, UP, Record

KINDS = ("cuda", "xla")
RECORD = Record()

_WAITING = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::equal",
    "aten::is_nonzero",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
}
_INDEXED = {"aten::index", "aten::_unsafe_index"}
_PUT = {"aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index_put"}
_COPIES = {"aten::copy_", "aten::_to_copy", "aten::_copy_from", "aten::lift_fresh", "aten::lift"}
_BITS = (torch.bool, torch.uint8)


class MixedDevicesError(RuntimeError):
    """What CUDA says of tensors on several devices."""


class PretendTensor(torch.Tensor):
    _data_here: torch.Tensor
    _place: torch.device

    @staticmethod
    def __new__(cls, data: torch.Tensor, place: torch.device, requires_grad: bool = False) -> PretendTensor:
        with torch.inference_mode(False):
            made: PretendTensor = torch.Tensor._make_wrapper_subclass(
                cls,
                data.size(),
                strides=data.stride(),
                storage_offset=data.storage_offset(),
                dtype=data.dtype,
                layout=data.layout,
                device=place,
                requires_grad=requires_grad,
            )
        made._data_here, made._place = data, place
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _decomposed(func, args, kwargs or {}, nullcontext())

    def __repr__(self, **_: Any) -> str:
        return f"PretendTensor({self._place}, {self._data_here!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> PretendTensor:
        made = PretendTensor(self._data_here.clone(), self._place, self.requires_grad)
        if getattr(self, "_is_param", False):
            made._is_param = True  # type: ignore[attr-defined]
        memo[id(self)] = made
        return made

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"can't convert {self._place} device type tensor to numpy. Use Tensor.cpu() first.")

    __array__ = numpy

    def tolist(self) -> Any:
        RECORD.note(SYNC, "tolist", self.numel())
        return self._data_here.tolist()

    # A list as an index does not reach the dispatcher.
    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(_listed(index, self._place))

    def __setitem__(self, index: Any, value: Any) -> None:
        value = torch.tensor(value) if isinstance(value, list | tuple) else value
        super().__setitem__(_listed(index, self._place), value)


class PretendMode(TorchDispatchMode):
    """For operations that see no pretend tensor yet: makers asked for a device, and copies to one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _decomposed(func, args, kwargs or {}, self)  # torch has taken the mode off for this call


def pretended(place: Any) -> torch.device | None:
    """The device, if it is a pretended one, with its index."""
    if place is None or (device := torch.device(place)).type not in KINDS:
        return None
    return torch.device(device.type, device.index or 0)


def _listed(index: Any, place: torch.device) -> Any:
    def one(x: Any) -> Any:
        if not isinstance(x, list | range):
            return x
        RECORD.note(UP, "index by a list")
        return PretendTensor(torch.tensor(list(x)), place)

    return tuple(map(one, index)) if isinstance(index, tuple) else one(index)


_IMPLICIT: dict[Any, bool] = {}


def _decomposed(func: Any, args: Any, kwargs: Any, mode: Any) -> Any:
    """Composite operations come as one where autograd is off; their parts are what the rules are about."""
    if func not in _IMPLICIT:
        has = torch._C._dispatch_has_kernel_for_dispatch_key
        _IMPLICIT[func] = has(func.name(), "CompositeImplicitAutograd") and func._schema.name != "aten::linear_"
    if _IMPLICIT[func]:
        with mode:
            out = func.decompose(*args, **kwargs)
        if out is not NotImplemented:
            return out
    return run(func, args, kwargs)


def run(func: Any, args: Any, kwargs: Any) -> Any:
    """One operation on data that lie on the CPU, if it may be."""
    name = func._schema.name
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    there = [x for x in tensors if isinstance(x, PretendTensor)]
    asked = kwargs.get("device")
    if there:
        if name == "aten::_fused_sdp_choice":
            return 0  # plain arithmetic: no kernel of a device is here
        if name not in _COPIES:
            _ensure_together(name, args, tensors, there)
        _note_waiting(func, name, args, kwargs)
    to = pretended(asked) if asked is not None else (there[0]._place if there else None)
    _note_copy(name, args, asked, to)
    here = dict(kwargs)
    if pretended(asked):
        here["device"] = torch.device("cpu")
        here.pop("pin_memory", None)
    plain_args, plain_kwargs = tree_map(_data, args), tree_map(_data, here)
    if name == "aten::histc" and not plain_args[0].is_floating_point():  # CUDA counts integers, the CPU does not
        plain_args = (plain_args[0].float(), *plain_args[1:])
    out = func(*plain_args, **plain_kwargs)
    if name == "aten::_to_copy" and out is plain_args[0]:
        out = out.clone()
    if to is None:
        return out
    if any(isinstance(x, torch.Tensor) and x.dtype == torch.float64 for x in tree_leaves(out)):
        RECORD.note(DOUBLE, name)
    same = {id(x._data_here): x for x in there} if func._schema.is_mutable else {}

    def placed(x: Any) -> Any:
        known = same.get(id(x))  # changed in place: the tensor that was given comes back
        return (
            PretendTensor(x, to) if known is None and isinstance(x, torch.Tensor) else known if known is not None else x
        )

    return tree_map(placed, out)


def _data(x: Any) -> Any:
    return x._data_here if isinstance(x, PretendTensor) else x


def _ensure_together(name: str, args: Any, tensors: list[Any], there: list[PretendTensor]) -> None:
    """Numbers of no dimension may come from the CPU, and so may indices; nothing else."""
    plain = [x for x in tensors if not isinstance(x, PretendTensor)]
    if name in _INDEXED | _PUT and isinstance(args[0], PretendTensor):
        indices = [x for x in args[1] if x is not None]
        if any(not isinstance(x, PretendTensor) for x in indices):
            RECORD.note(UP, f"{name} by a tensor on the CPU")
        there = [x for x in there if not any(x is i for i in indices)] + [
            x for x in indices if isinstance(x, PretendTensor)
        ]
        plain = [x for x in args[2:3] if isinstance(x, torch.Tensor) and not isinstance(x, PretendTensor)]
    large = {x._place for x in there if x.dim()} or {x._place for x in there}
    if len(large) > 1 or any(x.dim() for x in plain):
        places = ", ".join(f"{x.device}{tuple(x.shape)}" for x in tensors)
        raise MixedDevicesError(f"Expected all tensors to be on the same device, but found {places} ({name})")


def _note_waiting(func: Any, name: str, args: Any, kwargs: Any) -> None:
    waits = name in _WAITING
    if name in _INDEXED | _PUT:
        waits = any(x is not None and x.dtype in _BITS for x in args[1])
    if name == "aten::repeat_interleave" and func._overloadname == "Tensor":
        waits = kwargs.get("output_size") is None
    if waits:
        RECORD.note(SYNC, name)


def _note_copy(name: str, args: Any, asked: Any, to: torch.device | None) -> None:
    if name == "aten::copy_":
        target, source = (x._place if isinstance(x, PretendTensor) else None for x in args[:2])
    elif name == "aten::_to_copy" and asked is not None:
        source, target = (args[0]._place if isinstance(args[0], PretendTensor) else None), to
    else:
        return
    if source != target:
        RECORD.note(UP if source is None else DOWN if target is None else ACROSS, name)
