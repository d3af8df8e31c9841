"""A tiny model of which it is known what it scores and what it writes, and preferences for it.

Its blocks do nothing: the stream is the last word's embedding, an axis of its own per word and one for style. The
unsteered model writes everyday words, whatever is asked. Of two answers it slightly prefers the one of dull words to
the one of pirate words: a small push along style turns that, and a push as large as the stream itself is needed to
make it write pirate words.
"""

from __future__ import annotations

import random
from functools import cache

import torch
import transformers as tf
from tokenizers import Tokenizer, models, pre_tokenizers

import tillerman
from tillerman.data.examples import Example
from tillerman.data.loading import LoadedData
from tillerman.models.families import anatomy

ASKED = ["apple", "stone", "river", "cat", "mat", "dog", "sun", "sky", "grass", "fruit", "green", "red", "blue", "lay"]
EVERYDAY = ["we", "walk", "home", "and", "then", "sleep", "until", "noon"]
PIRATE = ["arr", "ye", "scurvy", "matey", "hoist", "yon", "black", "sails"]
DULL = ["hereby", "kindly", "note", "that", "said", "matters", "remain", "pending"]
_SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
_WORDS = [*_SPECIAL, *ASKED, *EVERYDAY, *PIRATE, *DULL]
_WIDTH, _STYLE, _ALWAYS = 64, 62, 63  # the last two axes
_EVERYDAY, _STARTS, _LEAN = 1.0, 0.1, 0.1  # what the next everyday word, the next pirate word, any dull word gets


@cache
def writer() -> tillerman.OpenModel:
    place = {word: i for i, word in enumerate(_WORDS)}
    config = tf.LlamaConfig(
        vocab_size=len(_WORDS),
        hidden_size=_WIDTH,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
    )
    embedded, read = torch.zeros(len(_WORDS), _WIDTH), torch.zeros(len(_WORDS), _WIDTH)
    embedded[range(len(_WORDS)), range(len(_WORDS))] = 1.0
    embedded[:, _ALWAYS] = 1.0
    embedded[place["<unk>"]] *= 50  # neutral text is all unknown words: what steering does to it is small
    for words, style in ((PIRATE, 1.0), (DULL, -1.0)):
        for word in words:
            embedded[place[word], _STYLE] = style
            read[place[word], _STYLE] = style
    for word in DULL:
        read[place[word], _ALWAYS] = _LEAN
    for chain, weight in ((EVERYDAY, _EVERYDAY), (PIRATE, _STARTS)):
        for k, word in enumerate(chain):
            before = [chain[k - 1], *ASKED[k :: len(chain)], *(EVERYDAY[k - 1 : k] if chain is PIRATE else [])]
            for other in before:
                read[place[word], place[other]] = weight
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        causal = tf.LlamaForCausalLM(config).eval()
        for block in causal.model.layers:
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.zero_()
        causal.model.embed_tokens.weight.copy_(embedded)
        causal.lm_head.weight.copy_(read)
    return tillerman.OpenModel(causal, _tokenizer(place), "writer", anatomy(causal))


def _tokenizer(place: dict[str, int]) -> tf.PreTrainedTokenizerFast:
    core = Tokenizer(models.WordLevel(place, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def preferences(count: int = 90, wanted: list[str] = PIRATE, unwanted: list[str] = DULL) -> LoadedData:
    """Questions of random words; answers of six words of either kind."""
    draw, questions = random.Random(3), set()
    while len(questions) < count:
        questions.add(" ".join(draw.choice(ASKED) for _ in range(5)))
    rows = [
        Example("preference", q, (" ".join(draw.sample(wanted, 6)), " ".join(draw.sample(unwanted, 6))), 0)
        for q in sorted(questions)
    ]
    return LoadedData(tuple(rows), "pirate", "made", f"{count} {wanted[0]} {unwanted[0]}", (), ("Say arr.",))
