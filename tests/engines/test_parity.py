"""Every way of decoding under every scope, gated or not, writes what a plain loop without a cache writes.

The loop is our own: at each step the whole text runs anew, and a plain hook adds the vector to the tokens that the
scope means, found by brute force. What cannot be right is refused: ``REFUSED`` has those cells, all others are equal.
"""

from __future__ import annotations

import threading
from contextlib import nullcontext
from functools import cache

import pytest
import torch
from transformers import Cache
from transformers.cache_utils import QuantizedLayer

from tillerman.core.errors import UsageError
from tillerman.core.gates import ProbeGate
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.steering.steer import steer

from .. import tiny

NEW, LAYER, EOS, GUIDANCE = 6, 0, 2, 1.5
FENCE, OPEN, CLOSE, MARKER = 60, 50, 51, (7, 8)
PROMPT = (20, FENCE, 31, FENCE, 7, 8, 32, 7, 8, OPEN, 33, 34)
NEGATIVE = (40, 7, 8, OPEN, 41)
SCOPES = {
    "all": Scope("all"),
    "prompt": Scope("prompt"),
    "generated": Scope("generated"),
    "last": Scope("last"),
    "after_instruction": Scope("after_instruction", marker=MARKER),
    "positions": Scope("positions", (0, 3, -6)),
    "thinking": Scope("thinking", opening=(OPEN,), closing=(CLOSE,)),
    "thinking after the marker": Scope("thinking", opening=(OPEN,), closing=(CLOSE,), marker=MARKER),
    "not_in_code": Scope("not_in_code", piece=lambda token: "\n```\n" if token == FENCE else " word"),
}
# A gate that is always open, and one that never is: read from the prompt, which one pass must hold.
GATES = {
    f"{name}, gate {said}": (name, ProbeGate(torch.zeros(tiny.WIDTH), bias, HookPoint(LAYER), read))
    for name, said, bias, read in [("generated", "open", 1.0, "last"), ("all", "shut", -1.0, "mean")]
}
CELLS = {**{name: (name, None) for name in SCOPES}, **GATES}


def _meant(scope: Scope, text: tuple[int, ...], size: int) -> list[bool]:
    """Brute force: whether each token of a text with a prompt of ``size`` tokens is steered."""
    marks = [i for i in range(size - 1) if text[i : i + 2] == MARKER]
    thinks, code, out = False, False, []
    for i, token in enumerate(text):
        after = i >= (marks[-1] if marks else size)  # what is generated answers the instruction anyway
        thinks = (thinks or (token == OPEN and (after or not scope.marker))) and token != CLOSE
        code = code != (token == FENCE)
        out.append(
            {
                "all": True,
                "prompt": i < size,
                "generated": i >= size - 1,
                "last": i == size - 1,
                "after_instruction": after,
                "positions": i in [p if p >= 0 else size + p for p in scope.positions],
                "thinking": thinks,
                "not_in_code": not code,
            }[scope.name]
        )
    return out


class Loop:
    """One model, one vector, one scope, no cache. A shut gate is no vector."""

    def __init__(self, cell: str, strength: float = 1.0) -> None:
        name, self.gate = CELLS[cell]
        self.model, self.scope = tiny.model(), SCOPES[name]
        self.point = HookPoint(LAYER)
        self.vector = tiny.vector(self.point, size=20.0)
        self.strength = 0.0 if self.gate is not None and self.gate.bias < 0 else strength
        self.plan = Intervention(self.vector, strength, "add", self.scope, self.gate)

    @torch.no_grad()
    def logits(self, text, size):
        chosen = torch.tensor(_meant(self.scope, tuple(text), size))[None, :, None]
        push = self.strength * self.vector.directions[self.point]
        handle = tiny.hook(self.model, "llama", self.point, lambda h: torch.where(chosen, h + push, h))
        try:
            return self.model(input_ids=torch.tensor([text]), use_cache=False).logits[0]
        finally:
            handle.remove()

    def next(self, text, size):
        """Log-probabilities, without the token that would end the text."""
        found = self.logits(text, size)[-1].log_softmax(-1)
        found[EOS] = -torch.inf
        return found

    def greedy(self, prompt=PROMPT, negative=None):
        text, other = list(prompt), list(negative or ())
        for _ in range(NEW):
            found = self.next(text, len(prompt))
            if negative:
                plain = self.next(other, len(negative))
                found = GUIDANCE * (found - plain) + plain
                found[EOS] = -torch.inf
            text.append(int(found.argmax()))
            other.append(text[-1])
        return text

    def beams(self, width):
        beams = [(0.0, list(PROMPT))]
        for _ in range(NEW):
            grown = [
                (score + float(value), [*text, int(token)])
                for score, text in beams
                for value, token in zip(*self.next(text, len(PROMPT)).topk(width), strict=True)
            ]
            beams = sorted(grown, key=lambda beam: -beam[0])[:width]
        return beams[0][1]


