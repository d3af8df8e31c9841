"""Open a model with its tokenizer, check that it can be steered, and say which model it is."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tillerman.core.artefact import Artefact
from tillerman.core.errors import MismatchError, ModelError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.opening import AS_USUAL, Opening, precision_words
from tillerman.core.provenance import Provenance
from tillerman.core.shown import Shown
from tillerman.core.steerings.vector import SteeringVector
from tillerman.models.artefacts import load
from tillerman.models.belonging import remember_allowed
from tillerman.models.checking import check
from tillerman.models.families import Anatomy, anatomy, causal_model
from tillerman.models.fingerprint import original_fingerprint
from tillerman.models.guessing import guess_layout as guess
from tillerman.models.opening import load_as

PILOT = "pilot"
VERSIONED = ("tillerman", "torch", "transformers", "tokenizers", "safetensors", "numpy")
EMBEDDED = {PILOT: "pilot", "pilot-moe": "pilot_moe"}  # names, and folders in the package


@dataclass(frozen=True, eq=False, repr=False)
class OpenModel(Shown):
    """A causal language model ready to be read and steered. Nothing of it is ever changed."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    id: str
    parts: Anatomy
    opening: Opening = AS_USUAL

    def shown(self) -> dict[str, object]:
        return {
            "id": self.id,
            "architecture": type(self.model).__name__,
            "layers": f"0..{self.layers - 1}",
            "width": self.parts.width,
            "parameters": f"{sum(p.numel() for p in self.model.parameters()):,}",
            "type": precision_words(self.opened_as),
            "device": self.device,
            "chat template": "yes" if self.tokenizer.chat_template else "no",
        }

    @property
    def layers(self) -> int:
        return len(self.parts.blocks)

    @property
    def device(self) -> torch.device:
        return self.parts.device

    @property
    def pad_id(self) -> int:
        """Any token: padding is masked out, so a tokenizer without one needs no change."""
        return int(self.tokenizer.pad_token_id or 0)

    @property
    def context(self) -> int | None:
        """The longest sequence the configuration allows for, where it says so; stretched rotary positions counted."""
        config = self.model.config.get_text_config()
        length = getattr(config, "max_position_embeddings", None)
        rope = getattr(config, "rope_parameters", None) or {}
        stretched = float(rope.get("factor") or 1) * int(rope.get("original_max_position_embeddings") or 0)
        return max(int(length), int(stretched)) if length else None

    @property
    def opened_as(self) -> dict[str, str]:
        """Precision, attention, kind of device and revision, for provenance."""
        found = {
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "quantize": self.opening.quantize,
            "attention": getattr(self.model.config, "_attn_implementation", None),
            "device": self.device.type,
            "revision": self.opening.revision,
        }
        return {key: value for key, value in found.items() if value}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of names, shapes and a fixed sample of the weights, the same for every load dtype, and for weights that
        were quantised on opening that of the weights before."""
        return original_fingerprint(self.model)

    @cached_property
    def tokenizer_hash(self) -> str:
        return _hash("\n".join(f"{token} {i}" for token, i in sorted(self.tokenizer.get_vocab().items())))

    @cached_property
    def template_hash(self) -> str:
        return _hash(str(self.tokenizer.chat_template or ""))

    @cached_property
    def identity(self) -> tuple[str, ...]:
        """What the numbers of a run depend on, of its model: weights, tokenizer, precision and kind of device."""
        precision = precision_words(self.opened_as)
        return self.fingerprint, self.tokenizer_hash, self.template_hash, f"torch.{precision}", self.device.type

    def points(self, site: str = "resid_post") -> tuple[HookPoint, ...]:
        """One per block that has this site: all for the residual stream, those with a router for a router's."""
        everywhere = [HookPoint(layer, site) for layer in range(self.layers)]
        there = tuple(point for point in everywhere if self.parts.has(point))
        if not there:
            self.parts.part(everywhere[0])  # says that there is none
        return there

    def vector(self, directions: Mapping[HookPoint | int | str, Any], *, name: str) -> SteeringVector:
        """A vector of your own: a direction ``[d]`` (tensor, array or list of numbers) per hook point.

        A key is a ``HookPoint``, its name (``layers.3.attn_out``) or a layer, which means its ``resid_post``. The
        stream's norm, in whose units doses count, is the mean over a few plain sentences that run once.
        ``HookPointError`` and ``MismatchError`` name the layers and the width that there are.
        """
        from tillerman.models.handmade import vector_of  # it runs the model that this module opens

        return vector_of(self, directions, name)

    def provenance(self, method: str, *, name: str, site: str) -> Provenance:
        """Of a vector that ``method`` made for this model, here and now, from what ``name`` names."""
        return Provenance(
            model_id=self.id,
            model_fingerprint=self.fingerprint,
            width=self.parts.width,
            layers=self.layers,
            tokenizer_hash=self.tokenizer_hash,
            template_hash=self.template_hash,
            template="none",
            method=method,
            data_name=name,
            read_site=site,
            site=site,
            versions={package: importlib.metadata.version(package) for package in VERSIONED},
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            opened=self.opened_as,
        )

    def mismatches(self, provenance: Provenance) -> tuple[str, ...]:
        """What of an artefact's provenance does not fit this model; both sides are named."""
        pairs = (
            ("weights", provenance.model_fingerprint, self.fingerprint),
            ("width", provenance.width, self.parts.width),
            ("layers", provenance.layers, self.layers),
            ("tokenizer", provenance.tokenizer_hash, self.tokenizer_hash),
            ("chat template", provenance.template_hash, self.template_hash),
        )
        # Vectors made by hand may have no fingerprint, and then say nothing of a model but its shape.
        told = pairs if provenance.model_fingerprint else pairs[1:3]
        return tuple(
            f"{what}: artefact of {provenance.model_id} has {theirs}, {self.id} has {ours}"
            for what, theirs, ours in told
            if theirs != ours
        )

    def load_artefact(self, path: str | Path, *, allow_mismatch: bool = False) -> tuple[Artefact, tuple[str, ...]]:
        """Read an artefact and check that it belongs to this model: weights, width, layers, tokenizer and
        chat template. ``MismatchError`` names both sides; allowed mismatches come back as warnings,
        for ``steer(..., warnings=...)`` to write into the receipt."""
        artefact = load(path)
        return artefact, self.check_provenance(artefact.steering.provenance, allow_mismatch=allow_mismatch)

    def check_provenance(self, provenance: Provenance, *, allow_mismatch: bool = False) -> tuple[str, ...]:
        """Raise ``MismatchError`` naming both sides, or return the differences as warnings.

        Another width or fewer layers cannot be allowed: the vector would not fit. The same weights in another
        precision need no allowance, and are told.
        """
        found = self.mismatches(provenance)
        impossible = provenance.width != self.parts.width or provenance.layers != self.layers
        if found and (impossible or not allow_mismatch):
            allow = "" if impossible else ", or allow it: allow_mismatch=True, on the command line --allow-mismatch"
            raise MismatchError(
                f"the artefact does not belong to this model ({'; '.join(found)}); fit on this model{allow}"
            )
        if found:
            remember_allowed(
                self.model, provenance
            )  # also where a part of the work hands in the model without its tokenizer
        theirs, ours = precision_words(provenance.opened), precision_words(self.opened_as)
        if theirs and theirs != ours:
            return (*found, f"precision: fitted in {theirs}, used in {ours}; `study transfer` tells what that changes")
        return found


