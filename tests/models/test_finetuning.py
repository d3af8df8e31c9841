"""Fine-tuning learns the answers on a copy, and adapters are steered with the blocks they sit in."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from torch.nn.functional import log_softmax

from tillerman.core.errors import FitError, ModelError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention
from tillerman.core.rows import Row
from tillerman.models.capture import capture
from tillerman.models.finetuning import LoraOptions, answer_loss, save_model, train_lora
from tillerman.models.opened import open_model
from tillerman.steering.steer import steer

from .. import tiny

ROWS = [Row((*tokens, 50, 51), len(tokens)) for tokens in tiny.random_rows([6, 9, 5, 7] * 2, seed=3)]
QUICK = LoraOptions(rate=1e-2)


def bits(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*_pattern keys did not match:RuntimeWarning")
def test_every_family_learns_the_answers_on_a_copy(family):
    opened = tiny.fresh_opened(family)
    before = bits(opened.model)
    flags = [p.requires_grad for p in opened.model.parameters()]
    tuned = train_lora(opened, ROWS, QUICK)
    with torch.no_grad():
        assert answer_loss(tuned, ROWS) < answer_loss(opened, ROWS) - 1
    assert same(bits(opened.model), before)
    assert tuned.model.state_dict().keys() == before.keys()  # adapters are merged
    assert [p.requires_grad for p in tuned.model.parameters()] == flags
    assert not tuned.model.training
    assert tuned.fingerprint != opened.fingerprint


def test_the_loss_is_that_of_the_answers_tokens_alone(opened):
    logprobs = []
    for row in ROWS:
        with torch.no_grad():
            scores = log_softmax(opened.model(input_ids=torch.tensor([row.tokens])).logits[0], -1)
        logprobs += [float(scores[i - 1, row.tokens[i]]) for i in range(row.read_from, len(row.tokens))]
    with torch.no_grad():
        assert float(answer_loss(opened, ROWS)) == pytest.approx(-sum(logprobs) / len(logprobs), rel=1e-5)


def test_the_same_seed_gives_the_same_weights_and_another_one_others():
    opened = tiny.opened()
    once, again, other = (bits(train_lora(opened, ROWS, QUICK, seed=seed).model) for seed in (1, 1, 2))
    assert same(once, again)
    assert not same(once, other)


def test_the_callers_random_numbers_are_left_alone(opened):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_lora(opened, ROWS[:2], LoraOptions(epochs=1))
    assert torch.equal(torch.rand(3), expected)


def test_a_fine_tuned_model_is_written_and_opened_as_the_same(opened, tmp_path: Path):
    tuned = train_lora(opened, ROWS, QUICK)
    save_model(tuned, tmp_path / "tuned")
    again = open_model(tmp_path / "tuned")
    assert again.fingerprint == tuned.fingerprint
    assert (again.tokenizer_hash, again.template_hash) == (tuned.tokenizer_hash, tuned.template_hash)


@pytest.mark.parametrize("rows", [[], [Row((1, 2, 3), 3)]], ids=["none", "no answer"])
def test_rows_without_an_answer_are_refused(opened, rows):
    with pytest.raises(FitError, match="rows with an answer"):
        train_lora(opened, rows)


def test_a_loss_that_is_no_number_is_an_error():
    opened = tiny.fresh_opened()
    opened.model.get_output_embeddings().weight.data.fill_(float("nan"))
    with pytest.raises(FitError, match="loss is not finite"):
        train_lora(opened, ROWS)


def test_without_peft_the_remedy_is_named(opened, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError, match=r"pip install 'tillerman\[peft\]'"):
        train_lora(opened, ROWS)


def test_weights_that_are_no_plain_numbers_are_refused():
    opened = tiny.fresh_opened()
    layer = opened.parts.blocks[0].mlp.up_proj
    layer.weight = torch.nn.Parameter(layer.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(ModelError, match="not quantised"):
        train_lora(opened, ROWS)


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": 0}, {"epochs": 0}, {"rows": 0}, {"rate": 0.0}])
def test_options_that_train_nothing_are_refused(wrong):
    with pytest.raises(UsageError, match=f"LoRA {next(iter(wrong))} "):
        LoraOptions(**wrong)


@pytest.fixture(scope="module")
def adapted():
    """A PEFT model whose adapters do something, and the same with them merged."""
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        wrapped = get_peft_model(tiny.new_model(), config).eval()
    return wrapped, copy.deepcopy(wrapped).merge_and_unload()


@pytest.fixture(params=["wrapped", "folder"])
def as_adapter(request: pytest.FixtureRequest, adapted, tmp_path: Path):
    """A model with adapters, opened as it is or from the folder of its adapters, which holds no tokenizer."""
    wrapped, _ = adapted
    if request.param == "wrapped":
        return open_model(wrapped, tiny.tokenizer(tiny.CHAT))
    base = tmp_path / "base"
    tiny.model().save_pretrained(base)
    tiny.tokenizer(tiny.CHAT).save_pretrained(base)
    moved = copy.deepcopy(wrapped)
    moved.peft_config["default"].base_model_name_or_path = str(base)
    moved.save_pretrained(tmp_path / "adapter")
    return open_model(tmp_path / "adapter")


@pytest.mark.parametrize("site", ["resid_pre", "resid_post", "attn_out", "mlp_out", "heads"])
def test_adapters_are_read_and_steered_with_their_blocks(as_adapter, adapted, site):
    _, merged = adapted
    plain = open_model(merged, tiny.tokenizer(tiny.CHAT))
    point, rows = HookPoint(1, site), tiny.random_rows([5, 9], seed=4)
    read = capture(as_adapter, [Row(row) for row in rows], [point])[point]
    assert torch.allclose(read, capture(plain, [Row(row) for row in rows], [point])[point], atol=1e-4)
    assert not torch.allclose(read, capture(tiny.opened(), [Row(row) for row in rows], [point])[point], atol=1e-2)
    ids = torch.tensor([rows[1]])
    outputs = []
    for one in (as_adapter, plain):
        with torch.no_grad(), steer(one.model, Intervention(tiny.vector(point), 2.0)) as steered:
            outputs.append(one.model(input_ids=ids).logits)
        assert steered.receipt.applied[0].touched
    assert torch.allclose(*outputs, atol=1e-3)
    with torch.no_grad():
        assert not torch.allclose(outputs[0], as_adapter.model(input_ids=ids).logits, atol=1e-2)


def test_a_folder_of_adapters_without_a_tokenizer_takes_the_base_models(as_adapter):
    assert as_adapter.tokenizer.chat_template == tiny.CHAT


def test_a_block_around_the_wrapper_steers_it_too(adapted):
    wrapped, _ = adapted
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        plain = wrapped(input_ids=ids).logits
        with steer(wrapped, Intervention(tiny.vector(1), 2.0)):
            assert not torch.allclose(wrapped(input_ids=ids).logits, plain, atol=1e-2)
        assert torch.equal(wrapped(input_ids=ids).logits, plain)


def test_an_adapter_that_is_a_learnt_prompt_is_refused():
    prefix = get_peft_model(tiny.new_model(), PrefixTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")).eval()
    with pytest.raises(ModelError, match="this adapter is a learnt prompt"):
        open_model(prefix, tiny.tokenizer())
