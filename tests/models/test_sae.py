"""Autoencoders: every architecture and file format against answers computed by hand."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given, strategies as st
from tests import sae_files as made

from tillerman.core.errors import DataError, HookPointError, MismatchError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.models.sae.autoencoder import SAE, Gated, JumpRelu, Relu, TopK
from tillerman.models.sae.files import open_sae

H = torch.tensor([3.0, 2.0])
LN2 = math.log(2)
HALF = math.sqrt(2) / 2  # a data set's mean norm that makes s = sqrt(d) / norm two
GATES = {
    "b_gate": torch.tensor([-3.0, 0.0, 0.0]),
    "r_mag": torch.tensor([0.0, LN2, 0.0]),
    "b_mag": torch.tensor([0.0, 1.0, -1.0]),
}
GATED = {k: v for k, v in made.PLAIN.items() if k != "b_enc"} | GATES
JUMP = {**made.PLAIN, "threshold": torch.ones(3)}

# configuration, tensors, activation to read, its atoms, its reconstruction
SAELENS = {
    "standard": (made.v6(), None, H, [2.5, 1.5, 0.5], [6.0, 3.0]),
    "standard, not centred": (made.v6(apply_b_dec_to_input=False), None, H, [3.0, 1.0, 1.5], [8.0, 3.0]),
    "jumprelu": (made.v6(architecture="jumprelu"), JUMP, H, [2.5, 1.5, 0.0], [5.5, 2.5]),
    "topk": (made.v6(architecture="topk", k=1), None, H, [2.5, 0.0, 0.0], [5.5, -0.5]),
    "topk, negative ones kept out": (
        made.v6(architecture="topk", k=3),
        None,
        torch.tensor([-2.5, 1.5]),
        [0.0, 1.0, 0.0],
        [0.5, 1.5],
    ),
    "topk, rescaled": (
        made.v6(architecture="topk", k=1, rescale_acts_by_decoder_norm=True),
        None,
        H,
        [5.0, 0.0, 0.0],
        [5.5, -0.5],
    ),
    "batchtopk": (
        made.v6(architecture="batchtopk", k=2),
        {**made.PLAIN, "topk_threshold": torch.tensor(1.0)},
        H,
        [2.5, 1.5, 0.0],
        [5.5, 2.5],
    ),
    "gated": (made.v6(architecture="gated"), GATED, H, [0.0, 6.0, 0.0], [0.5, 11.5]),
    "constant norm": (
        made.v6(apply_b_dec_to_input=False, normalize_activations="constant_norm_rescale"),
        None,
        torch.tensor([4.0, 4.0]),
        [1.0, 0.0, 0.5],
        [12.0, 0.0],
    ),
    "layer norm": (
        made.v6(apply_b_dec_to_input=False, normalize_activations="layer_norm"),
        None,
        torch.tensor([1.0, 3.0]),
        [0.0, 0.0, 0.0],
        [2 + HALF, 2 - HALF],
    ),
    "average folded in": (
        made.v6(normalize_activations="expected_average_only_in"),
        None,
        H,
        [2.5, 1.5, 0.5],
        [6.0, 3.0],
    ),
    "average given": (
        made.v6(normalize_activations="expected_average_only_in", norm_scaling_factor=2.0),
        None,
        H,
        [5.5, 3.5, 1.5],
        [6.5, 4.0],
    ),
    "old: flat": (made.flat(), None, H, [2.5, 1.5, 0.5], [6.0, 3.0]),
    "old: hook_name": (
        {
            "hook_name": "blocks.1.hook_resid_post",
            "activation_fn_str": "relu",
            "d_in": 2,
            "d_sae": 3,
            "dtype": "float32",
        },
        None,
        H,
        [2.5, 1.5, 0.5],
        [6.0, 3.0],
    ),
    "old: topk by activation": (
        made.flat(activation_fn_str="topk", activation_fn_kwargs={"k": 1}),
        None,
        H,
        [2.5, 0.0, 0.0],
        [5.5, -0.5],
    ),
    "old: not centred": (made.flat(apply_b_dec_to_input=False), None, H, [3.0, 1.0, 1.5], [8.0, 3.0]),
    "old: normalised by a yes": (made.flat(normalize_activations=True), None, H, [2.5, 1.5, 0.5], [6.0, 3.0]),
    "old: scaling factor": (
        made.flat(finetuning_scaling_factor=True),
        {**made.PLAIN, "scaling_factor": torch.tensor([2.0, 1.0, 1.0])},
        H,
        [2.5, 1.5, 0.5],
        [11.0, 3.0],
    ),
    "old: scaling factor without its flag": (
        made.flat(),
        {**made.PLAIN, "scaling_factor": torch.tensor([2.0, 1.0, 1.0])},
        H,
        [2.5, 1.5, 0.5],
        [11.0, 3.0],
    ),
    "old: scaling factor switched off": (
        made.flat(finetuning_scaling_factor=False),
        {**made.PLAIN, "scaling_factor": torch.tensor([2.0, 1.0, 1.0])},
        H,
        [2.5, 1.5, 0.5],
        [6.0, 3.0],
    ),
}


def _reads(sae, h, latents, back):
    assert torch.allclose(sae.encode(h), torch.tensor(latents), atol=1e-5)
    assert torch.allclose(sae.reconstruct(h), torch.tensor(back), atol=1e-4)
    several = torch.stack([h, 2 * h]).expand(3, 2, 2)  # any leading shape
    assert torch.allclose(sae.encode(several)[1, 0], torch.tensor(latents), atol=1e-5)
    assert torch.allclose(sae.reconstruct(several)[2, 0], torch.tensor(back), atol=1e-4)


@pytest.mark.parametrize("name", SAELENS)
def test_saelens_files_give_what_was_computed_by_hand(name, tmp_path):
    facts, tensors, h, latents, back = SAELENS[name]
    sae = open_sae(made.saelens(tmp_path / "one", facts, tensors))
    assert (sae.point, sae.width, sae.atoms, sae.name) == (HookPoint(1), 2, 3, "one")
    _reads(sae, h, latents, back)


@pytest.mark.parametrize("name", SAELENS)
def test_saelens_itself_agrees(name, tmp_path):
    sae_lens = pytest.importorskip("sae_lens", reason="sae-lens is not installed; it is no dependency of ours")
    facts, tensors, h, _, _ = SAELENS[name]
    if (
        "norm_scaling_factor" in facts
        or "scaling_factor" in (tensors or {})
        or facts.get("architecture") == "batchtopk"
    ):
        pytest.skip("not a file that SAELens 6 reads by itself")
    folder = made.saelens(tmp_path / "one", facts, tensors)
    theirs, ours = sae_lens.SAE.load_from_disk(str(folder)), open_sae(folder)
    assert torch.allclose(theirs.encode(h), ours.encode(h), atol=1e-5)
    assert torch.allclose(theirs(h), ours.reconstruct(h), atol=1e-5)


def test_gemmascope_fires_above_its_threshold_and_is_not_centred(tmp_path):
    sae = open_sae(made.gemmascope(tmp_path / "layer_20" / "width_16k" / "average_l0_91"))
    assert (sae.point, sae.architecture) == (HookPoint(20), "jumprelu")
    _reads(sae, H, [3.0, 0.0, 1.5], [8.0, 1.0])  # the second atom is at 1, not above it


def test_gemmascope_without_its_folders_wants_the_layer(tmp_path):
    file = made.gemmascope(tmp_path / "mine") / "params.npz"
    with pytest.raises(HookPointError, match=r"params.npz does not say which layer it is for; name it, e.g. at=layers"):
        open_sae(file)
    assert open_sae(file, at=HookPoint(2, "mlp_out")).point == HookPoint(2, "mlp_out")


@pytest.mark.parametrize(
    ("folder", "facts", "point"),
    [
        ("mine", {"hf_hook_point_in": "model.layers.9.output"}, HookPoint(9)),
        ("mine", {"hf_hook_point_in": "model.layers.5.self_attn.o_proj.input"}, HookPoint(5, "heads")),
        ("resid_post_all/layer_12_width_16k_l0_medium", {}, HookPoint(12)),
    ],
)
def test_gemmascope_2_fires_above_its_threshold_where_its_files_say(folder, facts, point, tmp_path):
    sae = open_sae(made.gemmascope2(tmp_path / folder, **facts))
    assert (sae.point, sae.architecture) == (point, "jumprelu")
    _reads(sae, H, [3.0, 0.0, 1.5], [8.0, 1.0])
    assert open_sae(tmp_path / folder / "params.safetensors").point == point


def test_gemmascope_2_of_another_kind_or_of_no_layer_is_refused(tmp_path):
    with pytest.raises(HookPointError, match=r"config.json does not say which layer it is for"):
        open_sae(made.gemmascope2(tmp_path / "mine"))
    assert open_sae(tmp_path / "mine", at=HookPoint(2)).point == HookPoint(2)
    with pytest.raises(DataError, match="architecture 'topk'; known: jump_relu"):
        open_sae(made.gemmascope2(tmp_path / "other", architecture="topk"))
    with pytest.raises(DataError, match=r"router'; known ends: output, .*at=layers\.5\.mlp_out"):
        open_sae(made.gemmascope2(tmp_path / "third", hf_hook_point_in="model.layers.5.router"))


def test_llamascope_undoes_the_norm_of_its_data_set_and_of_its_decoder(tmp_path):
    sae = open_sae(made.llamascope(tmp_path, (HALF, HALF), 2.0))
    assert sae.point == HookPoint(1)
    _reads(sae, H, [6.0, 3.0, 0.0], [6.25, 2.75])  # a threshold divided by s would pass all, multiplied by s one
    assert torch.allclose(sae.w_dec.norm(dim=1), torch.ones(3))


def test_llamascope_with_another_norm_on_the_way_out(tmp_path):
    sae = open_sae(made.llamascope(tmp_path, (HALF, 2 * HALF), 0.0, sparsity_include_decoder_norm=False))
    _reads(sae, H, [3.0, 1.5, 1.25], [15.0, 8.0])


def test_llamascopes_transcoders_are_refused(tmp_path):
    folder = made.llamascope(tmp_path, (HALF, HALF), 2.0, hook_point_out="blocks.1.hook_mlp_out")
    with pytest.raises(DataError, match=r"writes blocks.1.hook_mlp_out: a transcoder, not an autoencoder"):
        open_sae(folder)


@pytest.mark.parametrize(("act_fn", "latents"), [("relu", [6.0, 3.0, 1.25 * 2**0.5]), ("topk", [6.0, 0.0, 0.0])])
def test_llamascope_of_other_activations(act_fn, latents, tmp_path):
    sae = open_sae(made.llamascope(tmp_path, (HALF, HALF), 2.0, act_fn=act_fn, top_k=1))
    assert torch.allclose(sae.encode(H), torch.tensor(latents))


def test_qwenscope_keeps_negative_atoms_among_the_largest(tmp_path):
    sae = open_sae(made.qwenscope(tmp_path) / "layer1.sae.pt")
    assert (sae.point, sae.architecture) == (HookPoint(1), "topk")
    _reads(sae, torch.tensor([-3.0, 0.0]), [-3.0, -1.0, -2.5], [-8.0, -5.0])


def test_qwenscope_takes_its_number_of_active_atoms_from_the_folder(tmp_path):
    assert open_sae(made.qwenscope(tmp_path, active=1)).encode(H).count_nonzero() == 1
    plain = tmp_path / "plain"
    plain.mkdir()
    (made.qwenscope(tmp_path) / "layer1.sae.pt").rename(plain / "layer1.sae.pt")
    with pytest.raises(DataError, match=r"does not say how many atoms are active.*'L0_50'"):
        open_sae(plain)


def test_a_folder_of_several_layers_wants_one_named(tmp_path):
    folder = made.qwenscope(tmp_path, layer=1)
    made.qwenscope(tmp_path, layer=2)
    with pytest.raises(DataError, match=r"2 autoencoders, one per layer; name one, e.g. layer1.sae.pt"):
        open_sae(folder)


class _Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('ran code of the file')",))


def test_a_torch_file_that_holds_code_is_refused_unrun(tmp_path):
    file = tmp_path / "L0_5" / "layer3.sae.pt"
    file.parent.mkdir()
    torch.save({"W_enc": _Evil()}, file)
    with pytest.raises(DataError, match="not a file of tensors only"):
        open_sae(file)


@pytest.mark.parametrize(
    ("facts", "tensors", "said"),
    [
        (made.v6(architecture="matching_pursuit"), None, "architecture 'matching_pursuit'; known: standard, jumprelu"),
        (made.v6(architecture="topk"), None, "a TopK autoencoder whose configuration has no k"),
        (made.v6(normalize_activations="zscore"), None, "normalize_activations 'zscore'; known: expected_average"),
        (made.v6(architecture="jumprelu"), None, "no tensor 'threshold'; it has W_dec, W_enc, b_dec, b_enc"),
        (made.v6(), {**made.PLAIN, "W_dec": made.W_ENC.clone()}, r"W_dec has shape \[2, 3\], expected \[3, 2\]"),
        (made.v6(), {**made.PLAIN, "b_enc": torch.full((3,), torch.nan)}, "b_enc holds values that are not finite"),
    ],
)
def test_a_faulty_file_is_named_with_what_was_expected(facts, tensors, said, tmp_path):
    with pytest.raises(DataError, match=said):
        open_sae(made.saelens(tmp_path / "one", facts, tensors))


def test_a_hook_point_that_is_none_of_ours_is_refused(tmp_path):
    folder = made.saelens(tmp_path, made.v6(metadata={"hook_name": "blocks.1.ln2.hook_normalized"}))
    with pytest.raises(HookPointError, match=r" 'blocks.1.ln2.hook_normalized'"):
        open_sae(folder)
    with pytest.raises(HookPointError, match=r"made for layers.1.resid_post, not for layers.2.resid_post"):
        open_sae(made.saelens(tmp_path, made.v6()), at=HookPoint(2))


@pytest.mark.parametrize("site", ["resid_pre", "resid_post", "attn_out", "mlp_out"])
def test_the_site_follows_from_the_hooks_name(site, tmp_path):
    folder = made.saelens(tmp_path, made.v6(metadata={"hook_name": f"blocks.7.hook_{site}"}))
    assert open_sae(folder).point == HookPoint(7, site)


def test_what_is_no_autoencoder_is_said_with_what_is(tmp_path):
    with pytest.raises(DataError, match="no such file or folder; give the files of an autoencoder, or 'pilot'"):
        open_sae(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"no autoencoder found; supported are params.npz \(GemmaScope\)"):
        open_sae(tmp_path)
    for name, said in (("cfg.json", "cannot be read as JSON"), ("sae_weights.safetensors", "invalid safetensors")):
        folder = made.saelens(tmp_path / name, made.v6())
        (folder / name).write_bytes(b"{")
        with pytest.raises(DataError, match=said):
            open_sae(folder)
    (tmp_path / "params.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match="an incomplete or invalid npz file"):
        open_sae(tmp_path / "params.npz")


def test_labels_of_both_kinds_are_read_and_checked(tmp_path):
    folder, file = made.saelens(tmp_path / "one", made.v6()), tmp_path / "labels.json"
    for text in ({"1": "sports"}, [{"index": 1, "description": "sports"}], [{"feature": "1", "label": "sports"}]):
        file.write_text(json.dumps(text))
        assert open_sae(folder, labels=file).labels == {1: "sports"}
    for text, said in (('{"3": "x"}', r"labels atom 3, the autoencoder has atoms 0..2"), ("[1]", "no labels of atoms")):
        file.write_text(text)
        with pytest.raises(DataError, match=said):
            open_sae(folder, labels=file)


def test_another_width_or_hook_point_is_one_clear_error():
    sae = made.orthogonal(8, 4)
    sae.check_fits(HookPoint(1), 8)
    with pytest.raises(MismatchError, match=r"reads activations of width 8, the model has width 32 at layers.1"):
        sae.check_fits(HookPoint(1), 32)
    with pytest.raises(MismatchError, match=r"was made for layers.1.resid_post, not for layers.1.resid_pre"):
        sae.check_fits(HookPoint(1, "resid_pre"), 8)


def _drawn(kind, seed, centred):
    g = torch.Generator().manual_seed(seed)
    w_enc, w_dec, b_dec, a, b, c = (torch.randn(*s, generator=g) for s in [(6, 9), (9, 6), (6,), (9,), (9,), (9,)])
    forms = {"relu": Relu(a), "jumprelu": JumpRelu(a, b.abs()), "gated": Gated(a, b, c)}
    return SAE("drawn", HookPoint(0), w_enc, w_dec, b_dec, forms[kind], centred), torch.randn(40, 6, generator=g)


@given(st.sampled_from(["relu", "jumprelu", "gated"]), st.integers(0, 1000), st.booleans())
def test_one_atom_alone_has_the_activation_that_encode_gives(kind, seed, centred):
    sae, h = _drawn(kind, seed, centred)
    latents = sae.encode(h)
    for i in range(sae.atoms):
        atom = sae.atom(i)
        read = h @ atom.encoder
        alone = torch.where(read > atom.least, (read + atom.bias).relu(), 0.0)
        assert torch.allclose(alone, latents[:, i], atol=1e-4)


def test_atoms_whose_activation_depends_on_others_cannot_stand_alone(tmp_path):
    topk = SAE("t", HookPoint(0), made.W_ENC, made.W_DEC, made.B_DEC, TopK(made.B_ENC, 1))
    with pytest.raises(UsageError, match="whether an atom of a TopK autoencoder fires depends on all others"):
        topk.atom(0)
    normed = open_sae(made.saelens(tmp_path, made.v6(normalize_activations="layer_norm")))
    with pytest.raises(UsageError, match="this autoencoder normalises every token"):
        normed.atom(0)