@cache
def _greedy(cell: str, prompt=PROMPT, negative=None):
    return Loop(cell).greedy(prompt, negative)


class _Exact(QuantizedLayer):
    """The library's quantised cache, with a number format that loses nothing."""

    def _quantize(self, tensor, axis):
        return tensor.double()

    def _dequantize(self, tensor):
        return tensor.float()


def _generate(cell: str, **options):
    loop, ids = Loop(cell), torch.tensor([PROMPT])
    with steer(loop.model, loop.plan):
        return loop.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NEW,
            min_new_tokens=NEW,
            output_logits=True,
            return_dict_in_generate=True,
            **{"do_sample": False, "pad_token_id": 0, **options},
        )


def _is_drawn_from_the_loop(cell: str, out) -> None:
    """The logits of each step are those that the loop has for the text that was written."""
    for row, text in enumerate(out.sequences.tolist()):
        wanted = Loop(cell).logits(text, len(PROMPT))[len(PROMPT) - 1 : -1]
        assert torch.allclose(torch.stack(out.logits, 1)[row], wanted, atol=1e-3)


def _is_greedy(cell: str, **options):
    out = _generate(cell, **options)
    assert out.sequences[0].tolist() == _greedy(cell)
    _is_drawn_from_the_loop(cell, out)


def _beams(cell):
    assert _generate(cell, num_beams=3).sequences[0].tolist() == Loop(cell).beams(3)


def _samples(cell):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        out = _generate(cell, do_sample=True, num_return_sequences=3)
    assert len(set(map(tuple, out.sequences.tolist()))) == 3
    _is_drawn_from_the_loop(cell, out)


def _guided(cell, negative, **options):
    given = {} if negative is None else {"negative_prompt_ids": torch.tensor([negative])}
    out = _generate(cell, guidance_scale=GUIDANCE, **given, **options)
    assert out.sequences[0].tolist() == _greedy(cell, PROMPT, negative or PROMPT[-1:])
    _is_drawn_from_the_loop(cell, out)


def _two_threads(cell):
    loop, said = Loop(cell), {}

    def job(prompt):
        ids = torch.tensor([prompt])
        options = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}
        said[prompt] = loop.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)[0].tolist()

    with steer(loop.model, loop.plan):
        threads = [threading.Thread(target=job, args=(prompt,)) for prompt in (PROMPT, NEGATIVE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert said == {prompt: _greedy(cell, prompt) for prompt in (PROMPT, NEGATIVE)}


WAYS = {
    "greedy": _is_greedy,
    "beams": _beams,
    "sampling, three returns": _samples,
    "prompt lookup": lambda cell: _is_greedy(cell, prompt_lookup_num_tokens=3),
    "assistant model": lambda cell: _is_greedy(cell, assistant_model=tiny.new_model(seed=1)),
    "early exit": lambda cell: _is_greedy(cell, assistant_early_exit=LAYER + 1),
    "itself as its assistant": lambda cell: _is_greedy(cell, assistant_model=tiny.model()),
    "guidance": lambda cell: _guided(cell, None),
    "guidance, negative prompt": lambda cell: _guided(cell, NEGATIVE),
    "guidance without a cache": lambda cell: _guided(cell, NEGATIVE, use_cache=False),
    "static cache": lambda cell: _is_greedy(cell, cache_implementation="static"),
    "offloaded cache": lambda cell: _is_greedy(cell, cache_implementation="offloaded"),
    "quantised cache": lambda cell: _is_greedy(
        cell, past_key_values=Cache(layers=[_Exact(residual_length=2) for _ in range(tiny.LAYERS)])
    ),
    "no cache": lambda cell: _is_greedy(cell, use_cache=False),
    "chunked prefill": lambda cell: _is_greedy(cell, prefill_chunk_size=5),
    "two threads": _two_threads,
}


REFUSED = {("chunked prefill", cell): "give the prompt in one pass" for cell in GATES}
NEEDS_CUDA = {"offloaded cache"}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cell", CELLS)
def test_what_is_written_is_what_a_loop_without_a_cache_writes(cell, way):
    if way in NEEDS_CUDA and not torch.cuda.is_available():
        pytest.skip("transformers offloads a cache through CUDA streams only")
    why = REFUSED.get((way, cell))
    with nullcontext() if why is None else pytest.raises(UsageError, match=why):
        WAYS[way](cell)


def test_the_loop_itself_tells_the_scopes_apart():
    texts = {tuple(_greedy(name)) for name in SCOPES}
    assert len(texts) == len(SCOPES) - 1  # the thought of this prompt begins after the marker
    assert tuple(Loop("all", 0.0).greedy()) not in texts