def open_model(
    source: str | Path | nn.Module,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    device: str = "auto",
    device_map: str | None = None,
    dtype: torch.dtype | str = "auto",
    quantize: str | None = None,
    revision: str | None = None,
    attention: str | None = None,
    trust_remote_code: bool = False,
    guess_layout: bool = False,
) -> OpenModel:
    """Open an embedded model (``pilot``, ``pilot-moe``), a folder, a GGUF file or a folder with one, a hub name, or a
    model that is already loaded.

    Folder and loaded model may also be PEFT's: adapters that sit in the blocks (LoRA) are steered with the blocks. The
    options are those of ``Opening``; of a model that is already loaded none but ``guess_layout`` has a meaning.
    ``guess_layout``: an architecture without a row in the layout table gets a guessed one, from now on and with a
    warning. ``ModelError`` names what is missing or not to be had.
    """
    opening = Opening(
        device=device,
        device_map=device_map,
        dtype=dtype if isinstance(dtype, str) else str(dtype).removeprefix("torch."),
        quantize=quantize,
        revision=revision,
        attention=attention,
        trust_remote_code=trust_remote_code,
        guess_layout=guess_layout,
    )
    return open_as(source, opening, tokenizer)


def open_as(
    source: str | Path | nn.Module,
    opening: Opening,
    tokenizer: PreTrainedTokenizerBase | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> OpenModel:
    """``open_model`` with its options as one value. ``say`` is told, in lines, what takes long and what was chosen."""
    if isinstance(source, nn.Module):
        if tokenizer is None:
            raise ModelError("a loaded model needs its tokenizer: open_model(model, tokenizer)")
        if replace(opening, guess_layout=False) != AS_USUAL:
            raise UsageError(
                "a loaded model is taken as it is: give device, precision, attention and revision where it is loaded, "
                "or hand its folder or hub name to open_model"
            )
        if source.training:
            raise ModelError(
                "the model is in training mode, where dropout makes activations random; call model.eval() first"
            )
        model = _unwrapped(source)
        name = str(model.config.name_or_path or type(model).__name__)
    else:
        name = str(source)
        embedded = str(files("tillerman").joinpath(EMBEDDED[name])) if name in EMBEDDED else None
        model, own = load_as(name, embedded, opening, say, wants_tokenizer=tokenizer is None)
        tokenizer = tokenizer or own
    assert tokenizer is not None
    embedding: Any = model.get_input_embeddings()
    if tokenizer.vocab_size > embedding.weight.shape[0]:
        raise ModelError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model's embedding {embedding.weight.shape[0]}: give "
            "the tokenizer that belongs to this model"
        )
    if opening.guess_layout:
        guess(model)
    opened = OpenModel(model, tokenizer, name, anatomy(model), opening)
    check(model, opened.parts, name)
    return opened


def _unwrapped(model: nn.Module) -> PreTrainedModel:
    """The transformers model itself, with the adapters that a wrapper has put into it."""
    configs = getattr(model, "peft_config", {})
    if any(getattr(config, "is_prompt_learning", False) for config in dict(configs).values()):
        raise ModelError(
            "this adapter is a learnt prompt, and steering would run without it; give the "
            "base model, or an adapter inside the blocks (LoRA)"
        )
    return causal_model(model)


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
