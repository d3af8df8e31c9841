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
    read="usual",
    max_kl=None,
    max_perplexity_ratio=None,
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
    return LoadedData(tuple(examples), f"{wanted:g} yes", "made", f"{seed} {count} {wanted}", (), ("Say yes.",))


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


def signed(seed: int, count: int) -> LoadedData:
    """Yes/no questions of random words with one word of two: yes is right with "cat", no with "mat"."""
    draw, others = random.Random(seed), [w for w in _WORDS if w not in ("cat", "mat")]
    asked: dict[str, int] = {}
    while len(asked) < count:
        wanted = draw.randrange(2)
        words = [draw.choice(others) for _ in range(4)]
        words.insert(draw.randrange(5), ("cat", "mat")[wanted])
        asked[" ".join(words) + "?"] = wanted
    examples = [Example("yes_no", q, ("Yes", "No"), wanted) for q, wanted in sorted(asked.items())]
    return LoadedData(tuple(examples), "cats", "made", f"signed {seed} {count}", (), ("Say yes to cats.",))


TRAIT, LEANING = 2, 3  # axes of the stream of ``teller``: what it can be made to heed, and what it likes to say


@cache
def teller() -> tillerman.OpenModel:
    """A model made by hand that says No to nearly everything and heeds the words of ``signed`` a little.

    A push along axis LEANING after block 0 makes it say yes, whatever is asked. A push along axis TRAIT makes it heed
    the words: block 1 multiplies what it reads there by the mean sign of the words, which block 0 has gathered.
    """
    sign, noise, gathered = 1, 4, 5
    tokenizer = tiny.tokenizer()
    causal = tf.LlamaForCausalLM(tiny.CONFIGS["llama"]()).eval()
    with torch.no_grad():
        for name, weights in causal.named_parameters():
            weights.fill_(1.0 if "norm" in name else 0.0)
        embedding, (first, second, *_) = causal.model.embed_tokens.weight, causal.model.layers
        embedding[:, 0] = 10.0  # the norm hardly depends on the rest
        embedding[:, noise] = torch.randn(len(embedding), generator=torch.Generator().manual_seed(0))
        (cat,), (mat,), (yes,), (no,), (*_, last) = (
            tokenizer(text)["input_ids"] for text in ("cat", "mat", "Yes", "No", "Answer:")
        )
        embedding[cat, sign], embedding[mat, sign], embedding[last, LEANING] = 10.0, -10.0, -1.2
        first.self_attn.v_proj.weight[0, sign] = first.self_attn.v_proj.weight[1, noise] = 1.0
        first.self_attn.o_proj.weight[gathered, 0] = 1.0
        first.self_attn.o_proj.weight[LEANING, 0], first.self_attn.o_proj.weight[LEANING, 1] = 1.2, 4.0
        second.mlp.gate_proj.weight[0, TRAIT] = second.mlp.up_proj.weight[0, gathered] = 1.0
        second.mlp.down_proj.weight[LEANING, 0] = 6.0
        causal.lm_head.weight[yes, LEANING], causal.lm_head.weight[no, LEANING] = 1.0, -1.0
    return tillerman.OpenModel(causal, tokenizer, "teller", anatomy(causal))
