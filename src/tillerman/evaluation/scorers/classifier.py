"""Any text classifier as a scorer: one of transformers' by folder or hub name, or a function of yours.

``classifier:FOLDER=LABEL`` is ``P(LABEL)`` of a reply; without ``=LABEL`` the second of two labels.
``function:MODULE:NAME`` calls a function with a list of replies, which gives a number (or None) for each.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from tillerman.core.errors import MetricError, ModelError, UnknownNameError, UsageError
from tillerman.data.thoughts import parted
from tillerman.evaluation.scorers.base import ScoreRange, ScorerEntry
from tillerman.models.batches import batches
from tillerman.models.machine import device_named
from tillerman.statistics.scores import Value

AT_ONCE = 4096  # tokens
LONGEST = 512  # tokens that are read of a text where the classifier does not say how long one may be
_CHANCE = ScoreRange("P(label)", 0.0, 1.0, "more")
_ANY = ScoreRange("score", -math.inf, math.inf, "more")


@dataclass(frozen=True, eq=False)
class Classifier:
    """``P(label)`` by a sequence classifier: softmax over its labels, the sigmoid where it is one of several that may
    hold at once, or its only one. Longer texts are read as far as the classifier reads; None for an empty one."""

    model: Any
    tokenizer: Any
    label: int
    name: str
    scale: ScoreRange = _CHANCE

    @property
    def note(self) -> str:
        return f"P({_labels(self.model.config)[self.label]}); its own errors are not known here"

    def score(self, prompts: Sequence[str], replies: Sequence[str]) -> list[Value]:
        del prompts
        said = [parted(reply)[1] for reply in replies]
        read = [i for i, text in enumerate(said) if text.strip()]
        values: list[Value] = [None] * len(said)
        for i, value in zip(read, self._chances([said[i] for i in read]), strict=True):
            values[i] = value
        return values

    @torch.inference_mode()
    def _chances(self, texts: Sequence[str]) -> list[float]:
        if not texts:
            return []
        longest = min(int(self.tokenizer.model_max_length), int(_context(self.model.config)))
        rows = self.tokenizer(list(texts), truncation=True, max_length=longest)["input_ids"]
        found = [0.0] * len(texts)
        pad = int(self.tokenizer.pad_token_id or 0)
        for batch in batches(rows, pad=pad, side="right", budget=AT_ONCE):
            device = self.model.device
            logits: Tensor = self.model(
                input_ids=batch.tokens.to(device), attention_mask=batch.mask.to(device)
            ).logits.float()
            for i, chance in zip(batch.rows.tolist(), self._of(logits).tolist(), strict=True):
                found[i] = chance
        return found

    def _of(self, logits: Tensor) -> Tensor:
        alone = logits.shape[-1] == 1 or self.model.config.problem_type == "multi_label_classification"
        return (logits.sigmoid() if alone else logits.softmax(-1))[:, self.label]


@dataclass(frozen=True, eq=False)
class FunctionScorer:
    """What a function gives for each reply."""

    call: Callable[[list[str]], Any]
    name: str
    scale: ScoreRange = _ANY
    note: str = ""

    def score(self, prompts: Sequence[str], replies: Sequence[str]) -> list[Value]:
        """``MetricError`` where the function gives something else than a number or None for each reply."""
        del prompts
        found = self.call([parted(reply)[1] for reply in replies])
        try:
            values = [None if one is None else float(one) for one in found]
        except (TypeError, ValueError) as error:
            raise MetricError(
                f"{self.name}: expected a list of numbers (or None), one for each text: {error}"
            ) from None
        if len(values) != len(replies):
            raise MetricError(f"{self.name}: gave {len(values)} values for {len(replies)} texts; expected one for each")
        return values


def classifier(given: str) -> Classifier:
    """Of ``FOLDER``, ``FOLDER=LABEL`` or a hub's name. ``ModelError`` where it cannot be opened, ``UnknownNameError``
    for a label that it does not have."""
    place, _, label = given.rpartition("=") if "=" in given and not Path(given).is_dir() else (given, "", "")
    try:
        model = transformers.AutoModelForSequenceClassification.from_pretrained(place, use_safetensors=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"classifier {place!r} cannot be opened: {' '.join(str(error).split())[:300]}; name a folder or a hub "
            "model with a sequence classifier's config.json, model.safetensors and tokenizer"
        ) from None
    model.eval().requires_grad_(False).to(device_named("auto"))
    return Classifier(model, tokenizer, _place_of(label, model.config, place), f"classifier:{given}")


def function(given: str) -> FunctionScorer:
    """``MODULE:NAME``, found from the folder that the command is run in too."""
    module, colon, name = given.rpartition(":")
    if not colon or not module or not name:
        raise UsageError(f"scorer 'function': write function:MODULE:NAME, got {given!r}")
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        call = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"scorer 'function': {given!r} cannot be imported ({error}); name a module on Python's path or in this "
            "folder, and a function in it"
        ) from None
    finally:
        sys.path.remove(here)
    if not callable(call):
        raise UsageError(f"scorer 'function': {given!r} is no function; it has to take a list of texts")
    return FunctionScorer(call, f"function:{given}")


def _labels(config: Any) -> list[str]:
    """In the order of their numbers."""
    return [str(config.id2label[i]) for i in sorted(config.id2label)]


def _place_of(label: str, config: Any, place: str) -> int:
    names = _labels(config)
    if not label:
        if len(names) > 2:
            choices = ", ".join(names)[:200]
            raise UsageError(f"classifier {place}: which label? write classifier:{place}=LABEL, one of {choices}")
        return len(names) - 1
    folded = [name.casefold() for name in names]
    if label.casefold() in folded:
        return folded.index(label.casefold())
    if label.isdecimal() and int(label) < len(names):
        return int(label)
    raise UnknownNameError("label", label, names)


def _context(config: Any) -> int:
    return int(getattr(config, "max_position_embeddings", None) or LONGEST)


SCORERS: Mapping[str, ScorerEntry] = {
    "classifier": ScorerEntry(classifier, "a folder or hub name of a sequence classifier, and =LABEL"),
    "function": ScorerEntry(function, "MODULE:NAME of a function of a list of texts"),
}
