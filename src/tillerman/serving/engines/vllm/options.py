"""How vLLM is started: the table ``[engine.vllm]`` of the settings."""

from __future__ import annotations

from dataclasses import dataclass

from tillerman.core.errors import UsageError


@dataclass(frozen=True)
class VllmSettings:
    """``args``: vLLM's own, as on its command line. ``python``: the interpreter of an environment that has vLLM and
    tillerman; empty: this one. ``arm_layers``: the decoder blocks that can be steered, ``auto`` (those of the
    artefacts), ``all`` (artefacts added later too) or such as ``2,7``."""

    args: tuple[str, ...] = ()
    python: str = ""
    arm_layers: str = "auto"
    start_seconds: float = 900.0

    def __post_init__(self) -> None:
        if self.arm_layers not in ("auto", "all") and not all(p.isdecimal() for p in self.arm_layers.split(",")):
            raise UsageError(f"arm_layers {self.arm_layers!r}: expected auto, all, or layers such as 2,7")
        if not self.start_seconds > 0:
            raise UsageError(f"start_seconds {self.start_seconds}: expected more than 0")
