"""A steered model in lm-eval: every kind of request, our own scorer's answers, its command line."""

from __future__ import annotations

import copy
import itertools
import json
import subprocess
import sys

import lm_eval
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from tillerman.core.artefact import save
from tillerman.core.errors import NotAppliedError, UnknownNameError, UsageError
from tillerman.core.plan import Intervention, Scope
from tillerman.data.examples import Example
from tillerman.data.loading import load_examples
from tillerman.data.marked_scopes import after_instruction
from tillerman.data.presenting import present
from tillerman.data.writing import make_writer
from tillerman.evaluation.scoring import answers_given, correct
from tillerman.harnesses.export import export_task
from tillerman.harnesses.lm_harness import SteeredLM
from tillerman.harnesses.steered import SteeredModel
from tillerman.models.opened import OpenModel, open_model
from tillerman.steering.generation import Sampling, continuation

from .. import tiny
from ..data.test_templates import SWITCHED
from .plans import pilot_artefact, pilot_plan

PAIRS = [
    ("Question: is the sky blue? Answer:", " Yes"),
    ("Question: is the sky blue? Answer:", " No, it is red"),
    ("the cat", " sat on the mat"),
    ("", "the dog lay in the sun"),
    ("Answer: ", "A"),
    ("Answer:\n", "A"),
]
TEXTS = ["the cat sat on the mat and the dog lay in the sun", "is the grass red? " * 60, "Yes"]
CHOICES = [Example("choice", f"Question {i}?", ("apple", "stone", "river"), i % 3) for i in range(6)]
WHOLE = [Example("preference", f"Say {i}.", ("hello dear friend", "hello you dog"), i % 2) for i in range(6)]
PLAN = (Intervention(tiny.vector(1), 2.0),)
ZERO = (Intervention(tiny.vector(1), 0.0),)


def asked(kind: str, *arguments: tuple) -> list[Instance]:
    return [Instance(kind, {}, given, i) for i, given in enumerate(arguments)]


def scores(lm: HFLM) -> list[tuple[float, bool]]:
    return lm.loglikelihood(asked("loglikelihood", *PAIRS), disable_tqdm=True)


def rolled(lm: HFLM) -> list[float]:
    return lm.loglikelihood_rolling(asked("loglikelihood_rolling", *[(t,) for t in TEXTS]), disable_tqdm=True)


def written(lm: HFLM) -> list[str]:
    wanted = [(context, {"until": [], "max_gen_toks": 8}) for context, _ in PAIRS if context]
    return lm.generate_until(asked("generate_until", *wanted), disable_tqdm=True)


def plain(opened: OpenModel) -> HFLM:
    return HFLM(pretrained=opened.model, tokenizer=copy.deepcopy(opened.tokenizer))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mixtral", "qwen3_next"])
def test_without_a_plan_all_is_as_lm_eval_has_it(family):
    opened = tiny.opened(family)
    ours, theirs = SteeredLM(opened), plain(opened)
    # The last context ends in a line break, which lm-eval counts to the continuation; see the next test.
    for (a, first), (b, second) in list(zip(scores(ours), scores(theirs), strict=True))[:-1]:
        assert (a, first) == (pytest.approx(b, abs=1e-4), second)
    assert rolled(ours) == pytest.approx(rolled(theirs), abs=1e-3)
    assert written(ours) == written(theirs)
    assert ours.receipts == {}


def test_white_space_that_ends_a_context_belongs_to_the_context():
    lm = SteeredLM(tiny.opened())
    context, continuation = lm._encode_pair("Answer:\n", "A")
    assert context == lm.tok_encode("Answer:\n")
    assert lm.tok_decode(continuation) == "A"
    with torch.no_grad():
        logprobs = lm.model(torch.tensor([context])).logits[0, -1].log_softmax(-1)
    assert scores(lm)[-1][0] == pytest.approx(float(logprobs[continuation[0]]), abs=1e-5)


def test_the_likeliest_continuation_is_told():
    lm = SteeredLM(tiny.opened())
    told = []
    for text, _ in PAIRS[:3]:
        with torch.no_grad():
            best = int(lm.model(torch.tensor([lm.tok_encode(text)])).logits[0, -1].argmax())
        wanted = [((text, ""), lm.tok_encode(text), [token]) for token in (best, (best + 1) % tiny.VOCAB)]
        told.append([likeliest for _, likeliest in lm._loglikelihood_tokens(wanted)])
    assert told == [[True, False]] * 3


def test_strength_0_is_the_unsteered_model_to_the_bit_and_another_strength_is_not():
    runs = (scores, rolled, written)
    unsteered, zero, steered = ([run(SteeredLM(tiny.opened(), plan)) for run in runs] for plan in ((), ZERO, PLAN))
    assert zero == unsteered
    assert all(a != b for a, b in zip(steered, unsteered, strict=True))


