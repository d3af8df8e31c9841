"""Prompts that might ask for a behaviour in words, made of training items: quoted, or asked of the model itself.

What a model answers is not known here: an ``InstructionRequest`` says what to ask it, and how its reply becomes a
prompt.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tillerman.data.pairings import another
from tillerman.data.presenting import Item
from tillerman.data.splits import normalised

LONGEST_QUOTE, LONGEST_INSTRUCTION = 240, 320  # characters
FEW, MORE = 2, 6  # items that are quoted
SHOWN = 4  # items that the model is shown when it is asked for an instruction

_QUOTED = re.compile(r"[\"“]([^\"“”]{3,})[\"”]")
_LABEL = re.compile(r"^\W*(?:(?:system |short )?(?:instruction|prompt)s?|answer|sentence)\s*:\s*", re.IGNORECASE)
_SENTENCE = re.compile(r".*?[.!?](?=\s|$)", re.DOTALL)


@dataclass(frozen=True)
class InstructionRequest:
    """What a model is asked. Its reply goes on from ``opening``; the prompt is ``before``, opening and reply."""

    ask: str
    opening: str = ""
    before: str = ""

    def prompt(self, reply: str) -> str:
        """The reply as a prompt; empty where it says nothing."""
        said = instruction(f"{self.opening} {reply.lstrip()}" if self.opening else reply)
        return f"{self.before} {said}".strip() if said else ""


def quoting(items: Sequence[Item], seed: int = 0) -> tuple[str, ...]:
    """Prompts that quote wanted answers (of yes/no questions: what is said yes and no to), few and more of them."""
    drawn = random.Random(f"{seed} quoted").sample(list(items), len(items))
    made = [_quoting(drawn, count) for count in (FEW, MORE)]
    return tuple(dict.fromkeys(filter(None, made)))


def requests(items: Sequence[Item], count: int, seed: int = 0) -> tuple[InstructionRequest, ...]:
    """``count`` ways to ask for an instruction, each with training items of its own draw; none for texts."""
    made: list[InstructionRequest] = []
    for k in range(count):
        chance = random.Random(f"{seed} asked {k}")
        shown = chance.sample(list(items), min(SHOWN, len(items)))
        ways = _ways(shown)
        made += [ways[k % len(ways)]] if ways else []
    return tuple(made)


def instruction(reply: str) -> str:
    """The first paragraph of what a model wrote, without label, quotes and half a sentence at its end; empty where it
    is no instruction: fewer than three words."""
    paragraphs = [part.strip() for part in reply.strip().split("\n\n") if part.strip()]
    if not paragraphs:
        return ""
    said = _LABEL.sub("", " ".join(paragraphs[0].split())).strip(" \"'“”*`")
    whole = ""
    for sentence in _SENTENCE.findall(said):
        if len(whole) + len(sentence) > LONGEST_INSTRUCTION:
            break
        whole += sentence
    said = (whole or said[:LONGEST_INSTRUCTION]).strip()
    return said if len(re.findall(r"[^\W\d_]{2,}", said)) >= 3 else ""


def distinct(prompts: Iterable[tuple[str, str]], most: int) -> tuple[tuple[str, str], ...]:
    """(text, source) pairs, each text once, at most so many of the first."""
    kept: dict[str, tuple[str, str]] = {}
    for text, source in prompts:
        if text.strip():
            kept.setdefault(normalised(text), (text.strip(), source))
    return tuple(kept.values())[:most]


def _quoting(items: Sequence[Item], count: int) -> str:
    kind = items[0].example.kind if items else "text"
    if _asks_one_thing(items):
        return _agreeing(items, count)
    if kind in ("preference", "open"):
        return f"Answer in the style of these examples:\n{_listed(_wanted(item) for item in items[:count])}"
    if kind == "choice":
        wanted, other = _listed(_wanted(i) for i in items[:count]), _listed(_unwanted(i) for i in items[:count])
        return f"Choose answers like these:\n{wanted}\nDo not choose answers like these:\n{other}"
    return ""


def _asks_one_thing(items: Sequence[Item]) -> bool:
    """Yes/no questions, lettered or not: the same two answers to every question."""
    return len({item.example.options for item in items}) == 1 and len(items[0].example.options) == 2


def _agreeing(items: Sequence[Item], count: int) -> str:
    """Statements of a person where every question quotes one; else questions and what is answered."""
    said = [_QUOTED.findall(item.example.question) for item in items]
    quoted = all(len(found) == 1 for found in said)
    sides: tuple[list[str], list[str]] = ([], [])
    for item, found in zip(items, said, strict=True):
        sides[item.example.answer].append(found[0] if quoted else item.example.question)
    words = [f"You answer {word!r} to questions like these:" for word in items[0].example.options]
    if quoted:
        words = ["You are someone who agrees with this:", "You do not agree with this:"]
    return "\n".join(f"{word}\n{_listed(side[:count])}" for word, side in zip(words, sides, strict=True) if side)


def _ways(items: Sequence[Item]) -> tuple[InstructionRequest, ...]:
    """How to ask for an instruction, by the kind of the items."""
    kind = items[0].example.kind if items else "text"
    if _asks_one_thing(items) and len(items) > 1:
        said = f"Somebody answered these questions.\n\n{_answered(items)}\n\nWho answers like that?"
        ask = f"{said} Describe this person in one short sentence."
        return InstructionRequest(ask, opening="You are someone who"), InstructionRequest(ask)
    if kind in ("preference", "choice"):
        asked = "Write one short instruction that tells an assistant how to give answers like the good ones, and not "
        shown = f"Here are questions, each with a good and a bad answer.\n\n{_contrasted(items)}\n\n"
        return InstructionRequest(f"{shown}{asked}like the bad ones. Write only the instruction."), _style(items)
    if kind == "open":
        asked = "Write one short instruction that tells an assistant how to answer such questions rightly."
        return (InstructionRequest(f"{_answered(items)}\n\n{asked}"),)
    return ()


def _answered(items: Sequence[Item]) -> str:
    return "\n\n".join(f"Question: {_clipped(item.example.question)}\nAnswer: {_wanted(item)}" for item in items)


def _contrasted(items: Sequence[Item]) -> str:
    sides = (f"Good answer: {_wanted(item)}\nBad answer: {_unwanted(item)}" for item in items)
    questions = (f"Question: {_clipped(item.example.question)}" for item in items)
    return "\n\n".join(f"{question}\n{both}" for question, both in zip(questions, sides, strict=True))


def _style(items: Sequence[Item]) -> InstructionRequest:
    shown = f"Here are some answers:\n\n{_listed(_wanted(item) for item in items)}\n\n"
    return InstructionRequest(
        f"{shown}Describe in one short sentence how these answers are written.", before="Answer in this style:"
    )


def _wanted(item: Item) -> str:
    return _clipped(item.example.options[item.example.answer])


def _unwanted(item: Item) -> str:
    return _clipped(item.texts[another(item)])


def _listed(texts: Iterable[str]) -> str:
    return "\n".join(f"- {_clipped(text)}" for text in texts)


def _clipped(text: str) -> str:
    """On one line, cut after a word."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_QUOTE else f"{line[:LONGEST_QUOTE].rpartition(' ')[0]} …"
