"""Any classifier is a scorer: a sequence classifier from a folder, and a function by its name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers as tf
from tokenizers import Tokenizer, models, pre_tokenizers

from tillerman.core.errors import MetricError, ModelError, UnknownNameError, UsageError
from tillerman.evaluation.scorers.registry import text_scorer

WORDS = ["<pad>", "<unk>", "arr", "matey", "the", "kettle", "sings", "well"]
TEXTS = ["arr matey arr", "the kettle sings", "", "well", "the kettle sings well arr matey the kettle sings"]


def saved(folder: Path, labels: list[str], **more: object) -> Path:
    """A random classifier of one block, with a tokenizer of a word each."""
    torch.manual_seed(0)
    config = tf.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=6,
        initializer_range=1.0,
        id2label=dict(enumerate(labels)),
        label2id={name: i for i, name in enumerate(labels)},
        **more,
    )
    tf.BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>").save_pretrained(folder)
    return folder


def alone(folder: Path, text: str) -> torch.Tensor:
    """The logits of a text by itself, of as many words as the classifier has places."""
    model = tf.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ids = tf.AutoTokenizer.from_pretrained(folder)(text)["input_ids"][:6]
    return model(input_ids=torch.tensor([ids])).logits[0]


def test_a_classifier_gives_the_chance_of_its_label_whatever_texts_stand_beside(tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", ["plain", "pirate", "French"])
    scorer = text_scorer(f"classifier:{folder}=Pirate")
    found = scorer.score([""] * len(TEXTS), TEXTS)
    for text, value in zip(TEXTS, found, strict=True):
        expected = float(alone(folder, text).softmax(-1)[1]) if text else None
        assert value == (expected if expected is None else pytest.approx(expected, abs=1e-5))
    assert text_scorer(f"classifier:{folder}=1").score(["", ""], TEXTS[:2]) == found[:2]
    assert scorer.score([""], ["<think>arr</think>the kettle sings"]) == pytest.approx([found[1]])
    assert "P(pirate)" in scorer.note and scorer.name == f"classifier:{folder}=Pirate"


def test_labels_that_hold_by_themselves_and_the_usual_one_of_two(tmp_path: Path) -> None:
    several = saved(tmp_path / "several", ["rude", "loud"], problem_type="multi_label_classification")
    expected = float(alone(several, "arr").sigmoid()[1])
    assert text_scorer(f"classifier:{several}").score([""], ["arr"]) == pytest.approx([expected])
    one = saved(tmp_path / "one", ["rude"])
    assert text_scorer(f"classifier:{one}").score([""], ["arr"]) == pytest.approx(
        [float(alone(one, "arr").sigmoid()[0])]
    )


def test_what_is_no_classifier_or_label_is_refused_with_the_choices(tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", ["plain", "pirate", "French"])
    with pytest.raises(UsageError, match=r"which label.*one of plain, pirate, French"):
        text_scorer(f"classifier:{folder}")
    with pytest.raises(UnknownNameError, match="Did you mean 'pirate'"):
        text_scorer(f"classifier:{folder}=pirates")
    with pytest.raises(ModelError, match=r"cannot be opened.*model\.safetensors") as refused:
        text_scorer(f"classifier:{tmp_path}")
    assert len(str(refused.value)) <= 600


def test_a_function_is_a_scorer_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = "def shouts(texts):\n    return [t.count('!') or None for t in texts]\n\nFIVE = 5\n\n"
    code += "def one(texts):\n    return [1.0]\n\n\ndef words(texts):\n    return texts\n"
    (tmp_path / "my_scorers_of_texts.py").write_text(code, encoding="utf-8")
    scorer = text_scorer("function:my_scorers_of_texts:shouts")
    assert scorer.score(["", ""], ["Arr!! Arr!", "<think>!</think>well"]) == [3.0, None]
    with pytest.raises(MetricError, match="gave 1 values for 2 texts"):
        text_scorer("function:my_scorers_of_texts:one").score(["", ""], ["a", "b"])
    with pytest.raises(MetricError, match="expected a list of numbers"):
        text_scorer("function:my_scorers_of_texts:words").score([""], ["a"])
    for given, says in (("FIVE", "is no function"), ("six", "cannot be imported")):
        with pytest.raises(UsageError, match=says):
            text_scorer(f"function:my_scorers_of_texts:{given}")
    with pytest.raises(UsageError, match="write function:MODULE:NAME"):
        text_scorer("function:shouts")
    with pytest.raises(UsageError, match="cannot be imported"):
        text_scorer("function:no_such_module_here:shouts")
