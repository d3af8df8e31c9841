"""Contrasting system prompts for a behaviour: those that its description gives, and those that a writer is asked for.

As persona vectors are made (Chen et al. 2025, arXiv 2507.21509): several pairs of system prompts, one that brings the
behaviour about and one that brings its opposite about, and questions that are answered under both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tillerman.core.errors import UsageError
from tillerman.data.making.lists import distinct, read_list
from tillerman.data.splits import normalised

LONGEST_DESCRIPTION = 300  # characters
LONGEST_PROMPT, FEWEST_WORDS = 600, 4
ORDINARY = (  # that speak of the answer alone: told that it is an assistant, a small model talks of that
    "Answer the question plainly, in simple words.",
    "Answer what is asked in an ordinary and neutral way, and say nothing else.",
)
_THIRD_PERSON = re.compile(r"^(is|are|was|has|does|[a-z]+[^s\W]s)$")  # speaks, answers; not address, ess
_WORD = re.compile(r"\w+")
_ORDER_WORDS = (  # how an instruction begins; what begins otherwise is mostly an answer in the assistant's place
    "you your answer answers reply respond speak write talk act be behave always never use give keep stay do don "
    "don’t adopt imagine pretend as begin start end when whenever whatever in every explain express show provide "
    "make let treat avoid ensure remember respond sound describe assume take"
)
_ORDERS = frozenset(_ORDER_WORDS.split())


@dataclass(frozen=True)
class PromptPair:
    """Two system prompts: under ``positive`` the behaviour is shown, under ``negative`` it is not."""

    positive: str
    negative: str

    def __post_init__(self) -> None:
        for side, text in (("positive", self.positive), ("negative", self.negative)):
            if not text.strip():
                raise UsageError(f"the {side} prompt is empty; write what the model is to be told")
        if normalised(self.positive) == normalised(self.negative):
            raise UsageError("the positive and the negative prompt are the same; a contrast needs two")


def checked_description(text: str) -> str:
    """On one line, without a full stop; ``UsageError`` where it says nothing or too much."""
    said = " ".join(text.split()).rstrip(".")
    if not _WORD.search(said):
        raise UsageError('the description is empty; say what the model is to do, as in "speaks like a pirate"')
    if len(said) > LONGEST_DESCRIPTION:
        raise UsageError(
            f"the description has {len(said)} characters, at most {LONGEST_DESCRIPTION}; say it in a sentence, and "
            "the rest with --positive-prompt and --negative-prompt"
        )
    return said


def asking_for(description: str) -> str:
    """The behaviour as an order: ``speaks like a pirate`` → ``You are an assistant that speaks like a pirate``."""
    first = description.split()[0].casefold()
    if _THIRD_PERSON.match(first):
        return f"You are an assistant that {description}"
    return f"You are an assistant with this way of answering: {description}"


def described_pairs(description: str) -> tuple[PromptPair, ...]:
    """Prompts that the description itself gives, whatever writer there is."""
    told = asking_for(description)
    return (
        PromptPair(f"{told}. Every answer that you give shows it clearly.", ORDINARY[0]),
        PromptPair(f"{told}. Do so from the first word to the last, whatever you are asked.", ORDINARY[1]),
    )


def positive_request(description: str, count: int) -> str:
    """What a writer is asked for the prompts of the wanted side."""
    return (
        f"Write {count} different system prompts for a chat assistant. Each makes the assistant behave like this in "
        f"every answer: {description}. Each is one or two sentences, speaks to the assistant as 'you', and says "
        f"concretely how the answers are to be worded. Write them as a numbered list and write nothing else."
    )


def negative_request(description: str, count: int) -> str:
    """The same for the other side."""
    return (
        f"Write {count} different system prompts for a chat assistant. Each makes the assistant do the opposite of "
        f"this in every answer: {description}. The answers are to be ordinary in every other way. Each prompt is one "
        f"or two sentences and speaks to the assistant as 'you'. Write them as a numbered list and write nothing else."
    )


def usable_prompts(texts: Iterable[str]) -> tuple[str, ...]:
    """Those that begin as instructions do, of ``FEWEST_WORDS`` words or more, not too long, and no near-duplicates."""
    said = ((text, _WORD.findall(text.casefold())) for text in texts if len(text) <= LONGEST_PROMPT)
    return distinct(text for text, words in said if len(words) >= FEWEST_WORDS and words[0] in _ORDERS)


def read_pairs(positives: str, negatives: str) -> tuple[PromptPair, ...]:
    """Pairs of what a writer wrote on both sides, in the order written; as many as the shorter side has. A prompt that
    stands on both sides is left out."""
    wanted, others = usable_prompts(read_list(positives)), usable_prompts(read_list(negatives))
    both = {normalised(text) for text in wanted} & {normalised(text) for text in others}
    sides = [[text for text in side if normalised(text) not in both] for side in (wanted, others)]
    return tuple(PromptPair(*pair) for pair in zip(*sides, strict=False))


def joined(*groups: Sequence[PromptPair]) -> tuple[PromptPair, ...]:
    """All pairs, each once."""
    return tuple(dict.fromkeys(pair for group in groups for pair in group))
