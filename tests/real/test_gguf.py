"""GGUF files of pretrained models: opened, unpacked once, and steered."""

from __future__ import annotations

import pytest
import torch

from tillerman.core.opening import Opening
from tillerman.models.opened import open_as

pytestmark = pytest.mark.real
PLAIN = (
    "The sun rises in the east and sets in the west. Water boils at one hundred degrees Celsius. Dogs are loyal "
    "animals, and many people keep them as pets."
)
FLOAT32 = Opening(device="cpu", dtype="float32")


def _said(opened, text, tokens):
    ids = opened.tokenizer(text, return_tensors="pt", add_special_tokens=not opened.tokenizer.chat_template)
    out = opened.model.generate(**ids, max_new_tokens=tokens, do_sample=False)
    return opened.tokenizer.decode(out[0][ids["input_ids"].shape[1] :], skip_special_tokens=True)


def _opened(source, opening):
    lines = []
    return open_as(source, opening, say=lines.append), lines


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TILLERMAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def test_a_gguf_file_answers_and_is_unpacked_once_without_a_bar(smollm2, capfd):
    opened, lines = _opened(smollm2, FLOAT32)
    assert capfd.readouterr().err == ""
    assert len(lines) == 2
    assert "SmolLM2-135M-Instruct.Q4_1.gguf is unpacked once, 538 MB in " in lines[0]
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    text = opened.tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert _said(opened, text, 9) == "The capital of France is Paris."
    again, lines = _opened(smollm2.parent, FLOAT32)  # a folder with one file is that file
    assert lines == [f"{smollm2.parent}: float32 on cpu"]
    assert again.fingerprint == opened.fingerprint
    half, _ = _opened(smollm2, Opening(device="cpu", dtype="bfloat16"))
    assert half.model.dtype == torch.bfloat16
    assert half.fingerprint == opened.fingerprint  # one model in two precisions
    weights, halves = (one.model.model.layers[3].mlp.up_proj.weight for one in (opened, half))
    assert torch.equal(weights.to(torch.bfloat16), halves)


def test_a_model_without_a_template_from_a_folder_with_its_file(gemma3):
    opened, _ = _opened(gemma3.parent, Opening(device="cpu", dtype="bfloat16"))
    assert opened.layers == 18
    assert opened.parts.width == 640
    assert not opened.tokenizer.chat_template
    # 13.7 was measured; a model whose norms or positions are read wrongly is far above.
    ids = opened.tokenizer(PLAIN, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert float(opened.model(input_ids=ids, labels=ids).loss.exp()) < 20
