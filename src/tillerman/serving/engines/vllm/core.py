"""The engine core's part: cached blocks know what was done to their tokens, receipts, and no request unsteered."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, wraps
from typing import Any

from tillerman.serving.engines.vllm.setting import KEY
from tillerman.serving.lanes import Lane, LanePlan, parse_lanes, treatment

_SEAL = "_tillerman"
_LANES = "_tillerman_lanes"
UNSTEERED = "the engine could not show that this answer was steered, so it was stopped"


@lru_cache(maxsize=4096)
def _parsed(text: str) -> LanePlan:
    return parse_lanes(text)


def plan_of(params: Any) -> LanePlan | None:
    """The plan that the front wrote into a request's sampling parameters."""
    text = (getattr(params, "extra_args", None) or {}).get(KEY)
    return None if text is None else _parsed(text)


def install() -> None:
    """Wrap the keys of cached blocks and what a step gives back."""
    _wrap_block_keys()
    _wrap_scheduler()


def _lanes_of(request: Any, plan: LanePlan) -> tuple[Lane, ...]:
    if _LANES not in vars(request):
        vars(request)[_LANES] = plan.lanes(request.prompt_token_ids)
    found: tuple[Lane, ...] = vars(request)[_LANES]
    return found


def _wrap_block_keys() -> None:
    from vllm.v1.core import block_pool, kv_cache_utils

    inner = kv_cache_utils.generate_block_hash_extra_keys
    if getattr(inner, _SEAL, False):
        return

    @wraps(inner)
    def keys_of(request: Any, start: int, end: int, media: int) -> Any:
        keys, media = inner(request, start, end, media)
        plan = plan_of(request.sampling_params)
        done = "" if plan is None else treatment(_lanes_of(request, plan), start, end)
        return ((*(keys or ()), (KEY, done)) if done else keys), media

    setattr(keys_of, _SEAL, True)
    kv_cache_utils.generate_block_hash_extra_keys = keys_of
    block_pool.generate_block_hash_extra_keys = keys_of


def _wrap_scheduler() -> None:
    from vllm.v1.core.sched.scheduler import Scheduler

    inner = Scheduler.update_from_output
    if getattr(inner, _SEAL, False):
        return

    @wraps(inner)
    def update_from_output(self: Any, step: Any, result: Any) -> Any:
        asked = {name: self.requests[name] for name in step.num_scheduled_tokens if name in self.requests}
        steered = {name: one for name, one in asked.items() if plan_of(one.sampling_params) is not None}
        told = vars(result).get(KEY) if result is not None else None
        before = vars(self).get(_SEAL) or {}
        failed = {name: (steered[name], why) for name, why in _failed(steered, told, before).items()}
        if told is not None:
            vars(self)[_SEAL] = told
        wrong = {block for name, (one, _) in failed.items() for block in _steered_blocks(self, name, one)}
        failed |= _sharing(self, wrong, failed)
        outputs = inner(self, step, result)
        if steered:
            _receipts(outputs, {name: one for name, one in steered.items() if name not in failed})
            _fail(self, outputs, failed)
            self.kv_cache_manager.evict_blocks(wrong)
        return outputs

    setattr(update_from_output, _SEAL, True)
    Scheduler.update_from_output = update_from_output


def _failed(steered: Mapping[str, Any], told: Mapping[str, Any] | None, before: Mapping[str, Any]) -> dict[str, str]:
    """The steered requests of a step for which the workers do not show that the change ran: every prepared block's
    count of passes has to grow with the step."""
    if not steered:
        return {}
    if told is None:
        return dict.fromkeys(steered, UNSTEERED)
    counts, old = told["hits"], before.get("hits") or [0] * len(told["hits"])
    if len(counts) != len(old) or not all(now > then for now, then in zip(counts, old, strict=True)):
        return dict.fromkeys(steered, UNSTEERED)
    return {name: why for name, why in told["failed"].items() if name in steered}


def _steered_blocks(scheduler: Any, name: str, request: Any) -> set[int]:
    """The cached blocks that a request has filled itself, from its first steered token on. Their keys say that they are
    steered; where the request has failed, nobody may find them."""
    if name not in scheduler.requests:
        return set()
    lanes = _lanes_of(request, plan_of(request.sampling_params) or LanePlan(()))
    steered = min((lane.start for lane in lanes if lane.pulls), default=request.num_tokens)
    start = max(steered, int(getattr(request, "num_cached_tokens", 0) or 0))
    manager, groups = scheduler.kv_cache_manager, scheduler.kv_cache_config.kv_cache_groups
    held = zip(manager.get_block_ids(name), groups, strict=True)
    found = {block for ids, group in held for block in ids[start // group.kv_cache_spec.block_size :]}
    return found - {manager.block_pool.null_block.block_id}


def _sharing(scheduler: Any, blocks: set[int], known: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """The other requests that have found one of these blocks before it was known to be wrong."""
    if not blocks:
        return {}
    return {
        name: (one, UNSTEERED)
        for name, one in scheduler.requests.items()
        if name not in known
        and any(not blocks.isdisjoint(ids) for ids in scheduler.kv_cache_manager.get_block_ids(name))
    }


def _receipts(outputs: Mapping[int, Any], steered: Mapping[str, Any]) -> None:
    for one in outputs.values():
        for output in one.outputs:
            request = steered.get(output.request_id)
            if request is None or output.finish_reason is None:
                continue
            plan = plan_of(request.sampling_params)
            # The last token of an answer is made by the pass of the one before, and goes through none itself.
            passed = request.num_prompt_tokens + request.num_output_tokens - 1
            receipt = {
                "touched": list(plan.touched(request.prompt_token_ids, passed)) if plan is not None else [],
                "cached": max(0, int(getattr(request, "num_cached_tokens", 0) or 0)),
            }
            output.kv_transfer_params = {**(output.kv_transfer_params or {}), KEY: receipt}


def _fail(scheduler: Any, outputs: dict[int, Any], failed: Mapping[str, tuple[Any, str]]) -> None:
    """End these requests as errors, without a token of this step; the others go on."""
    from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
    from vllm.v1.request import RequestStatus

    scheduler.finish_requests([name for name in failed if name in scheduler.requests], RequestStatus.FINISHED_ERROR)
    for name, (request, why) in failed.items():
        told = outputs.setdefault(request.client_index, EngineCoreOutputs())
        ended = EngineCoreOutput(
            request_id=name,
            new_token_ids=[],
            finish_reason=FinishReason.ERROR,
            kv_transfer_params={KEY: {"why": why}},
        )
        told.outputs = [*(one for one in told.outputs if one.request_id != name), ended]
