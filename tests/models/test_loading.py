"""Folders as they come: models that see, models that cannot be steered, and what is broken, each with one sentence."""

from __future__ import annotations

import json
import re

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from tillerman.core.errors import ModelError
from tillerman.core.plan import Intervention
from tillerman.models import families as table
from tillerman.models.machine import device_named
from tillerman.models.opened import open_model
from tillerman.steering.steer import steer

from .. import families, tiny

IDS = torch.tensor([[5, 6, 7, 8]])
_SEES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 28}
_TEXT = {**tiny._GROUPED, "model_type": "llama"}


@pytest.fixture(autouse=True)
def _table_as_before(monkeypatch):
    monkeypatch.setattr(table, "FAMILIES", dict(table.FAMILIES))
    monkeypatch.setattr("tillerman.models.guessing.FAMILIES", table.FAMILIES)


def _saved(model, folder):
    model.save_pretrained(folder)
    tiny.new_tokenizer().save_pretrained(folder)
    return folder


def _random(auto, config):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return auto.from_config(config).eval()


SEEING = {
    "llava": lambda: tf.LlavaConfig(
        text_config=_TEXT, vision_config={**_SEES, "model_type": "clip_vision_model", "patch_size": 14}
    ),
    "smolvlm": lambda: tf.SmolVLMConfig(text_config=_TEXT, vision_config={**_SEES, "patch_size": 14}),
    "mistral3": lambda: tf.Mistral3Config(
        text_config={**tiny._GROUPED, "model_type": "mistral"},
        vision_config={**_SEES, "model_type": "pixtral", "patch_size": 14, "head_dim": 8},
    ),
}


@pytest.mark.parametrize("kind", SEEING)
@torch.no_grad()
def test_a_folder_of_a_model_that_sees_is_opened_and_its_text_is_steered(kind, tmp_path):
    model = _random(tf.AutoModelForImageTextToText, SEEING[kind]())
    opened = open_model(_saved(model, tmp_path), guess_layout=True)
    assert type(opened.model) is type(model)
    assert opened.layers == tiny.LAYERS
    plain = model(input_ids=IDS).logits
    assert torch.equal(opened.model(input_ids=IDS).logits, plain)
    vector = tiny.vector(1)
    with steer(opened, Intervention(vector, 1.0), allow_mismatch=True):
        assert not torch.allclose(opened.model(input_ids=IDS).logits, plain, atol=1e-3)


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl", "qwen3_5", "gemma4", "llama4"])
@torch.no_grad()
def test_a_folder_of_a_known_model_that_sees_has_all_its_weights(kind, tmp_path):
    """Some are opened as their text part, whose weights have other names in the folder."""
    opened = open_model(_saved(families.model(kind), tmp_path))
    assert torch.equal(opened.model(input_ids=IDS).logits, families.model(kind)(input_ids=IDS).logits)


def test_a_model_that_reads_its_prompt_in_both_directions_is_refused(tmp_path):
    """The tokens of an answer would see each other before they are scored."""
    config = tf.PaliGemmaConfig(
        text_config={**tiny._GROUPED, "model_type": "gemma", "head_dim": 8},
        vision_config={**_SEES, "model_type": "siglip_vision_model", "patch_size": 14, "projection_dim": 32},
        projection_dim=32,
    )
    _saved(_random(tf.AutoModelForImageTextToText, config), tmp_path)
    with pytest.raises(ModelError, match="'paligemma': an earlier token sees a later one"):
        open_model(tmp_path, guess_layout=True)


ENCODED = {
    "t5": lambda: tf.T5ForConditionalGeneration(
        tf.T5Config(vocab_size=320, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0)
    ),
    "bart": lambda: tf.BartForConditionalGeneration(
        tf.BartConfig(
            vocab_size=320,
            d_model=32,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
        )
    ),
    "t5gemma": lambda: tf.T5GemmaForConditionalGeneration(
        tf.T5GemmaConfig(
            encoder={**tiny._GROUPED, "head_dim": 8}, decoder={**tiny._GROUPED, "head_dim": 8}, vocab_size=320
        )
    ),
}


@pytest.mark.parametrize("kind", ENCODED)
def test_an_encoder_decoder_model_is_refused_by_name_from_a_folder_and_loaded(kind, tmp_path):
    model = ENCODED[kind]().eval()
    _saved(model, tmp_path)
    for source, tokenizer in ((tmp_path, None), (model, tiny.tokenizer())):
        for guess in (False, True):
            with pytest.raises(ModelError, match=rf"'{kind}' is an encoder-decoder model.*Give a decoder-only"):
                open_model(source, tokenizer, guess_layout=guess)


def test_a_folder_of_a_model_that_writes_no_text_is_refused_by_name(tmp_path):
    _saved(_random(tf.AutoModel, tf.ViTConfig(**_SEES, patch_size=14)), tmp_path)
    with pytest.raises(ModelError, match="no class for model type 'vit' that writes text"):
        open_model(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gpu", "expected auto, cpu, cuda, cuda:1, mps or xpu"),
        ("cuda:x", "expected auto, cpu, cuda, cuda:1, mps or xpu"),
        ("", "expected auto, cpu, cuda, cuda:1, mps or xpu"),
        ("meta", "holds no weights"),
    ],
)
def test_a_device_that_does_not_exist_is_one_error(text, said):
    with pytest.raises(ModelError, match=re.escape(said)):
        device_named(text)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("text", ["cuda", "cuda:1", "mps", "xpu"])
def test_a_device_that_is_not_here_is_one_error_that_names_what_is(text):
    with pytest.raises(ModelError, match=r"use auto(,| or) cpu"):
        open_model("pilot", device=text)


@pytest.fixture
def folder(tmp_path):
    return _saved(tiny.new_model(), tmp_path)


def test_weights_that_the_files_lack_are_never_random_numbers(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 weights \(model\.layers\.1\.mlp\.up_proj\.weight\).*random"):
        open_model(folder)


def test_weights_of_another_shape_are_one_error_with_the_remedy(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 40}))
    with pytest.raises(ModelError, match="belong to another configuration"):
        open_model(folder)


def test_no_weights_at_all_are_one_error(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no file named .*Give 'pilot'"):
        open_model(folder)


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"model": {"type": "none"}}'])
def test_a_broken_tokenizer_is_one_error_that_names_its_files(folder, broken):
    (folder / "tokenizer.json").write_text(broken)
    with pytest.raises(ModelError, match=r"cannot open the tokenizer of .*tokenizer\.json") as raised:
        open_model(folder)
    assert len(str(raised.value)) <= 600


def test_the_tokenizer_of_a_larger_vocabulary_belongs_to_another_model():
    small = tf.AutoModelForCausalLM.from_config(tf.LlamaConfig(**{**tiny._GROUPED, "vocab_size": 100})).eval()
    with pytest.raises(ModelError, match=r"tokenizer has 320 tokens, the model's embedding 100"):
        open_model(small, tiny.tokenizer())