def test_a_context_longer_than_the_model_is_cut_as_lm_eval_cuts_it():
    opened = tiny.opened()
    long = asked("loglikelihood", ("the cat sat on the mat" + " and the dog" * 120, " lay in the sun"))
    (ours,) = SteeredLM(opened).loglikelihood(long, disable_tqdm=True)
    (theirs,) = plain(opened).loglikelihood(long, disable_tqdm=True)
    assert ours[0] == pytest.approx(theirs[0], abs=1e-4)


@pytest.mark.parametrize(
    ("chat", "scope"),
    [*itertools.product([None, tiny.CHAT], ["all", "last", "generated"]), (tiny.CHAT, "after_instruction")],
)
@pytest.mark.parametrize("examples", [CHOICES, WHOLE], ids=["choices", "whole"])
def test_a_scope_means_the_same_tokens_as_in_our_own_scorer(tmp_path, chat, scope, examples):
    opened = tiny.opened("llama", chat)
    meant = after_instruction(opened.tokenizer) if scope == "after_instruction" else Scope(scope)
    plan = (Intervention(tiny.vector(1), 3.0, "add", meant),)
    writer, items = make_writer(opened.tokenizer), present(examples)
    export_task(items, writer, tmp_path, "some_items")
    docs = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    requests = asked("loglikelihood", *[(doc["prompt"], choice) for doc in docs for choice in doc["choices"]])
    ours = [writer.write(item) for item in items]
    with SteeredModel(opened, plan).running():
        given = answers_given(opened, ours).tolist()
    theirs = iter(SteeredLM(opened, plan).loglikelihood(requests, disable_tqdm=True))
    for doc, answer in zip(docs, given, strict=True):
        means = [next(theirs)[0] / tokens for tokens in doc["tokens"]]
        assert means.index(max(means)) == answer
    moved = [a for a, _ in SteeredLM(opened, plan).loglikelihood(requests, disable_tqdm=True)]
    assert moved != [a for a, _ in SteeredLM(opened).loglikelihood(requests, disable_tqdm=True)]


def examples_of(name: str) -> tuple[Example, ...]:
    if name != "whole":
        return load_examples(f"sample:{name}").examples[:24]
    return tuple(
        Example("preference", e.question, tuple(f"{option}, it is." for option in e.options), e.answer)
        for e in examples_of("agreeableness")
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bbq-age", "agreeableness", "whole"])
def test_an_exported_task_gives_item_by_item_what_our_own_scorer_gives(tmp_path, name):
    opened = open_model("pilot")
    writer, items = make_writer(opened.tokenizer), present(examples_of(name))
    ours = [writer.write(item) for item in items]
    export_task(items, writer, tmp_path, "sample")
    right = []
    for plan in ((), pilot_plan(opened)):
        lm = SteeredLM(opened, plan)
        with SteeredModel(opened, plan).running():
            right.append(correct(answers_given(opened, ours), ours).tolist())
        assert accuracy(lm, tmp_path) == right[-1]
        assert set(lm.receipts) == ({"loglikelihood"} if plan else set())
    unsteered, steered = right
    assert steered != unsteered
    assert accuracy(plain(opened), tmp_path) == unsteered


def accuracy(lm: HFLM, folder) -> list[bool]:
    tasks = TaskManager(include_path=str(folder), include_defaults=False)
    results = lm_eval.simple_evaluate(lm, tasks=["sample"], task_manager=tasks, bootstrap_iters=0, log_samples=True)
    samples = sorted(results["samples"]["sample"], key=lambda sample: sample["doc_id"])
    each = [bool(sample["acc"]) for sample in samples]
    assert results["results"]["sample"]["acc,none"] == pytest.approx(sum(each) / len(each))
    return each


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 3])
def test_texts_are_those_of_our_own_continuation(batch_size):
    opened = open_model("pilot")
    writer = make_writer(opened.tokenizer)
    prompts = [writer.prompt_text(text) for text in ("Tell me a story.", "Who are you and what do you like?", "Hi")]
    options = {"until": [], "max_gen_toks": 20}
    for plan in ((), pilot_plan(opened)):
        lm = SteeredLM(opened, plan, batch_size=batch_size)
        texts = lm.generate_until(asked("generate_until", *[(p, dict(options)) for p in prompts]), disable_tqdm=True)
        assert texts == [continuation(opened, writer.encode(p), plan, Sampling(20)) for p in prompts]
        assert any(texts)


def test_a_plan_that_never_fires_is_an_error_in_every_kind_of_request():
    opened = tiny.opened()
    never = (Intervention(tiny.vector(1), 1.0, "add", Scope("positions", (999,))),)
    for run in (scores, rolled, written):
        with pytest.raises(NotAppliedError, match=r"nothing was steered at layers\.1\.resid_post"):
            run(SteeredLM(opened, never))


