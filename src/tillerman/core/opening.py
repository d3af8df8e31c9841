"""How a model is opened: where it lies, in which precision, and what of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tillerman.core.errors import UnknownNameError, UsageError

DTYPES = ("auto", "float32", "bfloat16", "float16")
QUANTISATIONS = ("int8", "int4", "nf4")
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


@dataclass(frozen=True, kw_only=True)
class Opening:
    """The options of opening, as ``open_model`` and the command line take them.

    * ``device``: ``auto`` (an accelerator if there is one, else the CPU), ``cpu``, ``cuda``, ``cuda:1``, ``mps``;
    * ``device_map``: ``auto`` splits the model over all accelerators, in place of ``device``;
    * ``dtype``: ``auto`` is bfloat16 where the device is fast with it, and float32 for small models and elsewhere;
    * ``quantize``: ``int8``, ``int4`` (torchao) or ``nf4`` (bitsandbytes) weights of the linear layers;
    * ``revision``: branch, tag or commit on the hub;
    * ``attention``: an implementation that transformers knows, as ``eager``, ``sdpa``, ``flash_attention_2``;
    * ``trust_remote_code``: run the Python files that come with the model;
    * ``guess_layout``: for an architecture that has no row in the table of families.

    ``UnknownNameError`` for a dtype, device map or quantisation that there is not; ``UsageError`` for a device together
    with a device map.
    """

    device: str = "auto"
    device_map: str | None = None
    dtype: str = "auto"
    quantize: str | None = None
    revision: str | None = None
    attention: str | None = None
    trust_remote_code: bool = False
    guess_layout: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UnknownNameError("dtype", self.dtype, DTYPES)
        if self.quantize is not None and self.quantize not in QUANTISATIONS:
            raise UnknownNameError("quantisation", self.quantize, QUANTISATIONS)
        if self.device_map is not None and self.device_map not in DEVICE_MAPS:
            raise UnknownNameError("device map", self.device_map, DEVICE_MAPS)
        if self.device_map is not None and self.device != "auto":
            raise UsageError(
                f"`device` {self.device} and `device_map` {self.device_map} are two ways to place a model; give one"
            )


AS_USUAL = Opening()


def precision_words(opened: Mapping[str, str]) -> str:
    """``bfloat16``, or ``bfloat16 with int8 weights``; empty where it was not recorded."""
    dtype, packed = opened.get("dtype", ""), opened.get("quantize")
    return f"{dtype} with {packed} weights" if dtype and packed else dtype
