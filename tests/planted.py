"""Data and a tiny model of which the truth is known: labels by coin, and an answer that steering can bring about."""

from __future__ import annotations

import random
from functools import cache

import torch
import transformers as tf

import tillerman
from tillerman.data.examples import Example
from tillerman.data.loading import LoadedData
from tillerman.models.families import anatomy

from . import tiny

_WORDS = ("apple", "stone", "river", "cat", "mat", "dog", "sun", "sky", "grass", "fruit", "green", "red", "blue", "lay")

# A real search, and as little as possible of what does not belong to it.
SMALL = tillerman.Experiment(
    method="caa",
    layers=(1, 2),
    doses=(1.0, 2.0),
    neutral="sample:tinystories",
    neutral_tokens=128,
    unrelated_items=1,
    shots=0,
    generations=(),
    null_draws=2,
)


def labelled(seed: int, count: int, wanted: float) -> LoadedData:
    """Yes/no questions of random words; a share ``wanted`` of the right answers is yes, whatever is asked."""
    draw, questions = random.Random(seed), set()
    while len(questions) < count:
        questions.add(" ".join(draw.choice(_WORDS) for _ in range(5)) + "?")
    examples = [Example("yes_no", q, ("Yes", "No"), int(draw.random() >= wanted)) for q in sorted(questions)]
    return LoadedData(tuple(examples), f"{wanted:g} yes", "made", f"{seed} {count} {wanted}", (), "Say yes.")


def coins(seed: int, count: int = 200) -> LoadedData:
    """Labels that nothing can learn: train, validation and test alike."""
    return labelled(seed, count, 0.5)


@cache
def speaker() -> tillerman.OpenModel:
    """A random model that says the word whose embedding its stream holds (embeddings are tied): a vector from the
    stream at "No" to that at "Yes" makes it say yes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = tiny.CONFIGS["llama"]()
        config.tie_word_embeddings = True
        causal = tf.LlamaForCausalLM(config).eval()
    return tillerman.OpenModel(causal, tiny.tokenizer(), "speaker", anatomy(causal))
