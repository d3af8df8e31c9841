"""GGUF files that cannot be opened are told apart by what they say of themselves, before anything is unpacked."""

from __future__ import annotations

import struct

import pytest

from tillerman.core.errors import ModelError
from tillerman.models.gguf import gguf_file, header_of
from tillerman.models.gguf_header import read_header
from tillerman.models.opened import open_model

LLAMA = {"general.architecture": "llama", "general.type": "model"}


def _text(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value):
    if isinstance(value, list):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_text, value))
    return struct.pack("<I", 8) + _text(value) if isinstance(value, str) else struct.pack("<IH", 2, value)


def _written(path, values, shapes=()):
    content = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(values))
    content += b"".join(_text(key) + _value(value) for key, value in values.items())
    for i, shape in enumerate(shapes):
        content += _text(f"t{i}") + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, 0)
    path.write_bytes(content)
    return path


def test_the_header_tells_architecture_and_number_of_weights_past_arrays_of_any_length(tmp_path):
    values = {**LLAMA, "tokenizer.ggml.tokens": ["ä", "b" * 300, ""], "llama.block_count": 30}
    header = read_header(_written(tmp_path / "m.gguf", values, [(4, 3), (5,), (2, 2, 2)]))
    assert header.architecture == "llama"
    assert header.values["llama.block_count"] == 30
    assert header.parameters == 12 + 5 + 8


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"general.architecture": "controlvector"}, "is a control vector.*the GGUF of the model"),
        ({"general.architecture": "clip"}, r"a model that sees \(mmproj\); give the GGUF of its language model"),
        ({**LLAMA, "general.type": "mmproj"}, r"a model that sees \(mmproj\)"),
        ({**LLAMA, "general.type": "adapter"}, "is an adapter; give the GGUF of the whole model"),
        ({**LLAMA, "split.count": 3}, "is one of 3 parts of a model; join them first: llama-gguf-split --merge"),
    ],
)
def test_what_is_no_whole_model_is_refused_by_what_it_is(tmp_path, values, said):
    path = _written(tmp_path / "m.gguf", values)
    with pytest.raises(ModelError, match=said):
        open_model(path)
    with pytest.raises(ModelError, match=said):
        open_model(tmp_path)  # as the only file of a folder


def test_a_file_that_is_cut_off_anywhere_or_no_gguf_is_one_error(tmp_path):
    whole = _written(tmp_path / "m.gguf", {**LLAMA, "tokenizer.ggml.tokens": ["a", "b"]}, [(4, 3)]).read_bytes()
    for content in (
        b"",
        b"GGUF",
        b"PK\x03\x04 something else",
        *(whole[:size] for size in range(5, len(whole) - 12, 3)),
    ):
        (tmp_path / "cut.gguf").write_bytes(content)
        with pytest.raises(ModelError, match="is no GGUF file, or only the beginning of one; download it again"):
            read_header(tmp_path / "cut.gguf")


def test_a_folder_with_several_gguf_files_is_refused_with_their_names(tmp_path):
    for name in ("b.Q8_0.gguf", "a.Q4_K_M.gguf"):
        _written(tmp_path / name, LLAMA)
    with pytest.raises(
        ModelError, match=r"holds 2 GGUF files \(a\.Q4_K_M\.gguf, b\.Q8_0\.gguf\); name the one"
    ) as raised:
        open_model(tmp_path)
    assert str(raised.value).endswith(str(tmp_path / "a.Q4_K_M.gguf"))


def test_a_folder_that_has_a_config_is_opened_by_it(tmp_path):
    _written(tmp_path / "m.gguf", LLAMA)
    assert gguf_file(tmp_path) == tmp_path / "m.gguf"
    (tmp_path / "config.json").write_text("{}")
    assert gguf_file(tmp_path) is None


def test_a_gguf_file_that_is_not_there_is_said_to_be_so(tmp_path):
    with pytest.raises(ModelError, match=r"none\.gguf: no such file"):
        open_model(tmp_path / "none.gguf")


def test_without_the_package_that_unpacks_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("tillerman.models.gguf.find_spec", lambda name: None if name == "gguf" else object())
    with pytest.raises(ModelError, match=r"GGUF files need gguf: pip install 'tillerman\[gguf\]'"):
        header_of(_written(tmp_path / "m.gguf", LLAMA))
