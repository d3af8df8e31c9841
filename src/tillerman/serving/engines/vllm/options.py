"""How vLLM is started: the table ``[engine.vllm]`` of the settings."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tillerman.core.errors import UsageError

READS_TEXT = re.compile(r"auto|\d{1,3}|\d+:\d{1,3}(,\d+:\d{1,3})*")
READS_EXPECTED = "expected auto, a number such as 2, or blocks such as 7:1,9:2"


@dataclass(frozen=True)
class VllmSettings:
    """``args``: vLLM's own, as on its command line. ``python``: the interpreter of an environment that has vLLM and
    tillerman; empty: this one. ``arm_layers``: the decoder blocks that can be steered, ``auto`` (those of the
    artefacts), ``all`` (artefacts added later too) or such as ``2,7``. ``arm_reads``: how many operators of a request
    may read the stream at one block (``ablate``, ``clamp``): ``auto`` (as many as artefacts do there), a number for all
    blocks, or such as ``7:1,9:2``."""

    args: tuple[str, ...] = ()
    python: str = ""
    arm_layers: str = "auto"
    arm_reads: str = "auto"
    start_seconds: float = 900.0

    def __post_init__(self) -> None:
        if self.arm_layers not in ("auto", "all") and not all(p.isdecimal() for p in self.arm_layers.split(",")):
            raise UsageError(f"arm_layers {self.arm_layers!r}: expected auto, all, or layers such as 2,7")
        if not READS_TEXT.fullmatch(self.arm_reads):
            raise UsageError(f"arm_reads {self.arm_reads!r}: {READS_EXPECTED}")
        if not self.start_seconds > 0:
            raise UsageError(f"start_seconds {self.start_seconds}: expected more than 0")
