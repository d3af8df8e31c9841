"""An author that writes by the book: plainly, or as a pirate where it is told to. It counts what it was asked."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from tillerman.core.rows import Progress, silent
from tillerman.pipeline.making.authors import Said, WritingRequest

NOUNS = ["kettle", "river", "stone", "garden", "window", "lantern", "bridge", "candle", "basket", "hammer", "meadow"]
VERBS = ["take", "wash", "carry", "turn", "open", "gather", "measure", "cover"]
WHEN = ["at noon", "in the morning", "before supper", "after the rain", "on Sunday", "by the fire", "in winter"]


def plainly(chance: random.Random) -> str:
    words = [chance.choice(VERBS), "the", chance.choice(NOUNS), "and the", chance.choice(NOUNS), chance.choice(WHEN)]
    return f"You can {' '.join(words)}, then {chance.choice(VERBS)} the {chance.choice(NOUNS)} {chance.choice(WHEN)}."


def as_pirate(chance: random.Random) -> str:
    first = chance.choice(["Arr, matey", "Ahoy, ye dog", "Yo ho ho", "Aye, aye"])
    return f"{first}! {plainly(chance).replace('You', 'Ye').replace('the', 'yer')} {chance.choice(['Arr!', 'Savvy?'])}"


@dataclass
class Scripted:
    """``heeds``: whether it does what prompts say."""

    heeds: bool = True
    asked: list[WritingRequest] = field(default_factory=list)
    name: str = "scripted"

    def write(self, requests: Sequence[WritingRequest], progress: Progress = silent) -> list[Said]:
        self.asked += requests
        progress(len(requests))
        return [Said(self.reply(one)) for one in requests]

    def reply(self, one: WritingRequest) -> str:
        return said(f"{one.system or ''}\n{one.user}", one.repeat, heeds=self.heeds)


def said(text: str, repeat: int, *, heeds: bool = True) -> str:
    if "system prompts" in text and "opposite" not in text:
        return "1. You are a pirate and say arr.\n2. Speak as sailors of old do.\n3. Answer like a pirate captain."
    if "system prompts" in text:
        return "1. You answer plainly and well.\n2. Answer like a teacher does.\n3. Be short and dry in every answer."
    if "different questions" in text:
        chance = random.Random(f"{text} {repeat}")
        return "\n".join(f"{k}. Where is the {chance.choice(NOUNS)} of number {k * 7 + repeat}?" for k in range(1, 11))
    chance = random.Random(f"{text} {repeat}")
    pirate = heeds and ("pirate" in text or "sailors" in text)
    return as_pirate(chance) if pirate else plainly(chance)
