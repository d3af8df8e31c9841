"""Fine-tune a copy of a model on answers with low-rank adapters, and merge them (LoRA: Hu et al. 2021,
arXiv 2106.09685), to steer on top of it or to hold steering against it. Needs the extra ``peft``."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tillerman.core.errors import IN_FLOAT32, FitError, ModelError, UsageError
from tillerman.core.rows import Progress, Row, silent
from tillerman.models.batches import padded
from tillerman.models.families import anatomy
from tillerman.models.head import token_logprobs
from tillerman.models.opened import OpenModel


@dataclass(frozen=True)
class LoraOptions:
    """``alpha / rank`` scales what the adapters add; every linear layer of the blocks has one. Adam's ``rate``
    falls to 0 over the run as half a cosine."""

    rank: int = 8
    alpha: int = 16
    epochs: int = 3
    rows: int = 8  # of a step
    rate: float = 1e-3

    def __post_init__(self) -> None:
        for name, value in (("rank", self.rank), ("alpha", self.alpha), ("epochs", self.epochs), ("rows", self.rows)):
            if value < 1:
                raise UsageError(f"LoRA {name} {value}: expected at least 1")
        if not 0 < self.rate < math.inf:
            raise UsageError(f"LoRA rate {self.rate}: expected a finite number above 0")


@torch.inference_mode(False)  # tensors made in it could not be saved for a backward pass
def train_lora(
    opened: OpenModel,
    rows: Sequence[Row],
    options: LoraOptions = LoraOptions(),
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> OpenModel:
    """A copy of the model, trained to say what follows ``read_from`` in every row, adapters merged.

    The loss is cross-entropy, the mean over these tokens. The given model is not changed. Same rows, options and
    seed: same weights, on one machine. ``progress`` is told rows times epochs.

    ``ModelError`` without peft or for weights that are quantised or offloaded, ``FitError`` for rows without an
    answer or a loss that is no number.
    """
    if not rows or any(_start(row) >= len(row.tokens) for row in rows):
        raise FitError("fine-tuning needs rows with an answer to learn")
    adapted, finish = _adapted(opened, options, seed)
    steps = options.epochs * math.ceil(len(rows) / options.rows)
    adam = torch.optim.Adam([p for p in adapted.model.parameters() if p.requires_grad], lr=options.rate)
    falling = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: (1 + math.cos(math.pi * step / steps)) / 2)
    for chosen in _steps(len(rows), options, seed):
        with torch.enable_grad():
            loss = answer_loss(adapted, [rows[i] for i in chosen])
            if not bool(torch.isfinite(loss)):
                raise FitError(f"fine-tuning: the loss is not finite; {IN_FLOAT32}")
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        falling.step()
        progress(len(chosen))
    return finish()


def answer_loss(opened: OpenModel, rows: Sequence[Row]) -> Float[Tensor, ""]:
    """``-log p`` of the tokens from ``read_from`` on, the mean over all of them."""
    # Right padding: a causal model's real tokens then never see it.
    batch = padded([row.tokens for row in rows], pad=opened.pad_id, side="right")
    places = [(at, i, row.tokens[i]) for at, row in enumerate(rows) for i in range(_start(row), len(row.tokens))]
    device = opened.device
    at, columns, tokens = torch.tensor(places, device=device).unbind(1)
    ids, mask = batch.tokens.to(device), batch.mask.to(device)
    hidden = opened.parts.decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    return -token_logprobs(opened.parts, hidden[at, columns - 1][:, None], tokens).mean()


def _start(row: Row) -> int:
    """The first token that is learnt; nothing predicts a row's very first one."""
    return max(1, row.read_from)


def _steps(count: int, options: LoraOptions, seed: int) -> Iterator[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(options.epochs):
        order = torch.randperm(count, generator=generator).tolist()
        for start in range(0, count, options.rows):
            yield order[start : start + options.rows]


def _adapted(opened: OpenModel, options: LoraOptions, seed: int) -> tuple[OpenModel, Callable[[], OpenModel]]:
    """A copy with adapters, which alone are trainable, and what merges them in the end."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ModelError("fine-tuning needs peft: pip install 'tillerman[peft]'") from error
    model = copy.deepcopy(opened.model)
    if any(p.is_meta or not p.is_floating_point() for p in model.parameters()):
        raise ModelError("fine-tuning needs plain weights in memory; open the model on one device, not quantised")
    config = LoraConfig(r=options.rank, lora_alpha=options.alpha, target_modules=_linear(model), task_type="CAUSAL_LM")
    config.fan_in_fan_out = opened.model.config.model_type == "gpt2"  # its weights lie transposed
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wrapper = get_peft_model(model, config)
    name = f"{opened.id} + LoRA"

    def finish() -> OpenModel:
        wrapper.merge_and_unload()  # in place
        for ours, theirs in zip(model.parameters(), opened.model.parameters(), strict=True):
            ours.requires_grad_(theirs.requires_grad)
        model.eval()  # type: ignore[no-untyped-call]
        return OpenModel(model, opened.tokenizer, name, anatomy(model))

    return OpenModel(model, opened.tokenizer, name, anatomy(model)), finish


def _linear(model: PreTrainedModel) -> list[str]:
    """The linear layers of the decoder blocks, by name; experts that are packed into one tensor are none."""
    inside = {id(module) for block in anatomy(model).blocks for module in block.modules()}
    layers = (nn.Linear, Conv1D)
    return [name for name, m in model.named_modules() if isinstance(m, layers) and id(m) in inside]


def save_model(opened: OpenModel, folder: Path) -> None:
    """Weights, configuration and tokenizer, as ``open_model`` reads them."""
    opened.model.save_pretrained(folder)
    opened.tokenizer.save_pretrained(folder)