def test_the_receipts_can_be_read_after_the_run_and_stand_in_lm_evals_results():
    lm = SteeredLM(tiny.opened(), PLAN, warnings=("another model",))
    scores(lm)
    written(lm)
    assert set(lm.receipts) == {"loglikelihood", "generate_until"}
    (applied,) = lm.receipts["loglikelihood"].applied
    assert applied.touched and applied.strength == 2.0
    told = json.loads(json.dumps(lm.get_model_info()))["tillerman_receipts"]["generate_until"]
    assert told["applied"][0]["tokens"]["layers.1.resid_post"] > 0
    assert told["warnings"] == ["another model"]


def test_the_users_tokenizer_and_model_are_left_as_they_were():
    opened = tiny.fresh_opened()
    tokenizer = tiny.new_tokenizer()
    tokenizer.pad_token = None
    opened = OpenModel(opened.model, tokenizer, opened.id, opened.parts)
    before = {name: value.clone() for name, value in opened.model.state_dict().items()}
    assert written(SteeredLM(opened, PLAN))
    assert tokenizer.pad_token is None
    assert all(torch.equal(value, before[name]) for name, value in opened.model.state_dict().items())


@pytest.mark.slow
def test_arguments_of_the_command_line_name_the_artefact_and_its_strength(tmp_path):
    opened = open_model("pilot")
    (chosen,) = pilot_plan(opened)
    save(tmp_path / "a.safetensors", pilot_artefact(opened))
    path = tmp_path / "a.safetensors"
    lm = SteeredLM.create_from_arg_string(f"artefact={path},strength=0.5", {"batch_size": 4, "device": "cuda:0"})
    assert [item.strength for item in lm.steered.plan] == [0.5]
    assert (lm.steered.plan[0].scope, lm.batch_size) == (chosen.scope, 4)
    dose = chosen.steering.dose(chosen.steering.points[0], 0.5)
    assert lm.get_model_info()["tillerman_plan"] == f"{tmp_path / 'a'}@{dose:.4g}:{chosen.scope}"
    assert SteeredLM.create_from_arg_obj({"artefact": str(path)}).steered.plan[0].strength == chosen.strength
    assert SteeredLM.create_from_arg_string("pretrained=pilot").steered.plan == ()
    lm = SteeredLM.create_from_arg_string(f"plan={tmp_path / 'a'}@0.25:last+{tmp_path / 'a'}")
    assert [str(item.scope) for item in lm.steered.plan] == ["last", str(chosen.scope)]
    assert [item.strength for item in lm.steered.plan][1] == chosen.strength
    assert lm.get_model_info()["tillerman_plan"] == f"{tmp_path / 'a'}@0.25:last+{tmp_path / 'a'}"
    with pytest.raises(UsageError, match="leave artefact and strength out"):
        SteeredLM.create_from_arg_string(f"artefact={path},plan=a@1")
    with pytest.raises(UnknownNameError, match=r"no model argument named 'artifact'.*Did you mean 'artefact'"):
        SteeredLM.create_from_arg_string(f"artifact={path}")
    with pytest.raises(UsageError, match="batch_size 'auto': expected a number"):
        SteeredLM.create_from_arg_string("pretrained=pilot", {"batch_size": "auto"})


def test_arguments_of_the_chat_template_reach_it():
    asked = [{"role": "user", "content": "Is it?"}]
    opened = tiny.opened("llama", SWITCHED)
    told = SteeredLM(opened, template_args={"enable_thinking": False}).apply_chat_template(asked)
    assert told == make_writer(opened.tokenizer, "auto", {"enable_thinking": False}).reply_text("Is it?")
    assert told != SteeredLM(opened).apply_chat_template(asked)
    with pytest.raises(UsageError, match="`template_args` effort: this chat template does not take it"):
        SteeredLM.create_from_arg_string("pretrained=pilot,template_args=effort=low+enable_thinking=false")


@pytest.mark.slow
def test_lm_evals_command_line_knows_the_model_and_writes_its_receipts(tmp_path):
    opened = open_model("pilot")
    (chosen,) = pilot_plan(opened)
    save(tmp_path / "a.safetensors", pilot_artefact(opened))
    items = present(load_examples("sample:bbq-age").examples[:4])
    export_task(items, make_writer(opened.tokenizer), tmp_path / "task", "sample")
    command = [
        sys.executable,
        "-m",
        "tillerman.harnesses.lm_harness",
        "run",
        "--model",
        "tillerman",
        "--tasks",
        "sample",
        "--include_path",
        str(tmp_path / "task"),
        "--output_path",
        str(tmp_path / "out"),
    ]
    subprocess.run([*command, "--model_args", f"artefact={tmp_path / 'a.safetensors'}"], check=True)
    (results,) = (tmp_path / "out").rglob("results_*.json")
    told = json.loads(results.read_text())["config"]["tillerman_receipts"]["loglikelihood"]
    assert told["applied"][0]["strength"] == chosen.strength
    wrong = subprocess.run([*command, "--model_args", "artefact=none"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert wrong.stderr.strip().splitlines()[-1].startswith("error: none: no such file")
