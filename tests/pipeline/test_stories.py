"""Small story models trained by others: happy against sad sentences move what they tell."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from tests.data.shared import shared_data

import tillerman

MOODS = Path(__file__).parent / "moods.csv"
HAPPY = "happy happily joy smile smiled laugh laughed fun glad love loved excited hug hugged proud wonderful nice kind"
SAD = "sad sadly cry cried tears scared afraid hurt lost angry alone lonely upset sorry mean bad dark pain broke broken"
PROMPTS = [
    "Once upon a time there was a girl named",
    "One day a boy went to the",
    "There was a small dog who",
    "Tom and his mom were",
    "The old man looked at",
    "Lily opened the door and",
    "In the morning the bird",
    "A cat sat on the",
    "The children came to the house and",
    "Ben found a box. He",
]


def words(text: str, names: str) -> int:
    wanted = set(names.split())
    return sum(word in wanted for word in re.findall(r"[a-z]+", text.lower()))


def stories(opened: tillerman.OpenModel, plan: tillerman.Plan) -> str:
    """4 samples of 100 tokens for each of 10 prompts, always from the same random numbers."""
    tokenizer = opened.tokenizer
    rows = [tokenizer(prompt + " ")["input_ids"] for prompt in PROMPTS]
    longest = max(map(len, rows))
    tokens = torch.tensor([[opened.pad_id] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    with torch.random.fork_rng(), tillerman.steer(opened.model, plan):
        torch.manual_seed(0)
        out = opened.model.generate(
            input_ids=tokens,
            attention_mask=mask,
            max_new_tokens=100,
            do_sample=True,
            temperature=0.8,
            num_return_sequences=4,
            pad_token_id=opened.pad_id,
        )
    return " ".join(tokenizer.batch_decode(out[:, longest:], skip_special_tokens=True))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "layer"), [("bitllama-3M", 3), ("stories260K", 1)])
def test_happy_against_sad_sentences_move_the_words_of_the_stories(name: str, layer: int) -> None:
    folder = shared_data().parent / "models" / name
    if not folder.is_dir():
        pytest.skip(f"the story model {folder} is not there")
    opened = tillerman.open_model(folder)
    data = tillerman.load_examples(MOODS, positive_label="happy")
    experiment = tillerman.Experiment(
        max_kl=None,
        max_perplexity_ratio=None,
        method="caa",
        layers=(layer,),
        doses=(0.3, 0.6),
        shares=(0.8, 0.1, 0.1),
        neutral="sample:tinystories",
        neutral_tokens=512,
        unrelated_items=5,
        generations=("Once upon a time",),
        generation_tokens=20,
    )
    outcome = tillerman.fit(experiment, opened, data)
    assert outcome.log.provenance["read_positions"] == "mean"
    point = tillerman.HookPoint(layer)
    vector = outcome.artefact.steering.at(point)
    counts = {}
    for dose in (-0.6, -0.3, 0.0, 0.3, 0.6):
        text = stories(opened, (tillerman.Intervention(vector, vector.strength(point, dose)),))
        counts[dose] = (words(text, HAPPY), words(text, SAD))
    shares = {dose: (happy + 1) / (happy + sad + 2) for dose, (happy, sad) in counts.items()}
    assert shares[-0.6] < 0.3 < 0.7 < shares[0.6], counts
    assert shares[-0.6] < shares[0.0] < shares[0.6], counts
