"""The workers' part: both of vLLM's model runners tell a table which requests begin, end and have tokens in a pass."""

from __future__ import annotations

from functools import wraps
from importlib import import_module
from typing import Any

from tillerman.core.errors import ModelError
from tillerman.serving.engines.vllm.armed import Armed, arm
from tillerman.serving.engines.vllm.core import plan_of
from tillerman.serving.engines.vllm.setting import KEY, VERSION, Setting

_V1 = ("vllm.v1.worker.gpu_model_runner.GPUModelRunner", "vllm.v1.worker.cpu_model_runner.CPUModelRunner")
_V2 = "vllm.v1.worker.gpu.model_runner.GPUModelRunner"
_WORKER = "vllm.v1.worker.worker_base.WorkerBase"
_SEAL = "_tillerman"


def install(wanted: Setting) -> None:
    """Wrap the runners that this build of vLLM can import."""
    worker = _class(_WORKER)
    if worker is not None:
        worker.tillerman_handshake = _handshake
    first, *others = (_class(name) for name in _V1)
    if first is not None and not vars(first).get(_SEAL):
        setattr(first, _SEAL, True)
        for one in (first, *others):
            if one is not None and "load_model" in vars(one):
                _wrap_loading(one, wanted)
        _wrap_v1(first)
    second = _class(_V2)
    if second is not None and not vars(second).get(_SEAL):
        setattr(second, _SEAL, True)
        _wrap_loading(second, wanted)
        _wrap_v2(second)
    if first is None and second is None:
        raise ModelError("vLLM has none of the model runners that the plugin knows")


def armed_of(runner: Any) -> Armed:
    """The table of a runner that has loaded its model."""
    found: Armed = vars(runner)[KEY]
    return found


def _handshake(self: Any) -> dict[str, Any]:
    """What a worker says of itself: the method ``tillerman_handshake`` of every worker."""
    armed = vars(self.model_runner).get(KEY)
    if armed is None:
        return {"version": VERSION, "layers": None, "reads": [], "hits": []}
    told = {"layers": list(armed.layers), "reads": [table.reads for table in armed.tables], "hits": armed.hits.tolist()}
    return {"version": VERSION, **told}


def _class(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, RuntimeError):
        return None  # the second runner needs Triton, which a build for CPUs does not have


def _wrap_loading(runner: Any, wanted: Setting) -> None:
    inner = runner.load_model

    @wraps(inner)
    def load_model(self: Any, *args: Any, **more: Any) -> Any:
        out = inner(self, *args, **more)
        if KEY not in vars(self):
            vars(self)[KEY] = arm(self, wanted)
        return out

    runner.load_model = load_model


def _wrap_v1(runner: Any) -> None:
    update, prepare, sample = runner._update_states, runner._prepare_inputs, runner.sample_tokens

    @wraps(update)
    def _update_states(self: Any, step: Any) -> Any:
        armed = armed_of(self)
        for name in step.finished_req_ids:
            armed.release(name)
        for new in step.scheduled_new_reqs:  # one that comes back from preemption is not new: it keeps its rows
            _begin(armed, new.req_id, new.sampling_params, new.prompt_token_ids)
        return update(self, step)

    @wraps(prepare)
    def _prepare_inputs(self: Any, step: Any, counts: Any) -> Any:
        batch = self.input_batch
        armed_of(self).fill(batch.req_ids, counts, batch.num_computed_tokens_cpu[: batch.num_reqs])
        return prepare(self, step, counts)

    runner._update_states, runner._prepare_inputs = _update_states, _prepare_inputs
    runner.sample_tokens = _telling(sample)


def _wrap_v2(runner: Any) -> None:
    add, remove, prepare, sample = (
        runner.add_requests,
        runner._remove_request,
        runner.prepare_inputs,
        runner.sample_tokens,
    )

    @wraps(add)
    def add_requests(self: Any, step: Any) -> Any:
        out = add(self, step)
        for new in step.scheduled_new_reqs:
            # One that was preempted comes again as new; its answer so far is not among these tokens.
            _begin(armed_of(self), new.req_id, new.sampling_params, new.prompt_token_ids)
        return out

    @wraps(remove)
    def _remove_request(self: Any, name: str) -> Any:
        armed_of(self).release(name)
        return remove(self, name)

    @wraps(prepare)
    def prepare_inputs(self: Any, *args: Any, **more: Any) -> Any:
        batch = prepare(self, *args, **more)
        n = batch.num_reqs
        armed_of(self).fill(batch.req_ids[:n], batch.num_scheduled_tokens[:n], batch.num_computed_tokens_np[:n])
        return batch

    runner.add_requests, runner._remove_request, runner.prepare_inputs = add_requests, _remove_request, prepare_inputs
    runner.sample_tokens = _telling(sample)


def _begin(armed: Armed, name: str, params: Any, prompt: Any) -> None:
    plan = plan_of(params)
    armed.release(name)
    if plan is not None:
        armed.acquire(name, plan, prompt)


def _telling(sample: Any) -> Any:
    """A step's result with what the table has to tell, where a steered request runs."""

    @wraps(sample)
    def sample_tokens(self: Any, *args: Any, **more: Any) -> Any:
        out = sample(self, *args, **more)
        armed = armed_of(self)
        result = _result_in(out) if out is not None else None
        if result is not None and (armed.book.requests or armed.failed):
            vars(result)[KEY] = armed.told()
        return out

    return sample_tokens


def _result_in(out: Any) -> Any:
    """The result of a step, which a runner may hand out before its tokens have come from the device."""
    held = vars(out)
    return next((held[name] for name in ("_model_runner_output", "model_runner_output") if name in held), out)
