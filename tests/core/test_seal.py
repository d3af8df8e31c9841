"""What is changed after it was written is told from what was written; files of before there was a checksum are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tillerman.core.artefact import Artefact, load, save
from tillerman.core.cell import Cell
from tillerman.core.errors import ArtefactError
from tillerman.core.gates import ProbeGate
from tillerman.core.hookpoint import HookPoint
from tillerman.core.seal import checksum

from .. import tiny


@pytest.fixture
def path(tmp_path):
    vector = tiny.vector(0, 1)
    gate = ProbeGate(torch.ones(4), 0.5, HookPoint(0))
    save(tmp_path / "a.safetensors", Artefact(vector, Cell.of(vector), gate))
    return tmp_path / "a.safetensors"


def parts(path: Path):
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118


@pytest.mark.parametrize("bit", range(8))
def test_no_bit_of_a_tensor_flips_without_a_word(path, bit):
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    for place in range(start, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 1 << bit
        path.write_bytes(changed)
        with pytest.raises(ArtefactError, match=r"a\.safetensors: .*checksum"):
            load(path)


@pytest.mark.parametrize("old, new", [('\\"strength\\": 1.0', '\\"strength\\": 9.0'), ('"seed\\": 0', '"seed\\": 1')])
def test_no_number_of_the_metadata_changes_without_a_word(path, old, new):
    content = path.read_bytes()
    assert old.encode() in content
    path.write_bytes(content.replace(old.encode(), new.encode()))
    with pytest.raises(ArtefactError, match="checksum"):
        load(path)


def test_tensors_that_change_places_are_noticed(path):
    tensors, metadata = parts(path)
    names = sorted(name for name in tensors if name.startswith("layers"))
    swapped = {**tensors, names[0]: tensors[names[1]], names[1]: tensors[names[0]]}
    save_file(swapped, path, metadata=metadata)
    with pytest.raises(ArtefactError, match="checksum"):
        load(path)


def test_a_checksum_that_is_taken_away_is_missed(path):
    tensors, metadata = parts(path)
    del metadata["checksum"]
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(ArtefactError, match="checksum"):
        load(path)


def test_a_file_of_before_there_were_checksums_is_read(path):
    tensors, metadata = parts(path)
    head = json.loads(metadata["tillerman"])
    assert head.pop("sealed") is True
    save_file(tensors, path, metadata={"tillerman": json.dumps(head)})
    assert load(path).steering.points == (HookPoint(0), HookPoint(1))


def test_the_checksum_depends_on_name_type_shape_and_bytes():
    zeros = torch.zeros(4)
    same = [
        checksum({"a": zeros}, {}),
        checksum({"b": zeros}, {}),
        checksum({"a": zeros.reshape(2, 2)}, {}),
        checksum({"a": zeros.int()}, {}),
        checksum({"a": zeros, "b": torch.zeros(0)}, {}),
        checksum({"a": zeros}, {"key": "value"}),
        checksum({"a": zeros}, {"keyv": "alue"}),
    ]
    assert len(set(same)) == len(same)
    assert checksum({"a": zeros}, {"checksum": "x"}) == same[0]
