"""What a real model's autoencoder is trained and measured on: chats in the model's template, and running text.

The files lie in a folder of data, under the names below:

* ``open_ended/dolly_1k_mobileaibench.csv.gz``: instructions and answers of people (Dolly, CC-BY-SA-3.0)
* ``gsm8k/train.jsonl.gz``: sums in words and their solutions (MIT)
* ``anthropic_evals/persona/``: statements asked with yes or no (CC-BY-4.0)
* ``lm_text/``: WikiText-2, train (CC-BY-SA), TinyStories (CDLA-Sharing-1.0), Shakespeare (public domain)

Left out are the behaviours on which steering is measured, so that no atom can have been made for them: the samples
of ways of writing, and the persona sets of ``behaviours.py``.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from behaviours import BEHAVIOURS

from tillerman.core.rows import Row
from tillerman.data.samples import WAYS_OF_WRITING, sample_path, sample_texts
from tillerman.models.opened import OpenModel

WINDOW = 256  # tokens
LONGEST = 384  # tokens of a chat
HELD_OUT = 10  # of so many chats one is for the measurement
SUMS, STATEMENTS = 400, 12  # how many problems, and statements of each persona
SHARES = {"chats": 0.55, "wikitext": 0.2, "tinystories": 0.15, "shakespeare": 0.1}  # of the tokens
MEASURED = 12  # rows of each kind

Chat = tuple[str, str]  # question and answer


def training_rows(opened: OpenModel, data: Path, tokens: int, seed: int) -> list[Row]:
    """About so many tokens, rows mixed; the kinds with the shares that are meant, as far as their texts go."""
    rng = random.Random(seed)
    stories = [text for text in _stories(data) if text.strip() not in {t.strip() for t in sample_texts("tinystories")}]
    made = {
        "chats": chat_rows(opened, [chat for i, chat in enumerate(_chats(data)) if i % HELD_OUT]),
        "wikitext": windows(opened, [_packed(data / "lm_text" / "wikitext2_train_5k.txt.gz")]),
        "tinystories": windows(opened, stories),
        "shakespeare": windows(opened, [_packed(data / "lm_text" / "tinyshakespeare.txt.gz")]),
    }
    rows = []
    for name, share in SHARES.items():
        rng.shuffle(made[name])
        rows += _as_many(made[name], share * tokens)
    rng.shuffle(rows)
    return rows


def measuring_rows(opened: OpenModel, data: Path) -> dict[str, list[Row]]:
    """None of it was trained on; ways of writing are of kinds that were not."""
    ways = [row for name in WAYS_OF_WRITING for row in _lines(sample_path(name))[:4]]
    chats = [chat for i, chat in enumerate(_chats(data)) if not i % HELD_OUT]
    random.Random("measure").shuffle(chats)
    return {
        "chats": chat_rows(opened, chats[:MEASURED]),
        "ways of writing": chat_rows(opened, [(row["prompt"], row["chosen"]) for row in ways])[:MEASURED],
        **{name: windows(opened, sample_texts(name))[:MEASURED] for name in ("wikitext", "tinystories")},
    }


def chat_rows(opened: OpenModel, chats: Sequence[Chat]) -> list[Row]:
    """Read from where they begin to differ; one in eight from its first token on, so that the beginning which all
    share is learnt as well, and is not most of what is learnt."""
    tokenizer = opened.tokenizer
    rows = []
    for question, answer in chats:
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        tokens = tokenizer.apply_chat_template(turns, tokenize=False)
        rows.append(tuple(tokenizer(tokens, add_special_tokens=False).input_ids[:LONGEST]))
    shared = next(i for i, found in enumerate(zip(*rows, strict=False)) if len(set(found)) > 1)
    return [Row(row, shared if i % 8 else 1) for i, row in enumerate(rows)]


def windows(opened: OpenModel, texts: Sequence[str]) -> list[Row]:
    """Of ``WINDOW`` tokens; a last one of hardly any is dropped."""
    whole = [opened.tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    parts = [tokens[at : at + WINDOW] for tokens in whole for at in range(0, len(tokens), WINDOW)]
    return [Row(tuple(part), 1) for part in parts if len(part) >= WINDOW // 8]


def _as_many(rows: Sequence[Row], tokens: float) -> Iterator[Row]:
    for row in rows:
        if tokens <= 0:
            return
        tokens -= len(row.tokens) - row.read_from
        yield row


def _chats(data: Path) -> list[Chat]:
    table = csv.DictReader(io.StringIO(_packed(data / "open_ended" / "dolly_1k_mobileaibench.csv.gz")))
    found = [(f"{row['instruction']}\n\n{row['context']}".strip(), row["response"]) for row in table]
    found += [(row["question"], row["answer"]) for row in _lines(data / "gsm8k" / "train.jsonl.gz")[:SUMS]]
    for path in sorted((data / "anthropic_evals" / "persona").glob("*.jsonl.gz")):
        if path.name.removesuffix(".jsonl.gz") not in BEHAVIOURS:
            asked = _lines(path)[:STATEMENTS]
            sides = ("answer_matching_behavior", "answer_not_matching_behavior")
            found += [(row["question"], row[sides[i % 2]].strip()) for i, row in enumerate(asked)]
    return found


def _stories(data: Path) -> list[str]:
    stories: list[str] = json.loads((data / "lm_text" / "tinystories_1000.json").read_text(encoding="utf-8"))
    return stories


def _lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in _packed(path).splitlines()]


def _packed(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode()
