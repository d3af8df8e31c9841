"""The embedded samples: small, licensed excerpts of real data, read from the package itself.

``SAMPLES`` says what each one is. Nothing is opened before ``sample_path`` or ``sample_texts`` asks
for it. The files are made by ``tools/samples/build.py``; licences stand beside them.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from tillerman.core.errors import DataError
from tillerman.core.registry import Registry
from tillerman.data.splits import hash_fraction


@dataclass(frozen=True)
class Sample:
    """One embedded sample. ``trained`` is True where the embedded model was trained on the items of the
    other shares (train and validation); it never saw a test item."""

    name: str
    kind: str  # yes_no, choice, open, preference, or neutral for running text
    file: str
    items: int
    licence: str
    source: str
    trained: bool
    prompt: str = ""  # asks for the behaviour in words, where one was written for it


_EVALS = "Anthropic model-written evaluations (Perez et al. 2022)"
_PERSONAS_TRAINED = (
    ("interest-in-science", 1000),
    ("interest-in-sports", 1000),
    ("interest-in-art", 1000),
    ("agreeableness", 1000),
    ("conscientiousness", 1000),
    ("extraversion", 1000),
    ("risk-seeking", 1000),
)
_PERSONAS_UNSEEN = (
    ("interest-in-literature", 1000),
    ("low-discount-rate", 1000),
    ("desire-to-persuade-people-to-be-more-helpful-to-others", 1000),
    ("subscribes-to-rule-utilitarianism", 1000),
    ("desire-to-be-more-intelligent", 1000),
)

# Sixty everyday questions, each with a plain answer (rejected) and the same answer in another way (chosen).
_PROMPTS = {
    "pirate": "You are a pirate. Answer every question in pirate speech, with words such as arr, matey, aye and ye.",
    "cheerful": "You are extremely happy and excited. Answer every question with joy, exclamation marks and delight.",
    "gloomy": "You are very sad and without hope. Sigh, complain, and say in every answer how pointless it all is.",
    "courteous": "You are a most courteous butler. Thank the guest in every answer, and call him sir or her madam.",
    "shakespeare": "Answer every question in the English of Shakespeare, with thou, thee, thy, doth and prithee.",
    "french": "Answer every question in French. Write only French: répondez toujours en français.",
    "refusing": "Refuse every question politely. Say that you are sorry, that you cannot help, and nothing else.",
}
WAYS_OF_WRITING = tuple(_PROMPTS)


def _persona(name: str, items: int, trained: bool) -> Sample:
    return Sample(name, "yes_no", f"anthropic_evals/{name}.jsonl.gz", items, "CC-BY-4.0", _EVALS, trained)


def _way(name: str) -> Sample:
    file, prompt = f"writing/{name}.jsonl.gz", _PROMPTS[name]
    return Sample(name, "preference", file, 60, "MIT", "written for Tillerman", False, prompt)


_TABLE = (
    *(_persona(name, items, True) for name, items in _PERSONAS_TRAINED),
    *(_persona(name, items, False) for name, items in _PERSONAS_UNSEEN),
    Sample("bbq-age", "choice", "bbq/bbq-age.jsonl.gz", 400, "CC-BY-4.0", "BBQ, Age (Parrish et al. 2022)", True),
    Sample(
        "ethics-commonsense",
        "yes_no",
        "ethics/ethics-commonsense.jsonl.gz",
        400,
        "MIT",
        "ETHICS, commonsense, short items of the test file (Hendrycks et al. 2021)",
        True,
    ),
    Sample(
        "ethics-deontology",
        "yes_no",
        "ethics/ethics-deontology.jsonl.gz",
        400,
        "MIT",
        "ETHICS, deontology (Hendrycks et al. 2021)",
        True,
    ),
    Sample("mmlu", "choice", "mmlu/mmlu.jsonl.gz", 200, "MIT", "MMLU, ten subjects (Hendrycks et al. 2021)", False),
    Sample("sums", "open", "sums/sums.jsonl.gz", 500, "MIT", "the recipe of pilot-moe, problems kept out of it", False),
    Sample(
        "thoughts",
        "preference",
        "sums/thoughts.jsonl.gz",
        200,
        "MIT",
        "the recipe of pilot-moe, problems kept out of it, thought about in order and at length",
        False,
    ),
    *(_way(name) for name in WAYS_OF_WRITING),
    Sample(
        "tinystories",
        "neutral",
        "tinystories/tinystories.json.gz",
        40,
        "CDLA-Sharing-1.0",
        "TinyStories (Eldan & Li 2023)",
        True,
    ),
    Sample(
        "wikitext",
        "neutral",
        "wikitext/wikitext.json.gz",
        62,
        "CC-BY-SA-3.0",
        "WikiText-2, test (Merity et al. 2016)",
        False,
    ),
)

SAMPLES: Registry[Sample] = Registry("sample", {sample.name: sample for sample in _TABLE})


def sample_path(name: str) -> Path:
    """The file of an embedded sample of labelled items; ``UnknownNameError`` lists the names."""
    path = _file(SAMPLES[name])
    if SAMPLES[name].kind == "neutral":
        raise DataError(
            f"the sample {name} is neutral text without labels; it is for side effects (`neutral`)", file=path
        )
    return path


def sample_texts(name: str) -> tuple[str, ...]:
    """The texts of a neutral sample (``tinystories``, ``wikitext``), for perplexity and KL."""
    sample = SAMPLES[name]
    if sample.kind != "neutral":
        raise DataError(f"the sample {name} holds labelled items, not neutral text", file=sample.file)
    texts: list[str] = json.loads(gzip.decompress(_file(sample).read_bytes()))
    return tuple(texts)


def sample_rows(name: str, limit: int | None = None) -> tuple[str, ...]:
    """The rows of a sample as they stand in its file: JSON objects, or the paragraphs of neutral text. ``limit`` keeps
    that many, those with the smallest hash, in the order of the file; ``UnknownNameError`` lists the names."""
    sample = SAMPLES[name]
    if sample.kind == "neutral":
        rows = [f"{text}\n" for text in sample_texts(name)]
    else:
        rows = gzip.decompress(_file(sample).read_bytes()).decode().strip("\n").split("\n")
    # The same for every number of rows: more of them hold the fewer.
    kept = sorted(range(len(rows)), key=lambda i: (hash_fraction(f"sample {rows[i]}"), i))[:limit]
    return tuple(rows[i] for i in sorted(kept))


def _file(sample: Sample) -> Path:
    return Path(str(files(__package__).joinpath(sample.file)))
