"""Whatever breaks, a request that asked for steering never ends as if it had been steered."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from tillerman.core.artefact import Artefact, save
from tillerman.core.cell import Cell
from tillerman.core.files import sha256_of
from tillerman.core.plan import Intervention, Scope
from tillerman.serving.lanes import lane_plan

from . import models

pytestmark = pytest.mark.vllm
ASKED = (("a", 1.0, Scope()),)


def _params(text):
    from vllm import SamplingParams

    extra = None if text is None else {"tillerman": text}
    return SamplingParams(temperature=0, max_tokens=6, ignore_eos=True, detokenize=False, extra_args=extra)


def _pair(llm, text):
    """How a steered request and an unsteered one beside it end: reason and number of tokens."""
    prompt = {"prompt_token_ids": models.prompts()[1]}
    outputs = llm.generate([prompt, prompt], [_params(text), _params(None)], use_tqdm=False)
    told = [(one.outputs[0].finish_reason, len(one.outputs[0].token_ids)) for one in outputs]
    return told, (outputs[0].kv_transfer_params or {}).get("tillerman", {})


@contextmanager
def _without_hooks(modules):
    taken = [(module, dict(module._forward_hooks)) for module in modules]
    for module, _ in taken:
        module._forward_hooks.clear()
    try:
        yield
    finally:
        for module, hooks in taken:
            module._forward_hooks.update(hooks)


def _runner(llm):
    return llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker.model_runner


def test_a_hook_that_is_removed_ends_the_steered_request_and_not_its_neighbour(running, digests):
    text = lane_plan(models.plan(ASKED), [digests["a"]]).text()
    with running("llama") as llm:
        assert _pair(llm, text)[0] == [("length", 6), ("length", 6)]
        with _without_hooks(_runner(llm).model.modules()):
            told, receipt = _pair(llm, text)
        assert told == [("error", 0), ("length", 6)]
        assert "could not show that this answer was steered" in receipt["why"]


def test_one_hook_of_several_that_is_removed_is_seen_too(running, digests):
    text = lane_plan(models.plan(ASKED), [digests["a"]]).text()
    with running("llama") as llm, _without_hooks([_runner(llm).model.model.layers[0]]):
        assert _pair(llm, text)[0] == [("error", 0), ("length", 6)]


def test_an_artefact_that_changed_on_disk_ends_the_request_and_not_its_neighbour(running, digests):
    text = lane_plan(models.plan(ASKED), ["0" * 64]).text()
    with running("llama") as llm:
        told, receipt = _pair(llm, text)
        assert told == [("error", 0), ("length", 6)]
        assert "no artefact with the digest 000000000000: its file was changed or removed" in receipt["why"]


def test_what_a_failed_request_has_cached_is_found_by_nobody(running, digests, tmp_path):
    """The file comes back: the prompt's blocks of the failed request have its key, and were never steered."""
    made = models.vector("a").scaled(3.0)
    file = tmp_path / "late.safetensors"
    save(file, Artefact(made, Cell.of(made)))
    text = lane_plan((Intervention(made, 1.0),), [sha256_of(file)]).text()
    with running("llama") as llm:
        assert _pair(llm, text)[0] == [("error", 0), ("length", 6)]
        served = Path(shutil.copy(file, os.environ["TILLERMAN_ARTEFACTS"]))
        try:
            (said,) = llm.generate([{"prompt_token_ids": models.prompts()[1]}], _params(text), use_tqdm=False)
        finally:
            served.unlink()
    assert (said.outputs[0].finish_reason, said.num_cached_tokens) == ("length", 0)


def test_a_sum_that_overflows_ends_the_request(running, digests):
    asked = (("a", 1e39, Scope()),)
    text = lane_plan(models.plan(asked), [digests["a"]]).text()
    with running("llama") as llm:
        told, receipt = _pair(llm, text)
    assert told == [("error", 0), ("length", 6)]
    assert "overflows float32" in receipt["why"]


def test_a_worker_that_tells_nothing_is_not_believed(running, digests):
    text = lane_plan(models.plan(ASKED), [digests["a"]]).text()
    with running("llama") as llm:
        runner = _runner(llm)
        wrapped = type(runner).sample_tokens
        runner.sample_tokens = wrapped.__wrapped__.__get__(runner)  # as if the plugin were not in this process
        try:
            assert _pair(llm, text)[0] == [("error", 0), ("length", 6)]
        finally:
            del runner.sample_tokens


def test_rows_come_back_when_requests_end_or_are_given_up(running, digests):
    text = lane_plan(models.plan(ASKED), [digests["a"]]).text()
    with running("llama") as llm:
        engine = llm.llm_engine
        engine.add_request("one", {"prompt_token_ids": models.prompts()[1]}, _params(text))
        engine.step()
        assert vars(_runner(llm))["tillerman"].book.in_use == 1
        engine.abort_request(["one"])
        _pair(llm, None)
        assert vars(_runner(llm))["tillerman"].book.in_use == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nope", "no artefact 'nope'; there are: a, b, c, d, e, f"),
        ("a@0.1:thinking", "scope 'thinking' is not served"),
        ("a@", "expected a dose"),
        ("d+e@0.2+d", "block 1: 3 interventions of the plan read the stream there"),
        ("[1]", "an intervention of a plan has a scope and pulls"),
        ('[{"scope": 1, "pulls": []}]', "scope"),
    ],
)
def test_a_plan_that_cannot_be_served_is_refused_before_any_token(running, text, why):
    from vllm.exceptions import VLLMValidationError

    with running("llama") as llm, pytest.raises(VLLMValidationError, match=why):
        llm.generate([{"prompt_token_ids": [5, 6, 7]}], _params(text), use_tqdm=False)


def test_names_and_doses_are_read_as_the_command_line_reads_them(running):
    with running("llama") as llm:
        (said,) = llm.generate([{"prompt_token_ids": [5, 6, 7]}], _params("a@0.2+b:last+d"), use_tqdm=False)
    assert said.kv_transfer_params["tillerman"]["touched"] == [8, 1, 8]


_REGISTER = """
import os
from tillerman.serving.engines.vllm import plugin
{sabotage}
try:
    plugin.register()
except Exception as error:
    print("raised", error)
from vllm import SamplingParams
from vllm.v1.engine.input_processor import InputProcessor
try:
    InputProcessor.process_inputs(None, "id", "a prompt", SamplingParams(extra_args={{"tillerman": "a@0.1"}}), ())
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("sabotage", "raised", "refused"),
    [
        ("os.environ.pop('TILLERMAN_ARTEFACTS')", None, "this server has no artefacts"),
        ("os.environ['TILLERMAN_ARTEFACTS'] = 'nowhere'", "nowhere is not a folder", "not at work.*not a folder"),
        ("plugin.TESTED = ()", "knows the seams of", "not at work.*knows the seams of"),
        ("plugin.runners.install = lambda wanted: 1 / 0", "division by zero", "not at work.*division by zero"),
    ],
)
def test_a_plugin_that_could_not_be_put_in_place_takes_no_plan(sabotage, raised, refused):
    code = _REGISTER.format(sabotage=sabotage)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = done.stdout.strip().splitlines()
    assert ("raised" in done.stdout) == (raised is not None)
    assert raised is None or re.search(raised, said[0])
    assert re.search(f"^VLLMValidationError .*{refused}", said[-1])
