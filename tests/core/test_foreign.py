"""Files of other tools are named for what they are, with a way to bring them in that works as it is printed."""

from __future__ import annotations

import gzip
import json
import pickle
import re
import shlex
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

import tillerman
from tillerman.cli.app import app
from tillerman.core.artefact import Artefact, load, save
from tillerman.core.cell import Cell
from tillerman.core.errors import ArtefactError
from tillerman.core.hookpoint import HookPoint

from .. import tiny

WIDTH = tillerman.open_model("pilot").parts.width
DIRECTION = torch.linspace(-1, 1, WIDTH)


def gguf(path: Path) -> None:
    """A control vector as repeng writes it: two keys, one tensor of float32."""

    def text(words: str) -> bytes:
        return struct.pack("<Q", len(words)) + words.encode()

    keys = text("general.architecture") + struct.pack("<I", 8) + text("controlvector")
    tensor = text("direction.1") + struct.pack("<IQIQ", 1, WIDTH, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + keys + tensor
    path.write_bytes(head + bytes(-len(head) % 32) + DIRECTION.numpy().tobytes())


class Boom:
    """Whoever unpickles it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


# file name, how it is made, what it is called
VECTORS: list[tuple[str, Callable[[Path], None], str]] = [
    ("evil_response_avg_diff.pt", lambda p: torch.save(DIRECTION, p), "a PyTorch file"),
    (
        "layer_20.pt",
        lambda p: torch.save(DIRECTION, p, _use_new_zipfile_serialization=False),
        "a PyTorch file",
    ),
    (
        "happy.svec",
        lambda p: p.write_text(json.dumps({"model_type": "llama", "directions": {"1": DIRECTION.tolist()}})),
        "a vector in JSON",
    ),
    ("v.json", lambda p: p.write_text(json.dumps(DIRECTION.tolist())), "a JSON list of numbers"),
    ("v.npy", lambda p: np.save(p, DIRECTION.numpy()), "a NumPy array"),
    ("v.safetensors", lambda p: save_file({"v": DIRECTION}, p), "a plain safetensors file"),
    ("v.gguf", gguf, "a GGUF file"),
]


# A direction of the file -> what the command that its error prints is still to be told.
SAID = {"happy.svec": ["--convention", "output"], "v.gguf": ["--convention", "output"]}


@pytest.mark.parametrize(("name", "make", "what"), VECTORS, ids=[name for name, _, _ in VECTORS])
def test_a_vector_of_another_tool_comes_in_by_the_command_in_its_error(tmp_path, monkeypatch, name, make, what):
    monkeypatch.chdir(tmp_path)
    make(Path(name))
    with pytest.raises(ArtefactError) as refused:
        load(name)
    said = str(refused.value)
    assert said.startswith(f"{name}: {what}") and "copy it again" not in said and len(said) <= 600
    command = re.search(r"tillerman (import .*?);", said)[1].replace("MODEL", "pilot")
    told = SAID.get(name, ["--at", "1"])
    done = CliRunner().invoke(app, [*shlex.split(command), *told])
    assert done.exit_code == 0, done.output
    made = load("mine.safetensors")
    assert torch.equal(made.steering.directions[HookPoint(1)], DIRECTION)


def lora(path: Path) -> None:
    save_file({"base_model.model.q_proj.lora_A.weight": torch.ones(2, 2)}, path)


OTHERS: list[tuple[str, Callable[[Path], object], str]] = [
    ("adapter_model.safetensors", lora, "a LoRA adapter"),
    (
        "model.safetensors",
        lambda p: save_file({"model.embed_tokens.weight": torch.ones(2, 2)}, p),
        "weights of a model",
    ),
    ("sae.safetensors", lambda p: save_file({"W_enc": torch.ones(2, 2)}, p), "a sparse autoencoder"),
    ("v.zip", lambda p: zipfile.ZipFile(p, "w").writestr("a.txt", "a"), "a zip archive"),
    ("v.gz", lambda p: p.write_bytes(gzip.compress(b"a" * 50)), "a gzip file"),
    ("v.parquet", lambda p: p.write_bytes(b"PAR1" + bytes(60)), "a parquet file"),
    ("v.h5", lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(60)), "an HDF5 file"),
    ("v.tar", lambda p: p.write_bytes(bytes(257) + b"ustar" + bytes(300)), "a tar archive"),
    ("v.lfs", lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "git lfs pull"),
    ("v.html", lambda p: p.write_text("<!DOCTYPE html><html></html>"), "a web page"),
    ("rows.jsonl", lambda p: p.write_text('{"a": 1}\n{"a": 2}\n'), "JSON lines"),
    ("log.json", lambda p: p.write_text('{"kind": "evaluation", "version": 1}'), "a log of kind evaluation"),
    ("notes.txt", lambda p: p.write_text("these are some notes"), "a text file"),
    ("empty", lambda p: p.write_bytes(b""), "an empty file"),
    ("broken.zip", lambda p: p.write_bytes(b"PK\x03\x04" + bytes(60)), "a damaged zip archive"),
    ("deep.json", lambda p: p.write_text("[" * 100_000), "damaged JSON"),
]


@pytest.mark.parametrize(("name", "make", "what"), OTHERS, ids=[name for name, _, _ in OTHERS])
def test_a_file_that_holds_no_vector_is_named_too(tmp_path, name, make, what):
    make(tmp_path / name)
    with pytest.raises(ArtefactError, match=what) as refused:
        load(tmp_path / name)
    assert "copy it again" not in str(refused.value) or name == "broken.zip"


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_no_pickle_is_ever_opened(tmp_path, protocol):
    bomb, made = tmp_path / "v.pkl", tmp_path / "made"
    bomb.write_bytes(pickle.dumps(Boom(made), protocol=protocol))
    with pytest.raises(ArtefactError, match="a Python pickle"):
        load(bomb)
    torch.save({"v": Boom(made)}, tmp_path / "v.pt")
    with pytest.raises(ArtefactError, match="a PyTorch file"):
        load(tmp_path / "v.pt")
    assert not made.exists()


@pytest.mark.parametrize("length", [0x8B1F, 0x4B50])
def test_an_artefact_whose_first_bytes_look_like_another_format_is_read(tmp_path, length):
    """A safetensors file begins with the length of its header: 0x8b1f is how gzip begins."""
    path, vector = tmp_path / "a.safetensors", tiny.vector(0)
    save(path, Artefact(vector, Cell.of(vector)))
    path.write_bytes(padded(path.read_bytes(), length))
    assert path.read_bytes()[:2] == length.to_bytes(2, "little")
    assert load(path).steering.points == vector.points


def padded(content: bytes, length: int) -> bytes:
    """The same safetensors file with its header filled up with blanks."""
    found = int.from_bytes(content[:8], "little")
    head = content[8 : 8 + found].rstrip() + b" " * length
    return length.to_bytes(8, "little") + head[:length] + content[8 + found :]


def test_a_folder_is_called_a_folder_and_names_the_files_in_it(tmp_path):
    save(tmp_path / "mine.safetensors", Artefact(tiny.vector(0), Cell.of(tiny.vector(0))))
    with pytest.raises(ArtefactError, match=r"a folder, not an artefact; it holds mine\.safetensors"):
        load(tmp_path)


def test_a_long_path_leaves_the_message_short(tmp_path):
    path = tmp_path / ("x" * 60) / ("y" * 200 + ".pt")
    path.parent.mkdir()
    torch.save(DIRECTION, path)
    with pytest.raises(ArtefactError, match="a PyTorch file") as refused:
        load(path)
    assert len(str(refused.value)) <= 600
