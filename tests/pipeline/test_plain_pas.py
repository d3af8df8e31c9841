"""PAS written down plainly, one prompt per forward, chooses what the pipeline chooses, with the same scores.

The engine has no part in it: plain hooks read and steer. Only the shares and the order of the options are taken over.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor

import tillerman
from tillerman.core.hookpoint import HookPoint
from tillerman.data.examples import Example
from tillerman.data.loading import LoadedData
from tillerman.data.presenting import Item
from tillerman.pipeline.run import Run, Unwatched
from tillerman.pipeline.search import choose
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.side_effects import make_meter
from tillerman.pipeline.vectors import fit_methods

from .. import tiny

LETTERS = "ABC"
LAYERS, STRENGTHS = (0, 1, 2), (1.0, 4.0, 16.0)
METHODS = ("pas-full", "ipas-all", "ipas-wrong")


def _examples() -> tuple[Example, ...]:
    """Questions that all differ: near-duplicates would be dropped from a share."""
    words = [f"{a}{b}{c}" for a in "bdfgklm" for b in "aeiou" for c in "nprst"]
    draw = random.Random(4).sample
    return tuple(
        Example("choice", f"Which word goes with {' and '.join(draw(words, 6))}?", tuple(draw(words, 3)), i % 3)
        for i in range(50)
    )


def _logits(model: torch.nn.Module, tokens: list[int]) -> Tensor:
    return model(input_ids=torch.tensor([tokens])).logits[0, -1]


def _letters(prompt: list[int], tokenizer) -> list[int]:
    """The token that follows the prompt when a letter is written after it."""
    text = tokenizer.decode(prompt)
    return [tokenizer(f"{text} {letter}")["input_ids"][len(prompt)] for letter in LETTERS]


def _said(logits: Tensor, letters: list[int]) -> int:
    return int(logits[letters].argmax())


def _sides(
    method: str, items: tuple[Item, ...], said: list[int], tokenizer, cue: str = "\nAnswer:"
) -> tuple[list[list[int]], list[list[int]]]:
    """PAS section 3.2: what is put on the positive and on the negative side."""
    positive, negative = [], []
    for item, answer in zip(items, said, strict=True):
        question = f"{item.example.question}{cue}"
        right, wrong = f"{question} {item.texts[item.right]}", f"{question} {item.texts[answer]}"
        if method == "pas-full":
            (positive if answer == item.right else negative).append(item.prompt)
        elif answer != item.right:
            negative.append(wrong)
            if method == "ipas-wrong":
                positive.append(right)
        elif method == "ipas-all":
            positive.append(right)
    return [tokenizer(text)["input_ids"] for text in positive], [tokenizer(text)["input_ids"] for text in negative]


def _mean(model: torch.nn.Module, texts: list[list[int]], layer: int) -> np.ndarray:
    """The mean over texts of the last token's activation after a block, in numpy."""
    seen: list[Tensor] = []
    handle = tiny.blocks(model, "llama")[layer].register_forward_hook(lambda _, __, out: seen.append(out[0, -1]))
    for tokens in texts:
        _logits(model, tokens)
    handle.remove()
    return np.stack([h.numpy().astype(np.float64) for h in seen]).mean(0)


def _accuracy(model: torch.nn.Module, items: tuple[Item, ...], layer: int, push: Tensor, tokenizer) -> float:
    def steer(_, __, out: Tensor) -> Tensor:
        changed = out.clone()
        changed[0, -1] += push
        return changed

    handle = tiny.blocks(model, "llama")[layer].register_forward_hook(steer)
    right = 0
    for item in items:
        prompt = tokenizer(item.prompt)["input_ids"]
        right += _said(_logits(model, prompt), _letters(prompt, tokenizer)) == item.right
    handle.remove()
    return right / len(items)


@torch.no_grad()
def _plain(bench: Run, method: str) -> tuple[dict[int, Tensor], dict[tuple[int, float], float]]:
    """Predict, contrast, take the difference of the means, run the grid: vectors and validation accuracies."""
    model, tokenizer = bench.opened.model, bench.opened.tokenizer
    train, validation = bench.train.items, bench.validation.items
    prompts = [tokenizer(item.prompt)["input_ids"] for item in train]
    said = [_said(_logits(model, prompt), _letters(prompt, tokenizer)) for prompt in prompts]
    positive, negative = _sides(method, train, said, tokenizer)
    vectors, scores = {}, {}
    for layer in LAYERS:
        vectors[layer] = torch.tensor(_mean(model, positive, layer) - _mean(model, negative, layer)).float()
        for strength in STRENGTHS:
            scores[layer, strength] = _accuracy(model, validation, layer, strength * vectors[layer], tokenizer)
    return vectors, scores


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_pipeline_gives_the_vectors_the_scores_and_the_cell_of_pas_one_prompt_at_a_time(method: str) -> None:
    experiment = tillerman.Experiment(
        max_kl=None,
        max_perplexity_ratio=None,
        method=method,
        template="none",
        read="last",
        layers=LAYERS,
        strengths=STRENGTHS,
        scope="last",
        zero=False,
        ties="first",
        shares=(0.5, 0.4, 0.1),
    )
    data = LoadedData(_examples(), "words", "made", "digest", ())
    bench = set_up(experiment, tiny.opened(), data, tillerman.Store(None, ""), Unwatched())
    vectors, expected = _plain(bench, method)
    choice = choose(bench, make_meter(bench))
    scores = {(one.candidate.cell.points[0].layer, one.candidate.cell.strength): one.score for one in choice.scored}
    for layer, vector in vectors.items():
        assert torch.allclose(choice.fitted.vector.directions[HookPoint(layer)], vector, atol=1e-4), layer
    assert scores == pytest.approx(expected, abs=1e-4)
    assert len(set(expected.values())) > 1  # steering does something
    chosen = choice.cell
    assert (chosen.points[0].layer, chosen.strength) == max(expected, key=expected.__getitem__)  # the first of the best


@torch.no_grad()
@pytest.mark.parametrize("method", ["ipas-all", "ipas-wrong"])
def test_the_papers_mode_reads_question_and_answer_joined_by_a_blank(method: str) -> None:
    """The authors' strings, one per forward: ``question answer``."""
    experiment = tillerman.pas_paper(tillerman.Experiment(method=method, layers=LAYERS, shares=(0.5, 0.4, 0.1)))
    data = LoadedData(_examples(), "words", "made", "digest", (), "")
    bench = set_up(experiment, tiny.opened(), data, tillerman.Store(None, ""), Unwatched())
    model, tokenizer, train = bench.opened.model, bench.opened.tokenizer, bench.train.items
    prompts = [tokenizer(item.prompt)["input_ids"] for item in train]
    said = [_said(_logits(model, prompt), _letters(prompt, tokenizer)) for prompt in prompts]
    positive, negative = _sides(method, train, said, tokenizer, cue="")
    fitted, _ = fit_methods(bench)
    for layer in LAYERS[1:]:  # read at the block's input
        plain = torch.tensor(_mean(model, positive, layer - 1) - _mean(model, negative, layer - 1)).float()
        assert torch.allclose(fitted[method].vector.directions[HookPoint(layer)], plain, atol=1e-4), layer
    assert (experiment.ties, experiment.max_kl, experiment.zero) == ("deepest", None, False)
