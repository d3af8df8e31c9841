"""Preventative steering: steps of training are steered, and nothing else is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import transformers as tf
from datasets import Dataset

from tillerman.core.errors import HookPointError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.harnesses.trainer import PreventativeSteering

from .. import tiny

ROWS = [{"input_ids": row, "labels": row} for row in tiny.random_rows([8] * 8)]


def model_of() -> tf.PreTrainedModel:
    torch.manual_seed(0)
    return tf.LlamaForCausalLM(tiny.CONFIGS["llama"]())


def plan(strength: float = 1.0, scope: str = "all") -> Intervention:
    return Intervention(tiny.vector(HookPoint(1)), strength, scope=Scope(scope))


def trained(model: tf.PreTrainedModel, callback: PreventativeSteering | None, folder: Path, **given: object):
    args = tf.TrainingArguments(
        str(folder),
        max_steps=2,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        learning_rate=0.1,
        optim="sgd",
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        seed=1,
        disable_tqdm=True,
        **given,
    )
    data = Dataset.from_list(ROWS)
    trainer = tf.Trainer(model, args, train_dataset=data, eval_dataset=data, callbacks=[callback] if callback else [])
    trainer.train()
    return trainer


def weights(model: tf.PreTrainedModel) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.slow
def test_steps_are_steered_and_evaluation_is_not(tmp_path: Path) -> None:
    model, callback = model_of(), PreventativeSteering(plan(5.0))
    trainer = trained(model, callback, tmp_path, eval_strategy="steps", eval_steps=1)
    assert callback.steps == 2
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    plain = trained(model_of(), None, tmp_path)
    assert losses[0] != pytest.approx(next(e["loss"] for e in plain.state.log_history if "loss" in e), abs=1e-3)
    last = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry][-1]
    assert trainer.evaluate()["eval_loss"] == pytest.approx(last, abs=1e-6)  # no step around it: unsteered both times
    assert not [hook for module in model.modules() for hook in module._forward_hooks.values()]


@pytest.mark.slow
def test_strength_0_trains_the_very_same_weights_and_another_strength_does_not(tmp_path: Path) -> None:
    plain, nothing, steered = model_of(), model_of(), model_of()
    trained(plain, None, tmp_path)
    trained(nothing, PreventativeSteering(plan(0.0)), tmp_path)
    trained(steered, PreventativeSteering(plan(5.0)), tmp_path)
    assert torch.equal(weights(nothing), weights(plain)) and not torch.equal(weights(steered), weights(plain))


def test_a_scope_that_needs_a_prompt_is_refused() -> None:
    with pytest.raises(UsageError, match="scope generated: a trainer's batches have no prompt"):
        PreventativeSteering(plan(scope="generated"))


def test_vectors_of_another_model_are_refused_before_the_first_step(tmp_path: Path) -> None:
    wide = Intervention(tiny.vector(HookPoint(9)), 1.0, scope=Scope("all"))
    with pytest.raises(HookPointError, match=r"layers\.9"):
        trained(model_of(), PreventativeSteering(wide), tmp_path)


@pytest.mark.slow
def test_the_lines_of_the_page_steer_what_trl_trains() -> None:
    page = Path(__file__).resolve().parents[2] / "docs/in-your-code.md"
    found = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    start, trainer = found[0], next(block for block in found if "PreventativeSteering(" in block)
    (sft,) = [block for block in found if "SFTTrainer" in block]
    here: dict[str, object] = {}
    exec(compile(f"{start}\n{trainer}\n{sft}", str(page), "exec"), here)
    guard = here["guard"]
    assert isinstance(guard, PreventativeSteering) and guard.steps == 4  # two of each trainer
