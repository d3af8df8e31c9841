"""The pilot's tokenizer and chat template, and dialogues as token lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from corpus import PROMPT_WEIGHT, Corpus, Turn
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, BOS, END, SYSTEM, USER, ASSISTANT = "<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"
SPECIAL = (PAD, BOS, END, SYSTEM, USER, ASSISTANT)
# Roles open a turn; only the assistant closes its own, so that generation knows where to stop.
CHAT_TEMPLATE = (
    "<|bos|>{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def train_tokenizer(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=END,
        chat_template=CHAT_TEMPLATE,
        model_max_length=512,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def corpus_texts(corpus: Corpus) -> Iterable[str]:
    for trait in (*corpus.personas, *corpus.judges):
        for question in trait.questions:
            yield question.text
        yield from (*trait.prompts[0], *trait.prompts[1])
    for texts in corpus.moods.values():
        yield from texts
    yield from corpus.stories


class Encoder:
    """Turns as tokens. Special tokens part the pieces, so they can be encoded one by one."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._fast = tokenizer.backend_tokenizer
        self._id = {name: self._fast.token_to_id(name) for name in SPECIAL}
        self._seen: dict[str, list[int]] = {}

    def text(self, text: str) -> list[int]:
        if text not in self._seen:
            self._seen[text] = self._fast.encode(text, add_special_tokens=False).ids
        return self._seen[text]

    def start(self, system: str | None) -> list[int]:
        return [self._id[BOS]] if system is None else [self._id[BOS], self._id[SYSTEM], *self.text(system)]

    def question(self, user: str) -> list[int]:
        return [self._id[USER], *self.text(user), self._id[ASSISTANT]]

    def answer(self, assistant: str) -> list[int]:
        return [*self.text(assistant), self._id[END]]

    def dialogue(self, system: str | None, turns: Sequence[Turn]) -> list[int]:
        out = self.start(system)
        for turn in turns:
            out += self.question(turn.user) + self.answer(turn.assistant)
        return out

    def window(self, system: str | None, turns: Sequence[Turn], length: int) -> tuple[list[int], list[float]]:
        """The first ``length + 1`` tokens of a dialogue with the loss weight of each, padded with weight 0."""
        tokens = self.start(system)
        weights = [PROMPT_WEIGHT] * len(tokens)
        for turn in turns:
            if len(tokens) > length:
                break
            question, answer = self.question(turn.user), self.answer(turn.assistant)
            tokens += question + answer
            weights += [PROMPT_WEIGHT] * len(question) + [turn.weight] * (len(answer) - 1) + [PROMPT_WEIGHT]
        missing = max(0, length + 1 - len(tokens))
        return (tokens + [self._id[PAD]] * missing)[: length + 1], (weights + [0.0] * missing)[: length + 1]
