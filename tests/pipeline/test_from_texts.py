"""``vector_from``: two lists in, an artefact out that can be steered with, saved, and tested later."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

import tillerman
from tillerman.cli.app import app
from tillerman.core.errors import DataError, FitError, HookPointError, UnknownNameError, UsageError
from tillerman.core.hookpoint import HookPoint

from .. import tiny

HAPPY = ["The children laughed and sang.", "What a lovely day!", "She hugged her friend."]
SAD = ["The children wept and hid.", "What a terrible day!", "She lost her friend."]


def chat(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


@pytest.fixture(scope="module")
def pilot():
    return tillerman.open_model("pilot")


def test_texts_give_the_difference_of_the_means_over_their_tokens(opened):
    artefact = tillerman.vector_from(opened, HAPPY, SAD, layers=1)
    means = []
    for side in (HAPPY, SAD):
        rows = []
        for text in side:
            start = [] if opened.tokenizer.bos_token_id is None else [opened.tokenizer.bos_token_id]
            ids = torch.tensor([[*start, *opened.tokenizer(text, add_special_tokens=False)["input_ids"]]])
            rows.append(tiny.hidden_states(opened.model, ids)[2][0].mean(0))
        means.append(torch.stack(rows).mean(0))
    torch.testing.assert_close(artefact.steering.directions[HookPoint(1)], means[0] - means[1], rtol=1e-3, atol=1e-4)


def test_the_block_in_the_middle_is_steered_at_the_usual_dose(opened):
    artefact = tillerman.vector_from(opened, HAPPY, SAD)
    assert artefact.cell.points == (HookPoint((opened.layers - 1) // 2),)
    assert artefact.dose == pytest.approx(0.4) and artefact.card is None and str(artefact.cell.scope) == "all"


def test_several_layers_share_the_dose(opened):
    artefact = tillerman.vector_from(opened, HAPPY, SAD, layers=(0, 2), dose=0.3)
    assert artefact.cell.points == (HookPoint(0), HookPoint(2))
    assert 2 * artefact.dose == pytest.approx(0.3)


@pytest.mark.parametrize("own", [True, False], ids=["the pilot", "a template that writes a line's end after it"])
def test_chats_are_read_where_the_answer_is_closed_and_steered_from_the_end_of_the_question_on(pilot, own):
    pilot = pilot if own else tiny.opened("llama", tiny.CHAT)
    positive, negative = [chat("Do you like it?", "Yes")], [chat("Do you like it?", "No")]
    artefact = tillerman.vector_from(pilot, positive, negative, layers=1)
    ends = []
    for (messages,) in (positive, negative):
        text = pilot.tokenizer.apply_chat_template(messages, tokenize=False).rstrip()
        ids = torch.tensor([pilot.tokenizer(text, add_special_tokens=False)["input_ids"]])
        ends.append(tiny.hidden_states(pilot.model, ids)[2][0, -1])
    torch.testing.assert_close(artefact.steering.directions[HookPoint(1)], ends[0] - ends[1], rtol=1e-3, atol=1e-4)
    assert artefact.cell.scope.name == "after_instruction" and artefact.steering.provenance.template == "chat"


def test_another_estimator_is_named_and_gives_another_direction(opened):
    plain, probe = (tillerman.vector_from(opened, HAPPY, SAD, estimator=e) for e in ("mean_difference", "probe"))
    assert (plain.steering.provenance.method, probe.steering.provenance.method) == ("caa", "caa+probe")
    assert not torch.equal(*(next(iter(a.steering.directions.values())) for a in (plain, probe)))


def test_without_pairs_the_lists_may_differ_in_length(opened):
    assert tillerman.vector_from(opened, HAPPY, SAD[:2], paired=False).steering.provenance.split == {"train": 5}


@pytest.mark.parametrize(
    ("positives", "negatives", "more", "error", "said"),
    [
        ([], SAD, {}, DataError, "the positive side is empty"),
        (HAPPY, "sad", {}, DataError, "the negative side is one text; give a list"),
        (HAPPY, SAD[:2], {}, DataError, r"3 positives and 2 negatives: .* paired=False"),
        (HAPPY, [chat("a", "b")] * 3, {}, DataError, "mix texts and chats"),
        ([chat("a", "b")], [chat("a", "c")], {}, DataError, "has no chat template; give texts"),
        (HAPPY, HAPPY, {}, FitError, "nothing tells them apart"),
        (["", *HAPPY[:2]], SAD, {}, DataError, "no token for ''"),
        (HAPPY, SAD, {"layers": 7}, HookPointError, r"layers.7.resid_post: the model has layers 0..2"),
        (HAPPY, SAD, {"layers": ()}, UsageError, "give at least one"),
        (HAPPY, SAD, {"estimator": "pcaa"}, UnknownNameError, "Did you mean 'pca'"),
    ],
)
def test_lists_that_give_no_vector_say_why(opened, positives, negatives, more, error, said):
    with pytest.raises(error, match=said):
        tillerman.vector_from(opened, positives, negatives, **more)


def test_a_chat_without_roles_is_refused(pilot):
    with pytest.raises(DataError, match="a chat is a list of messages such as"):
        tillerman.vector_from(pilot, [[{"text": "a"}]], [[{"text": "b"}]])


@pytest.mark.slow
def test_answers_of_the_wanted_kind_become_more_common_and_the_artefact_can_be_tested_later(pilot):
    data = tillerman.load_examples("sample:agreeableness")
    shown, asked = data.examples[:60], replace(data, examples=data.examples[60:])
    wanted = [chat(e.question, e.options[e.answer]) for e in shown]
    other = [chat(e.question, e.options[1 - e.answer]) for e in shown]
    artefact = tillerman.vector_from(pilot, wanted, other, name="agreeable")
    small = tillerman.Experiment(max_test=60, neutral_tokens=512, unrelated_items=8)
    log = tillerman.evaluate(artefact, small, pilot, asked)
    assert log.effect.value > 0.2 and log.effect.interval.low > 0
    assert (log.method, log.hook_point) == ("caa", "layers.3.resid_post")


@pytest.mark.slow
def test_the_command_line_takes_an_artefact_that_has_no_card(pilot, tmp_path):
    path = tmp_path / "happy.safetensors"
    artefact = tillerman.vector_from(pilot, HAPPY, SAD, name="moods")
    tillerman.save(path, artefact)
    assert tillerman.load(path).cell == artefact.cell

    def said(*arguments):
        done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code in (0, 3), done.output
        return done.stdout

    made = json.loads(said("generate", "Tell me something.", "-a", str(path), "--tokens", "3", "--json"))
    assert [row["dose"] for row in made["continuations"]] == pytest.approx([0.0, 0.4])
    data = "sample:agreeableness"
    tested = json.loads(said("eval", str(path), data, "--limit", "30", "--all-items", "--json"))
    assert tested["dose"] == pytest.approx(0.4)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("Tell me a story.\nHow are you?\n", encoding="utf-8")
    small = ("--tokens", "3", "--null-draws", "2", "--scorer", "length", "--prompts", str(prompts))
    scored = json.loads(said("score", str(path), *small, "--out", str(tmp_path / "scores.json"), "--json"))
    assert "steered" in json.dumps(scored)
    assert "moods" in said("show", str(path))
