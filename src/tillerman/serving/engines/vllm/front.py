"""Requests as they enter vLLM: a plan is read, checked and written canonically, or the request is refused."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import wraps
from typing import Any

from tillerman.core.errors import TillermanError, UsageError
from tillerman.core.named_plan import NamedPlan
from tillerman.serving.engines.vllm.setting import KEY, Setting
from tillerman.serving.engines.vllm.vectors import ServedVectors, too_many_reads
from tillerman.serving.lanes import LanePlan, lane_plan, parse_lanes

_SEAL = "_tillerman"


NO_ARTEFACTS = "this server has no artefacts: start it with TILLERMAN_ARTEFACTS=FOLDER"


def install(wanted: Setting | None, why: str = NO_ARTEFACTS) -> None:
    """Wrap ``InputProcessor.process_inputs``, through which every request of every endpoint goes. Without a setting
    every plan is refused; ``why`` says why."""
    from vllm.exceptions import VLLMValidationError
    from vllm.v1.engine.input_processor import InputProcessor

    inner = InputProcessor.process_inputs
    if getattr(inner, _SEAL, False):
        return
    read = _refusing(why) if wanted is None else _reader(wanted)

    @wraps(inner)
    def process_inputs(self: Any, request_id: str, prompt: Any, params: Any, *args: Any, **more: Any) -> Any:
        extra = getattr(params, "extra_args", None) or {}
        if KEY in extra:
            try:
                text = read(extra[KEY])
            except (TillermanError, ValueError, TypeError, ArithmeticError) as error:
                # Any other error becomes a 500 without a word.
                raise VLLMValidationError(str(error), parameter="steering") from None
            params = copy(params)  # of vLLM's own making and cloned further in: only the field below is another
            params.extra_args = {**extra, KEY: text}
        return inner(self, request_id, prompt, params, *args, **more)

    setattr(process_inputs, _SEAL, True)
    InputProcessor.process_inputs = process_inputs


def _refusing(why: str) -> Callable[[Any], str]:
    def read(given: Any) -> str:
        raise UsageError(why)

    return read


def _reader(wanted: Setting) -> Callable[[Any], str]:
    """From what a request brings to canonical lanes: lanes as JSON, or a plan by names such as ``science@0.3``."""
    vectors = ServedVectors(wanted.folder)

    def read(given: Any) -> str:
        plan = _lanes(given, vectors)
        layers = {pull.layer for step in plan.steps for pull in step.pulls}
        missing = sorted(layers - set(wanted.layers)) if wanted.layers is not None else []
        if missing:
            known = ", ".join(map(str, wanted.layers or ()))
            raise UsageError(
                f"blocks {', '.join(map(str, missing))} are not prepared, only {known}; start the server anew with "
                "TILLERMAN_LAYERS=all"
            )
        for block, asked in plan.reads.items():
            if asked > wanted.reads_at(block):
                raise UsageError(too_many_reads(block, asked, wanted.reads_at(block)))
        return plan.text()

    return read


def _lanes(given: Any, vectors: ServedVectors) -> LanePlan:
    if not isinstance(given, str):
        raise UsageError(f"{KEY}: expected a plan as a text, such as 'science@0.3', got {type(given).__name__}")
    if given.lstrip().startswith("["):
        return parse_lanes(given)
    digests: list[str] = []

    def load(name: str) -> Any:
        artefact, digest = vectors.named(name)
        digests.append(digest)
        return artefact

    named = NamedPlan.parse(given)
    return lane_plan(named.resolve(load), digests)
