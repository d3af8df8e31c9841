"""vLLM as the door sees it: a process that answers jobs, and that is never believed without a receipt."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from tillerman.cli.app import app
from tillerman.core.artefact import Artefact, save
from tillerman.core.cell import Cell
from tillerman.core.errors import ModelError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.models.opened import open_model
from tillerman.serving.engine import About, Chunk, Drawing, Ended, Job
from tillerman.serving.engines.vllm.engine import VllmEngine
from tillerman.serving.engines.vllm.options import VllmSettings
from tillerman.serving.engines.vllm.setting import Setting
from tillerman.steering.steer import steer

from .. import tiny
from . import models

pytestmark = pytest.mark.vllm
ARGUMENTS = ("--dtype", "float32", "--enforce-eager", "--max-model-len", "256", "--max-num-seqs", "8",
             "--block-size", "32", "--no-enable-log-requests")  # fmt: skip
PROMPT = (5, 9, 12, 30, 7)


@pytest.fixture(autouse=True)
def _core_of_its_own(monkeypatch):
    """The engine core in another process, as in production."""
    monkeypatch.delenv("VLLM_ENABLE_V1_MULTIPROCESSING", raising=False)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    models.model("llama").save_pretrained(folder)
    tiny.new_tokenizer(tiny.CHAT).save_pretrained(folder)
    return folder


def _engine(model_folder, digests):
    about = About("vllm", "tiny", "by hand", models.LAYERS, 256)
    setting = Setting(_folder_of(digests), (0, 1, 2))
    return VllmEngine(model_folder, about, setting, VllmSettings(ARGUMENTS))


def _folder_of(digests):
    return Path(os.environ["TILLERMAN_ARTEFACTS"])


def _job(digests, *asked, id="one", **drawing):
    plan, names = models.plan(asked), tuple(name for name, _, _ in asked)
    given = {"max_tokens": 6, "temperature": 0.0, **drawing}
    return Job(id, PROMPT, plan, names, "print", Drawing(**given), tuple(digests[name] for name in names))


async def _all(engine, job):
    return [one async for one in engine.answer(job)]


def _run(engine, work):
    async def whole():
        await engine.start()
        try:
            return await work()
        finally:
            await engine.close()

    return asyncio.run(whole())


def _tokens(chunks):
    return [taken.token for one in chunks if isinstance(one, Chunk) for taken in one.tokens]


def _said_by_steer(model_folder, asked, steps):
    model = AutoModelForCausalLM.from_pretrained(model_folder).float().eval()
    ids = torch.tensor([PROMPT])
    with torch.inference_mode(), steer(model, models.plan(asked)):
        out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=steps,
                             do_sample=False, pad_token_id=0)  # fmt: skip
    return out[0, len(PROMPT) :].tolist()


def test_jobs_are_answered_with_receipts_and_nothing_stays_behind(model_folder, digests):
    engine = _engine(model_folder, digests)
    asked = (("a", 1.0, Scope()), ("b", 0.5, Scope("generated")))

    async def work():
        assert await engine.alive() is None
        assert engine.about.engine.startswith("vllm-0.")
        steered, plain, sampled = await asyncio.gather(
            _all(engine, _job(digests, *asked, id="steered", logprobs=3)),
            _all(engine, _job(digests, id="plain")),
            _all(engine, _job(digests, *asked, id="sampled", temperature=1.0, seed=5, logit_bias={40: 100.0})),
        )
        again = await _all(engine, _job(digests, *asked, id="again", temperature=1.0, seed=5, logit_bias={40: 100.0}))
        stream = engine.answer(_job(digests, *asked, id="given up", max_tokens=200))
        await anext(stream)
        await stream.aclose()  # the client has gone
        after = await _all(engine, _job(digests, id="after"))
        bad = await _all(engine, _job({**digests, "a": "0" * 64}, *asked, id="bad"))
        return steered, plain, sampled, again, after, bad, [psutil.Process(engine._process.pid)]

    steered, plain, sampled, again, after, bad, processes = _run(engine, work)
    assert _tokens(steered) == _said_by_steer(model_folder, asked, 6)
    last = steered[-1]
    assert (last.ending, last.prompt_tokens, last.answer_tokens) == ("length", 5, 6)
    assert [dict(one.tokens) for one in last.touched] == [
        {"layers.1.resid_post": 10},
        {"layers.0.resid_post": 6, "layers.2.resid_post": 6},
    ]
    first = steered[0].tokens[0]
    assert len(first.others) == 3 and first.others[0][0] == first.token and first.logprob == first.others[0][2]
    assert plain[-1].touched == () and plain[-1].ending == "length"
    assert _tokens(plain) == _tokens(after) != _tokens(steered)
    assert set(_tokens(sampled)) == {40} and _tokens(sampled) == _tokens(again)
    assert bad[-1].ending == "error" and "its file was changed or removed" in bad[-1].why and not _tokens(bad)
    assert not any(one.is_running() for one in processes)


def test_a_process_that_is_killed_ends_its_answers_as_errors(model_folder, digests):
    engine = _engine(model_folder, digests)

    async def work():
        stream = engine.answer(_job(digests, ("a", 1.0, Scope()), max_tokens=200))
        found = [await anext(stream)]
        os.killpg(engine._process.pid, signal.SIGKILL)
        found += [one async for one in stream]
        engine._process.wait()
        return found[-1], await engine.alive()

    ended, health = _run(engine, work)
    assert isinstance(ended, Ended) and ended.ending == "error" and ended.why == "the engine stopped while it answered"
    assert health is not None and "ended with code" in health


def test_a_core_that_is_killed_is_not_healthy(model_folder, digests):
    engine = _engine(model_folder, digests)

    async def work():
        await _all(engine, _job(digests, id="before"))
        cores = psutil.Process(engine._process.pid).children(recursive=True)
        for core in cores:
            core.suspend()  # a core of this size would have answered before it is found and killed
        answer = asyncio.create_task(_all(engine, _job(digests, ("a", 1.0, Scope()))))
        await asyncio.sleep(0.5)
        assert not answer.done()
        for core in cores:
            core.kill()
        return (await answer)[-1], await engine.alive()

    ended, health = _run(engine, work)
    assert ended.ending == "error"
    assert health is not None


def test_a_plugin_that_is_not_loaded_is_noticed_before_any_answer(model_folder, digests, monkeypatch):
    monkeypatch.setenv("VLLM_PLUGINS", "")
    engine = _engine(model_folder, digests)
    with pytest.raises(ModelError, match="workers do not know the plugin"):
        asyncio.run(engine.start())
    assert engine._process is None


def test_a_model_that_cannot_be_served_says_why(digests, tmp_path):
    engine = _engine(tmp_path, digests)
    with pytest.raises(ModelError, match=r"vLLM ended with code \d+ before it was ready"):
        asyncio.run(engine.start())


def test_plans_that_this_engine_cannot_serve_are_told_before(model_folder, digests):
    engine = _engine(model_folder, digests)
    (item,) = models.plan((("a", 1.0, Scope()),))
    assert engine.problem((item,)) is None
    beyond = Intervention(tiny.vector(HookPoint(7), width=models.WIDTH))
    assert "block 7 is not prepared" in engine.problem((beyond,))
    (cut,) = models.plan((("d", 1.0, Scope()),))
    assert "block 1: 1 interventions of the plan read the stream there" in engine.problem((item, cut))
    assert "operator 'rotate'" in engine.problem((replace(item, operator="rotate"),))
    assert "scope 'thinking'" in engine.problem((Intervention(item.steering, scope=Scope("thinking")),))


def test_verify_shows_that_artefacts_of_every_operator_steer(model_folder, tmp_path):
    """The command, over the engine that ``tillerman serve --engine vllm`` starts."""
    opened = open_model(str(model_folder), dtype="float32", device="cpu")
    for name in "adef":
        made = models.vector(name)
        ours = opened.vector(made.directions, name="by hand")
        ours = replace(ours, operator=made.operator, atoms=made.atoms)
        save(tmp_path / f"{name}.safetensors", Artefact(ours, Cell.of(ours)))
    asked = ["verify", str(model_folder), "--artefacts", str(tmp_path), "--allow-unproven", "--json"]
    how = ["--dtype", "float32", "--engine", "vllm", "--engine-args", shlex.join(ARGUMENTS[2:])]
    done = CliRunner().invoke(app, [*asked, *how])
    told = json.loads(done.stdout)
    assert done.exit_code == 0 and told["engine"].startswith("vllm-0.")
    proofs = {one["name"]: {check["what"]: check["passed"] for check in one["checks"]} for one in told["artefacts"]}
    wanted = dict.fromkeys(("dose 0 unsteered", "receipt", "changes", "neighbour", "as steer"), True)
    assert proofs == dict.fromkeys("adef", wanted)
