"""The options of opening: where weights go and in which precision, what is refused, and what an artefact tells."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tillerman.core.errors import MismatchError, ModelError, UnknownNameError, UsageError
from tillerman.core.opening import AS_USUAL, Opening
from tillerman.models import opening as room
from tillerman.models.machine import bfloat16_speed, device_named
from tillerman.models.opened import open_as, open_model
from tillerman.models.quantising import quantiser

from .. import tiny

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    tiny.new_model().save_pretrained(folder)
    tiny.new_tokenizer(tiny.CHAT).save_pretrained(folder)
    return folder


def _told(source, opening):
    lines = []
    return open_as(source, opening, say=lines.append), lines


@pytest.mark.parametrize(
    ("speed", "parameters", "dtype", "why"),
    [
        (3.0, room.SMALL, torch.bfloat16, "3.0 times as fast here as float32; `dtype` float32 is exact"),
        (3.0, None, torch.bfloat16, "3.0 times"),
        (3.0, room.SMALL - 1, torch.float32, "a small model"),
        (1.2, None, torch.float32, "bfloat16 is not faster here"),
    ],
)
def test_auto_is_bfloat16_for_models_of_some_size_where_it_is_fast(monkeypatch, speed, parameters, dtype, why):
    monkeypatch.setattr(room, "bfloat16_speed", lambda kind: speed)
    chosen, said = room.choose_dtype("auto", CPU, parameters)
    assert chosen == dtype
    assert why in said
    assert room.choose_dtype("float16", CPU, parameters) == (torch.float16, "")


def test_the_speed_of_bfloat16_is_measured_once_and_is_a_ratio():
    bfloat16_speed.cache_clear()
    speed = bfloat16_speed("cpu")
    assert 0.001 < speed < 1000
    assert bfloat16_speed("cpu") == speed
    assert bfloat16_speed.cache_info().hits == 1


def test_one_line_says_where_a_model_went_and_in_which_precision_and_the_embedded_pilot_needs_none(saved):
    opened, lines = _told(saved, AS_USUAL)
    assert lines == [f"{saved}: float32 on {opened.device} (a small model)"]
    opened, lines = _told(saved, Opening(dtype="bfloat16", device="cpu", quantize="int8"))
    assert lines == [f"{saved}: bfloat16 with int8 weights on cpu"]
    pilot, lines = _told("pilot", Opening(device="cpu"))
    assert lines == []
    assert pilot.model.dtype == torch.float32


def test_the_device_is_an_accelerator_where_there_is_one():
    found = device_named("auto").type
    assert found == next((kind for kind in ("cuda", "mps", "xpu") if _has(kind)), "cpu")


def _has(kind):
    try:
        torch.empty(1, device=kind)
    except (RuntimeError, AssertionError, NotImplementedError):
        return False
    return True


@pytest.mark.parametrize("kind", ["int8", "int4", "nf4"])
def test_quantised_weights_keep_the_fingerprint_of_the_model_they_were(saved, kind):
    plain, packed = open_model(saved, device="cpu"), open_model(saved, device="cpu", quantize=kind)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        one, other = plain.model(input_ids=ids).logits, packed.model(input_ids=ids).logits
    assert not torch.equal(one, other)
    assert torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.5
    assert packed.fingerprint == plain.fingerprint
    assert packed.identity != plain.identity  # an interrupted run of one is not gone on with by the other
    assert packed.opened_as["quantize"] == kind
    assert replace(packed).fingerprint == plain.fingerprint  # read anew: a pass changes nothing


def test_weights_that_change_after_they_were_quantised_have_another_fingerprint(saved):
    packed = open_model(saved, device="cpu", quantize="int8")
    before = packed.fingerprint
    with torch.no_grad():
        packed.model.get_input_embeddings().weight[3:9] += 1
    assert replace(packed).fingerprint != before


def test_a_vector_fitted_in_another_precision_belongs_to_the_model_and_the_difference_is_said(saved):
    plain, half = open_model(saved, device="cpu"), open_model(saved, device="cpu", dtype="bfloat16")
    packed = open_model(saved, device="cpu", quantize="int8")
    made = plain.provenance("mean_difference", name="some", site="resid_post")
    assert made.opened == {"dtype": "float32", "attention": "sdpa", "device": "cpu"}
    assert plain.check_provenance(made) == ()
    (note,) = half.check_provenance(made)
    assert note == "precision: fitted in float32, used in bfloat16; `study transfer` tells what that changes"
    (note,) = packed.check_provenance(made)
    assert "used in float32 with int8 weights" in note
    assert half.check_provenance(replace(made, opened={})) == ()  # artefacts of before say nothing of it
    with pytest.raises(MismatchError):
        open_model(tiny.new_model(seed=1), tiny.tokenizer(tiny.CHAT)).check_provenance(made)


def test_attention_is_the_one_that_was_asked_for_and_one_that_there_is_not_is_an_error(saved):
    assert open_model(saved, attention="eager").opened_as["attention"] == "eager"
    with pytest.raises(ModelError, match="cannot open the model"):
        open_model(saved, attention="no_such_attention")


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({"dtype": "float64"}, UnknownNameError, "no dtype named 'float64'; known: auto, bfloat16, float16, float32"),
        ({"dtype": torch.float64}, UnknownNameError, "no dtype named 'float64'"),
        ({"quantize": "int3"}, UnknownNameError, "no quantisation named 'int3'; known: int4, int8, nf4"),
        ({"device_map": "all"}, UnknownNameError, "no device map named 'all'"),
        ({"device_map": "auto", "device": "cpu"}, UsageError, "two ways to place a model"),
        ({"revision": "main"}, UsageError, "`revision` main: .* is not on the hub"),
    ],
)
def test_an_option_that_cannot_be_had_is_refused_before_anything_is_loaded(saved, given, kind, said):
    with pytest.raises(kind, match=said):
        open_model(saved, **given)


def test_nf4_weights_are_refused_on_a_device_without_a_kernel_for_them():
    with pytest.raises(ModelError, match="nf4 weights work on cpu, cuda, xpu, and the model goes to mps; take int8 or"):
        quantiser("nf4", torch.device("mps"))


def test_a_loaded_model_takes_no_option_that_would_do_nothing():
    for given in ({"dtype": "bfloat16"}, {"device": "cpu"}, {"quantize": "int8"}, {"attention": "eager"}):
        with pytest.raises(UsageError, match="a loaded model is taken as it is"):
            open_model(tiny.model(), tiny.tokenizer(), **given)


def test_code_that_comes_with_a_model_is_not_run_unasked(saved, tmp_path):
    config = tmp_path / "config.json"
    config.write_text(
        '{"model_type": "mine", "auto_map": {"AutoConfig": "code.Mine", "AutoModelForCausalLM": "code.M"}}'
    )
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ModelError, match=r"run only if you say so; read it, then give `trust_remote_code`"):
        open_model(tmp_path)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ModelError):
        open_model(tmp_path, trust_remote_code=True)  # there is no class Mine
    assert (tmp_path / "ran").exists()
