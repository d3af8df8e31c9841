"""A steered model in inspect-ai: our own scorer's answers, our own texts, receipts, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib

import inspect_ai
import pytest
import torch
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    Model,
    ModelOutput,
    ModelUsage,
    get_model,
)
from inspect_ai.tool import ToolInfo

from tillerman.core.artefact import save
from tillerman.core.errors import ArtefactError, NotAppliedError, UsageError
from tillerman.core.plan import Intervention, Plan, Scope
from tillerman.data.examples import Example
from tillerman.data.loading import load_examples
from tillerman.data.presenting import present
from tillerman.data.writing import make_writer
from tillerman.evaluation.scoring import answers_given, correct
from tillerman.harnesses.export import export_task
from tillerman.harnesses.inspect_provider import steered_model
from tillerman.harnesses.inspect_task import first_answer
from tillerman.harnesses.steered import SteeredModel
from tillerman.models.opened import open_model
from tillerman.steering.generation import Sampling, continuation

from .. import tiny
from ..data.test_templates import SWITCHED
from .plans import pilot_artefact, pilot_plan

PLAN = (Intervention(tiny.vector(1), 3.0),)
NEVER = (Intervention(tiny.vector(1), 1.0, "add", Scope("positions", (999,))),)


def run(folder, model: Model, closed: bool = True):
    with contextlib.chdir(folder):  # inspect looks for task files below where it runs
        (log,) = inspect_ai.eval("inspect_task.py", model=model, task_args={"closed": closed}, display="none")
    return log


def right(log) -> list[bool]:
    assert log.status == "success"
    each = {str(sample.id): sample.scores["answer_given"].value == "C" for sample in log.samples}
    (score,) = log.results.scores
    assert score.metrics["accuracy"].value == pytest.approx(sum(each.values()) / len(each))
    return each


def reply(model: Model, messages, **config) -> ModelOutput:
    tools = config.pop("tools", [])
    said = [ChatMessageUser(content=messages)] if isinstance(messages, str) else messages
    return asyncio.run(model.api.generate(said, tools, "auto", GenerateConfig(**config)))


def tiny_model(plan: Plan = (), chat: str | None = tiny.CHAT) -> Model:
    return steered_model(tiny.opened("llama", chat), plan)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bbq-age", "agreeableness", "whole"])
def test_an_exported_task_gives_item_by_item_what_our_own_scorer_gives(tmp_path, name):
    opened = open_model("pilot")
    examples = load_examples(f"sample:{'agreeableness' if name == 'whole' else name}").examples[:16]
    if name == "whole":
        examples = tuple(
            Example("preference", e.question, tuple(f"{option}, it is." for option in e.options), e.answer)
            for e in examples
        )
    writer, items = make_writer(opened.tokenizer), present(examples)
    ours = [writer.write(item) for item in items]
    export_task(items, writer, tmp_path, "sample")
    found = []
    for plan in ((), pilot_plan(opened)):
        with SteeredModel(opened, plan).running():
            given = correct(answers_given(opened, ours), ours).tolist()
        log = run(tmp_path, steered_model(opened, plan))
        assert right(log) == {item.example.id: each for item, each in zip(items, given, strict=True)}
        receipts = [(sample.output.metadata or {}).get("receipt") for sample in log.samples]
        assert all((receipt is not None) == bool(plan) for receipt in receipts)
        found.append(given)
    assert found[0] != found[1]


@pytest.mark.slow
def test_another_provider_answers_freely_and_is_scored_by_how_it_begins(tmp_path):
    tokenizer = tiny.tokenizer(tiny.CHAT)
    items = present([Example("choice", f"Question {i}?", ("apple", "stone", "river"), 0) for i in range(4)])
    export_task(items, make_writer(tokenizer).with_system("Be short."), tmp_path, "sample")
    targets = {item.prompt: item.answers[item.right] for item in items}
    endings = iter(["", ". It grows.", "pple"])

    def say(messages, *_) -> ModelOutput:
        ending = next(endings, None)
        text = "I would rather not say" if ending is None else f" {targets[messages[-1].text]}{ending}"
        said = ModelOutput.from_content("mockllm/model", text)
        return said.model_copy(update={"usage": ModelUsage()})  # the mock would fetch a tokenizer to count

    log = run(tmp_path, get_model("mockllm/model", custom_outputs=say))
    assert sorted(sample.scores["answer_given"].value for sample in log.samples) == ["C", "C", "N", "N"]
    assert [message.role for message in log.samples[0].messages] == ["system", "user", "assistant"]
    assert {sample.messages[1].text: sample.target for sample in log.samples} == targets


def test_the_longest_answer_that_begins_the_reply_is_the_one_given():
    assert first_answer(" Yes, sure", ["No", "Yes"]) == "Yes"
    assert first_answer("Yes and no", ["Yes", "Yes and no"]) == "Yes and no"
    assert first_answer("Apple", ["A", "B"]) is None
    assert first_answer("A (of course)", ["A", "B"]) == "A"


def test_texts_are_those_of_our_own_continuation():
    opened = open_model("pilot")
    writer = make_writer(opened.tokenizer)
    for plan in ((), pilot_plan(opened)):
        model = steered_model(opened, plan)
        for config, sampling in (
            ({"max_tokens": 12}, Sampling(12)),
            ({"max_tokens": 20, "temperature": 0.9, "seed": 5}, Sampling(20, 0.9, 5)),
        ):
            said = reply(model, "Tell me a story.", **config)
            prompt = writer.encode(writer.prompt_text("Tell me a story."))
            assert said.completion == continuation(opened, prompt, plan, sampling)
            assert said.usage.input_tokens == len(prompt)
            if said.stop_reason == "max_tokens":
                assert said.usage.output_tokens == config["max_tokens"]
            else:
                assert said.stop_reason == "stop"
            assert (said.metadata is not None) == bool(plan)


def test_system_prompt_and_earlier_turns_are_written_as_our_writer_writes_them():
    opened = tiny.opened("llama", tiny.CHAT)
    talk = [
        ChatMessageSystem(content="Be kind."),
        ChatMessageUser(content="the cat"),
        ChatMessageAssistant(content="sat"),
        ChatMessageUser(content="the dog"),
    ]
    text = (
        "<|system|>\nBe kind.<|end|>\n<|user|>\nthe cat<|end|>\n<|assistant|>\nsat<|end|>\n<|user|>\nthe dog"
        "<|end|>\n<|assistant|>\n"
    )
    prompt = tuple(opened.tokenizer(text, add_special_tokens=False)["input_ids"])
    assert reply(tiny_model(PLAN), talk, max_tokens=6).completion == continuation(opened, prompt, PLAN, Sampling(6))


@pytest.mark.parametrize("roles", [[], ["user", "user"], ["user", "assistant"], ["assistant", "user"]])
def test_turns_that_no_template_is_sure_to_take_are_refused(roles):
    kinds = {"user": ChatMessageUser, "assistant": ChatMessageAssistant}
    with pytest.raises(UsageError, match="expected the user and the assistant in turn"):
        reply(tiny_model(), [kinds[role](content="the cat") for role in roles])


def test_settings_that_would_be_passed_over_and_tools_are_refused():
    with pytest.raises(UsageError, match="do not support stop_seqs, top_p; supported: extra_body, max_tokens"):
        reply(tiny_model(), "the cat", top_p=0.5, stop_seqs=["."])
    tool = ToolInfo(name="look", description="look something up")
    with pytest.raises(UsageError, match="cannot call tools"):
        reply(tiny_model(), "the cat", tools=[tool])


@pytest.mark.slow
def test_a_plan_that_never_fires_is_an_error_of_the_sample(tmp_path):
    with pytest.raises(NotAppliedError, match=r"nothing was steered at layers\.1\.resid_post"):
        reply(tiny_model(NEVER), "the cat", max_tokens=2)
    items = present([Example("yes_no", "Is the sky blue?", ("Yes", "No"), 0)])
    export_task(items, make_writer(tiny.tokenizer(tiny.CHAT)), tmp_path, "sample")
    log = run(tmp_path, tiny_model(NEVER))
    assert log.status == "error"
    assert "nothing was steered" in log.error.message


def test_strength_0_is_the_unsteered_model_and_two_plans_of_one_model_stay_apart():
    zero = (Intervention(tiny.vector(1), 0.0),)
    models = [tiny_model(plan) for plan in ((), zero, PLAN, ())]
    said = [reply(model, "the cat", max_tokens=8).completion for model in models]
    assert said[0] == said[1] == said[3]
    assert said[2] != said[0]


def test_a_wrecked_model_gives_no_answer():
    wreck = tiny.wreck(1)
    asked = {"structured_outputs": {"choice": ["Yes", "No"]}}
    assert reply(tiny_model(), "Is it?", extra_body=asked).completion in ("Yes", "No")
    assert reply(tiny_model(wreck), "Is it?", extra_body=asked).completion == ""


def test_the_command_lines_way_finds_the_provider_and_its_artefact(tmp_path):
    opened = open_model("pilot")
    save(tmp_path / "a.safetensors", pilot_artefact(opened))
    path = str(tmp_path / "a.safetensors")
    (chosen,) = pilot_plan(opened)
    given = get_model("tillerman/pilot", artefact=path, strength=0.5, memoize=False)
    assert [item.strength for item in given.api.steered.plan] == [0.5]
    full = get_model("tillerman/pilot", artefact=path, memoize=False)
    plan = full.api.steered.plan
    assert [(item.strength, item.scope) for item in plan] == [(chosen.strength, chosen.scope)]
    assert torch.equal(*(p[0].steering.directions[p[0].steering.points[0]] for p in (plan, pilot_plan(opened))))
    assert get_model("tillerman/pilot", memoize=False).api.steered.plan == ()
    named = get_model("tillerman/pilot", plan=f"{tmp_path / 'a'}:last", memoize=False)
    assert [(item.strength, str(item.scope)) for item in named.api.steered.plan] == [(chosen.strength, "last")]
    assert named.api.steered.named == f"{tmp_path / 'a'}:last"
    with pytest.raises(UsageError, match="expected a dose"):
        get_model("tillerman/pilot", plan="a@", memoize=False)
    with pytest.raises(ArtefactError, match="no such file"):
        get_model("tillerman/pilot", artefact="nowhere.safetensors", memoize=False)


def test_tokens_are_counted_by_the_models_own_tokenizer():
    text = "the cat sat on the mat"
    assert asyncio.run(tiny_model().api.count_text_tokens(text)) == len(tiny.tokenizer()(text)["input_ids"])


def test_a_provider_that_is_asked_for_its_name_alone_opens_no_model():
    assert get_model("tillerman/no-such-folder", memoize=False).api.canonical_name() == "no-such-folder"


def test_arguments_of_the_chat_template_reach_it_as_text_or_as_values():
    opened = tiny.opened("llama", SWITCHED)
    by_value = steered_model(opened, template_args={"enable_thinking": False}).api
    by_text = get_model("tillerman/tiny", memoize=False, template_args="enable_thinking=false").api
    by_text.steered = SteeredModel(opened)
    wanted = make_writer(opened.tokenizer, "auto", {"enable_thinking": False}).reply_text("Is it?")
    assert wanted != make_writer(opened.tokenizer).reply_text("Is it?")
    assert [api.writer.reply_text("Is it?") for api in (by_value, by_text)] == [wanted, wanted]
