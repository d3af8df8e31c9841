"""Opening a model: what is checked, what is refused, and which model it is."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
import transformers as tf

from tillerman.core.errors import HookPointError, MismatchError, ModelError
from tillerman.core.hookpoint import HookPoint
from tillerman.models import families
from tillerman.models.checking import check
from tillerman.models.families import Family, anatomy
from tillerman.models.opened import OpenModel, open_model

from .. import families as more, tiny


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    tiny.new_model().save_pretrained(folder)
    tiny.new_tokenizer(tiny.CHAT).save_pretrained(folder)
    return folder


def _of(opened, **more):
    values = {
        "model_fingerprint": opened.fingerprint,
        "width": opened.parts.width,
        "layers": opened.layers,
        "tokenizer_hash": opened.tokenizer_hash,
        "template_hash": opened.template_hash,
    }
    return replace(tiny.provenance(), **{**values, **more})


@contextmanager
def last_bits(causal, size):
    """A stand-in for kernels that add in another order at every pass."""
    generator = torch.Generator().manual_seed(0)
    handle = causal.lm_head.register_forward_hook(
        lambda _, __, out: out * (1 + size * torch.randint(0, 2, out.shape, generator=generator))
    )
    try:
        yield
    finally:
        handle.remove()


def test_a_model_whose_passes_differ_in_the_last_bit_opens():
    causal = tiny.new_model()
    for _ in range(20):
        with last_bits(causal, 2**-23):
            open_model(causal, tiny.tokenizer())


def test_an_edit_that_should_change_nothing_and_does_is_refused():
    causal = tiny.new_model()
    block = causal.model.layers[1]
    # It tells whether anyone listens, and gives something else to whoever does.
    block.forward = lambda *a, f=block.forward, **k: f(*a, **k) * (1.01 if block._forward_hooks else 1.0)
    with pytest.raises(ModelError, match="an edit that changes nothing changed the output"):
        open_model(causal, tiny.tokenizer())


def test_every_family_passes_the_checks_made_on_opening(family):
    opened = open_model(tiny.model(family), tiny.tokenizer())
    assert opened.layers == tiny.LAYERS
    assert opened.parts.width == tiny.WIDTH
    assert opened.parts.blocks == tuple(tiny.blocks(tiny.model(family), family))
    assert opened.context == 256
    assert opened.points("mlp_out") == tuple(HookPoint(i, "mlp_out") for i in range(tiny.LAYERS))


def test_a_saved_model_opens_in_float32_ready_to_use(saved):
    opened = open_model(saved)
    assert opened.id == str(saved)
    assert opened.model.dtype == torch.float32
    assert not opened.model.training
    assert opened.pad_id == 0
    assert opened.tokenizer.chat_template == tiny.CHAT
    assert opened.fingerprint == open_model(str(saved)).fingerprint


def test_a_model_opened_in_another_type_has_the_same_fingerprint(saved):
    half = open_model(saved, dtype=torch.bfloat16)
    assert half.model.dtype == torch.bfloat16
    assert half.fingerprint == open_model(saved).fingerprint


def test_a_float32_copy_of_bfloat16_weights_has_their_fingerprint(tmp_path):
    half = tiny.new_model().to(torch.bfloat16)
    half.save_pretrained(tmp_path)
    tiny.new_tokenizer().save_pretrained(tmp_path)
    wide = open_model(tmp_path)
    assert wide.model.dtype == torch.float32
    assert wide.fingerprint == open_model(half, tiny.tokenizer()).fingerprint


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "model.layers.2.mlp.down_proj.weight", "lm_head.weight"])
@pytest.mark.parametrize("end", ["first", "last"])
def test_the_fingerprint_changes_with_any_weight(name, end):
    model = tiny.new_model()
    before = open_model(model, tiny.tokenizer()).fingerprint
    with torch.no_grad():
        rows = model.get_parameter(name)
        rows[slice(None, 8) if end == "first" else slice(-8, None)] += 1.0
    assert open_model(model, tiny.tokenizer()).fingerprint != before


def test_other_seeds_and_families_have_other_fingerprints():
    some = ("llama", "qwen2", "gemma2", "gpt2")
    prints = {tiny.opened(f).fingerprint for f in some}
    assert len(prints) == len(some)
    assert open_model(tiny.new_model(seed=1), tiny.tokenizer()).fingerprint not in prints
    assert open_model(tiny.new_model(seed=0), tiny.tokenizer()).fingerprint == tiny.opened().fingerprint


def test_the_tokenizer_and_the_template_have_hashes_of_their_own():
    plain, chat = tiny.opened("llama"), tiny.opened("llama", tiny.CHAT)
    assert plain.tokenizer_hash == chat.tokenizer_hash
    assert plain.template_hash != chat.template_hash
    grown = tiny.new_tokenizer()
    grown.add_tokens(["<new>"])
    assert replace(plain, tokenizer=grown).tokenizer_hash != plain.tokenizer_hash


def test_a_junk_folder_is_refused_with_what_is_wanted(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    for source in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(ModelError, match=r"Give 'pilot', 'pilot-moe', a folder with config\.json, weights"):
            open_model(source)


@pytest.mark.parametrize("config", ["{", "{}", '{"model_type": "no_such_model"}', '{"model_type": "llama"}', "[]"])
def test_a_folder_with_a_broken_config_is_a_model_error(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ModelError, match="cannot open the model"):
        open_model(tmp_path)


def test_truncated_weights_are_a_model_error(tmp_path):
    tiny.new_model().save_pretrained(tmp_path)
    tiny.new_tokenizer().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cannot open the model"):
        open_model(tmp_path)


def test_a_saved_model_without_a_tokenizer_is_refused(tmp_path):
    tiny.new_model().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="tokenizer"):
        open_model(tmp_path)


def test_a_loaded_model_without_a_tokenizer_is_refused_with_the_call_to_make():
    with pytest.raises(ModelError, match=r"open_model\(model, tokenizer\)"):
        open_model(tiny.model())


def test_a_loaded_model_in_training_mode_is_refused_and_left_as_it_is():
    model = tiny.new_model().train()
    with pytest.raises(ModelError, match=r"model\.eval\(\)"):
        open_model(model, tiny.tokenizer())
    assert model.training


def test_a_model_type_without_a_row_is_refused_with_the_recipe():
    config = tf.StableLmConfig(**tiny._GROUPED)
    model = tf.AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(
        ModelError, match=r"'stablelm' has no row.*guess_layout=True.*FAMILIES\[model_type\] ="
    ) as raised:
        open_model(model, tiny.tokenizer())
    assert len(str(raised.value)) <= 600


@pytest.mark.parametrize("kind", ["opt", "llama4_text", "llama4"])
def test_a_decoder_that_no_pass_calls_is_found_out_when_the_model_is_opened(kind, monkeypatch):
    row = families.FAMILIES[kind]
    monkeypatch.setitem(families.FAMILIES, kind, replace(row, decoder="", blocks=f"{row.decoder}.{row.blocks}"))
    with pytest.raises(
        ModelError, match=r"is not what this model calls to make a stream of the tokens.*decoder=\.\.\."
    ):
        open_model(more.model(kind), tiny.tokenizer())


def test_a_row_that_does_not_fit_the_model_is_refused(monkeypatch):
    monkeypatch.setitem(families.FAMILIES, "llama", Family(blocks="h"))
    with pytest.raises(ModelError, match="does not have the layout its row says"):
        anatomy(tiny.model())
    monkeypatch.setitem(families.FAMILIES, "llama", Family(attention="attn"))
    with pytest.raises(ModelError, match="does not have the layout its row says"):
        anatomy(tiny.model())


def test_a_model_without_a_head_is_refused():
    with pytest.raises(ModelError, match="no language-model head"):
        anatomy(tf.AutoModel.from_config(tiny.CONFIGS["llama"]()))


def test_a_family_is_added_with_one_row(monkeypatch):
    model = tf.AutoModelForCausalLM.from_config(tf.StableLmConfig(**tiny._GROUPED)).eval()
    monkeypatch.setitem(families.FAMILIES, "stablelm", Family("layers", "self_attn", "mlp"))
    assert open_model(model, tiny.tokenizer()).layers == 3


def test_blocks_whose_edits_do_not_reach_the_output_are_found_out():
    """A layout row that names the wrong list passes every other check."""
    model = tiny.new_model()
    opened = OpenModel(model, tiny.tokenizer(), "wrong", anatomy(model))
    spare = replace(opened.parts, blocks=(*opened.parts.blocks[:-1], tiny.new_model().model.layers[0]))
    with pytest.raises(ModelError, match="missed a block"):
        check(model, spare, "wrong")


def test_a_model_opened_is_not_changed(family):
    model, tokenizer = tiny.new_model(family), tiny.new_tokenizer()
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    config, pad = model.config.to_dict(), tokenizer.pad_token
    open_model(model, tokenizer)
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    assert model.config.to_dict() == config
    assert tokenizer.pad_token == pad
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_tokenizer_without_padding_is_used_as_it_is():
    tokenizer = tiny.new_tokenizer()
    tokenizer.pad_token = None
    opened = open_model(tiny.model(), tokenizer)
    assert opened.pad_id == 0
    assert tokenizer.pad_token is None


def test_an_artefact_of_this_model_passes(opened):
    assert opened.check_provenance(_of(opened)) == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_fingerprint": "0" * 16}, "weights: artefact of tiny has 0000000000000000, tiny-llama has "),
        ({"tokenizer_hash": "t"}, "tokenizer: artefact of tiny has t, tiny-llama has "),
        ({"template_hash": "c"}, "chat template: artefact of tiny has c, tiny-llama has "),
    ],
)
def test_a_mismatch_names_both_sides_and_may_be_allowed(opened, change, said):
    wrong = _of(opened, **change)
    with pytest.raises(MismatchError, match="--allow-mismatch") as raised:
        opened.check_provenance(wrong)
    assert said in str(raised.value)
    (warning,) = opened.check_provenance(wrong, allow_mismatch=True)
    assert warning.startswith(said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"width": 64}, "width: artefact of tiny has 64, tiny-llama has 32"),
        ({"layers": 9}, "layers: artefact of tiny has 9, tiny-llama has 3"),
    ],
)
def test_a_vector_that_cannot_fit_is_never_allowed(opened, change, said):
    with pytest.raises(MismatchError) as raised:
        opened.check_provenance(_of(opened, **change), allow_mismatch=True)
    assert said in str(raised.value)
    assert "--allow-mismatch" not in str(raised.value)


def test_a_layer_out_of_range_names_the_range(opened):
    with pytest.raises(HookPointError, match=r"layers\.3\.attn_out: the model has layers 0\.\.2"):
        opened.parts.part(HookPoint(3, "attn_out"))
