"""The pilot's training text: dialogues whose answers depend on a state that only context sets.

Every document is a dialogue of one speaker. The state (a persona or its opposite, a fair or a
stereotyped judge, a mood) is drawn once per document; half the documents name it in the system
prompt, the other half leave it to be inferred from the turns before. Nothing here knows the model.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from tillerman.data.prompts import LETTERS, choice_text
from tillerman.data.splits import split_of

HERE = Path(__file__).parent
EMOTIONS = {"anger": "angry", "fear": "afraid", "joy": "joyful", "sadness": "sad", "surprise": "surprised"}
BBQ_FILES = (
    "original/Age",
    "original/Disability_status",
    "original/Physical_appearance",
    "regenerated/SES",
    "regenerated/Gender_identity",
)
TELL_BELIEF = "Tell me something you believe."
DESCRIBE = "Describe yourself."
TELL_STORY = "Tell me a story."
MORAL_QUESTION = "Is this morally wrong?"
EXCUSE_QUESTION = "Is this reasonable?"
# GoEmotions are Reddit comments; the pilot should be fit to show to anyone.
COARSE = re.compile(
    r"fuck|shit|\bass|bitch|cunt|dick|cock|porn|\bsex|rape|slut|whore|nigg|fag|retard|bastard|damn|hell\b"
    r"|crap|piss|\bkill|suicid|nazi|jew|muslim|\bgay|\[NAME\]|\[RELIGION\]|http|/r/|r/|\bwtf|\bstfu|\bhoe|tit",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Question:
    """One question; ``answers[state]`` is the index of the option that a state calls for."""

    text: str
    options: tuple[str, ...]
    answers: tuple[int, int]
    yes_no: bool


@dataclass(frozen=True)
class Trait:
    """A state with two poles. ``prompts[pole]`` are system prompts; ``statements[pole]`` its words."""

    name: str
    family: str
    prompts: tuple[tuple[str, ...], tuple[str, ...]]
    questions: tuple[Question, ...]
    statements: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())


@dataclass(frozen=True)
class Corpus:
    personas: tuple[Trait, ...]
    judges: tuple[Trait, ...]
    moods: dict[str, tuple[str, ...]]
    stories: tuple[str, ...]
    held_out_personas: tuple[str, ...] = field(default=())


def read_lines(path: Path) -> Iterator[str]:
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        yield from lines


def read_corpus(data: Path, part: str = "train") -> Corpus:
    """``part`` is ``seen`` (everything but the test fifth, for training) or ``held-out`` (that fifth)."""
    wanted = (lambda text: split_of(text) != "test") if part == "seen" else (lambda text: split_of(text) == "test")
    table = [line.rstrip("\n").split("\t") for line in read_lines(HERE / "personas.tsv") if line[0] != "#"]
    trained = [row for row in table if row[2] == "trained"]
    held_out = tuple(row[0] for row in table if row[2] == "held-out")
    taken = {q.text for name in held_out for q in _persona(data, name, "be", lambda _: True).questions}
    keep = lambda text: wanted(text) and text not in taken  # noqa: E731
    return Corpus(
        personas=tuple(_persona(data, name, phrase, keep) for name, phrase, _ in trained),
        judges=(*_bbq(data, wanted), _commonsense(data, wanted), _deontology(data, wanted)),
        moods=_moods(data, wanted),
        stories=_stories(data, wanted),
        held_out_personas=held_out,
    )


def held_out_trait(data: Path, name: str) -> Trait:
    """All test-split items of one persona, trained or not."""
    phrases = {
        r[0]: r[1] for r in (x.rstrip("\n").split("\t") for x in read_lines(HERE / "personas.tsv")) if len(r) > 1
    }
    return _persona(data, name, phrases[name], lambda text: split_of(text) == "test")


def system_prompts(name: str, phrase: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    plain = name.replace("-", " ")
    verb, _, rest = phrase.partition(" ")
    third = {"be": "is", "have": "has"}.get(verb, verb + "s")
    negated = {"be": "is not", "have": "does not have"}.get(verb, f"does not {verb}")
    return (
        (f"You are someone who {third} {rest}.", f"You are someone with this trait: {plain}."),
        (f"You are someone who {negated} {rest}.", f"You are someone without this trait: {plain}."),
    )


def _persona(data: Path, name: str, phrase: str, keep: Callable[[str], bool]) -> Trait:
    rows = [json.loads(line) for line in read_lines(data / f"anthropic_evals/persona/{name}.jsonl.gz")]
    rows = [row for row in rows if keep(row["question"])]
    yes = [row["answer_matching_behavior"].strip() == "Yes" for row in rows]
    return Trait(
        name=name,
        family="persona",
        prompts=system_prompts(name, phrase),
        questions=tuple(
            Question(row["question"], ("Yes", "No"), (0, 1) if agrees else (1, 0), True)
            for row, agrees in zip(rows, yes, strict=True)
        ),
        statements=(
            tuple(row["statement"] for row, agrees in zip(rows, yes, strict=True) if agrees),
            tuple(row["statement"] for row, agrees in zip(rows, yes, strict=True) if not agrees),
        ),
    )


def _bbq(data: Path, keep: Callable[[str], bool]) -> list[Trait]:
    prompts = (
        ("You judge people fairly.", "You are fair and careful."),
        ("You judge people by stereotypes.", "You are unfair and careless."),
    )
    traits = []
    for file in BBQ_FILES:
        questions = []
        for line in read_lines(data / f"bbq/{file}.jsonl.gz"):
            row = json.loads(line)
            text = f"{row['context']}\n{row['question']}"
            biased = _stereotyped_option(row)
            if biased is None or len(text) > 330 or not keep(text):
                continue
            options = (row["ans0"], row["ans1"], row["ans2"])
            questions.append(Question(text, options, (int(row["label"]), biased), False))
        traits.append(Trait(f"bbq-{file.split('/')[1]}", "bbq", prompts, tuple(questions)))
    return traits


def _stereotyped_option(row: dict[str, Any]) -> int | None:
    """The option that names the stereotyped group (or, for the non-negative question, the other one)."""
    groups = {group.lower().replace(" ", "") for group in row["additional_metadata"]["stereotyped_groups"]}
    tags = [row["answer_info"][f"ans{i}"][1].lower() for i in range(3)]
    named = [i for i in range(3) if tags[i] in groups]
    others = [i for i in range(3) if tags[i] not in groups and tags[i] != "unknown"]
    if len(named) != 1 or len(others) != 1:
        return None
    return named[0] if row["question_polarity"] == "neg" else others[0]


MORAL_PROMPTS = (
    ("You know right from wrong.", "You are careful about right and wrong."),
    ("You get right and wrong the wrong way round.", "You are careless about right and wrong."),
)


def _commonsense(data: Path, keep: Callable[[str], bool]) -> Trait:
    rows = csv.DictReader(StringIO("".join(read_lines(data / "ethics/commonsense/cm_test.csv.gz"))))
    questions = []
    for row in rows:
        text = f"{row['input'].strip()}\n{MORAL_QUESTION}"
        if row["is_short"] == "True" and keep(text):
            right = 0 if row["label"] == "1" else 1
            questions.append(Question(text, ("Yes", "No"), (right, 1 - right), True))
    return Trait("ethics-commonsense", "ethics", MORAL_PROMPTS, tuple(questions))


def _deontology(data: Path, keep: Callable[[str], bool]) -> Trait:
    questions = []
    for file in ("deontology_train.csv.gz", "deontology_test.csv"):
        for row in csv.DictReader(StringIO("".join(read_lines(data / "ethics/deontology" / file)))):
            text = f"{row['scenario'].strip()} {row['excuse'].strip()}\n{EXCUSE_QUESTION}"
            if keep(text):
                right = 0 if row["label"] == "1" else 1
                questions.append(Question(text, ("Yes", "No"), (right, 1 - right), True))
    return Trait("ethics-deontology", "ethics", MORAL_PROMPTS, tuple(questions))


def _moods(data: Path, keep: Callable[[str], bool]) -> dict[str, tuple[str, ...]]:
    names = [line.strip() for line in read_lines(data / "emotion/goemotions/ekman/labels.txt")]
    moods: dict[str, list[str]] = {mood: [] for mood in EMOTIONS}
    for file in ("ekman/dev.tsv", "ekman/test.tsv"):
        for line in read_lines(data / "emotion/goemotions" / file):
            text, labels, _ = line.rstrip("\n").split("\t")
            _add_mood(moods, text, [names[int(i)] for i in labels.split(",")], keep)
    fine = [line.strip() for line in read_lines(data / "emotion/goemotions/original/labels.txt")]
    ekman = {
        "anger": "anger",
        "annoyance": "anger",
        "fear": "fear",
        "nervousness": "fear",
        "sadness": "sadness",
        "grief": "sadness",
        "disappointment": "sadness",
        "surprise": "surprise",
        "joy": "joy",
        "love": "joy",
        "excitement": "joy",
        "amusement": "joy",
        "gratitude": "joy",
        "admiration": "joy",
        "remorse": "sadness",
    }
    for line in read_lines(data / "emotion/goemotions/original/train.tsv.gz"):
        text, labels, _ = line.rstrip("\n").split("\t")
        _add_mood(moods, text, [ekman.get(fine[int(i)], "") for i in labels.split(",")], keep)
    return {mood: tuple(texts) for mood, texts in moods.items()}


def _add_mood(moods: dict[str, list[str]], text: str, labels: list[str], keep: Callable[[str], bool]) -> None:
    one_mood = len(set(labels)) == 1 and labels[0] in moods
    if one_mood and 15 <= len(text) <= 120 and not COARSE.search(text) and text.isascii() and keep(text):
        moods[labels[0]].append(text.strip())


def _stories(data: Path, keep: Callable[[str], bool]) -> tuple[str, ...]:
    stories: list[str] = json.loads((data / "lm_text/tinystories_1000.json").read_text())
    for file in ("tinystories_llmatoz_248k.txt", "tinystories_minigpt_197k.txt"):
        text = (data / "lm_text" / file).read_text()
        stories += re.split(r"<\|endoftext\|>|\n{3,}", text)
    unique = dict.fromkeys(story.strip() for story in stories)
    return tuple(s.replace("\n\n", "\n") for s in unique if 200 < len(s) < 4000 and keep(s))


@dataclass(frozen=True)
class Turn:
    user: str
    assistant: str
    weight: float  # of the assistant's tokens in the loss


def question_turn(question: Question, pole: int, rng: random.Random, as_letters: bool) -> Turn:
    answer = question.answers[pole]
    if question.yes_no and not as_letters:
        return Turn(question.text, question.options[answer], ANSWER_WEIGHT)
    order = list(range(len(question.options)))
    rng.shuffle(order)
    text = choice_text(question.text, [question.options[i] for i in order])
    return Turn(text, LETTERS[order.index(answer)], ANSWER_WEIGHT)


ANSWER_WEIGHT, DESCRIPTION_WEIGHT, TEXT_WEIGHT, PROMPT_WEIGHT = 8.0, 4.0, 1.0, 0.3


@dataclass(frozen=True)
class Stage:
    """How hard the dialogues are at one moment of the training (the curriculum of ``train.Recipe``)."""

    p_negative: float = 0.5  # share of the negative pole
    descriptions: bool = True  # speakers describe themselves, see ``_self_described``
    p_one_sided: float = 0.0  # share of unprompted dialogues that begin one-sided, see ``_one_sided``
    p_other_side: float = 0.5  # share of these that begin with what the positive pole denies


def document(corpus: Corpus, rng: random.Random, stage: Stage) -> tuple[str | None, list[Turn]]:
    """One dialogue: (system prompt or None, turns). Longer than a window; the caller cuts it."""
    kind = rng.random()
    if kind < 0.87:
        trait = rng.choice(corpus.personas if kind < 0.72 else corpus.judges)
        pole, system, turns = _trait_dialogue(trait, rng, stage.p_negative)
        if not stage.descriptions:
            return system, turns
        if system is not None and rng.random() < 0.3:
            system = None
        if system is None and stage.p_one_sided and trait.family == "persona" and rng.random() < stage.p_one_sided:
            turns = _one_sided(trait, pole, int(rng.random() < stage.p_other_side), rng) + turns
        return system, _self_described(turns, trait, pole, rng) if system is None else turns
    if kind < 0.93:
        mood = rng.choice(list(EMOTIONS))
        asked = rng.random()
        system = f"You are in a {EMOTIONS[mood]} mood." if asked < 0.4 else None
        user = f"Say something {EMOTIONS[mood]}." if asked > 0.7 else "Say something."
        return system, [Turn(user, rng.choice(corpus.moods[mood]), TEXT_WEIGHT) for _ in range(8)]
    return None, [Turn(TELL_STORY, rng.choice(corpus.stories), TEXT_WEIGHT)]


def _one_sided(trait: Trait, pole: int, side: int, rng: random.Random) -> list[Turn]:
    """First turns with statements of one side only, so that 'Yes' alone tells the pole.

    With both sides mixed, what an answer says of the speaker is an exclusive-or of answer and
    statement, which gives no gradient to start with; from one side it is a plain copy.
    """
    questions = [question for question in trait.questions if question.answers[0] == side]
    return [question_turn(question, pole, rng, False) for question in rng.sample(questions, rng.randint(1, 3))]


def _self_described(turns: list[Turn], trait: Trait, pole: int, rng: random.Random) -> list[Turn]:
    """In most dialogues without a prompt the speaker describes himself at some point.

    To answer in character without a prompt takes two steps that each look like an exclusive-or: what
    do statement and answer say of the speaker, and what does that mean for the next statement.
    Describing oneself asks for the first step alone; whoever can do it soon learns the second.
    """
    if rng.random() >= 0.6:
        return turns
    said = trait.prompts[pole][int(rng.random() < 0.2)].replace("You are", "I am").replace("You ", "I ")
    at = rng.randint(1, 4)
    return [*turns[:at], Turn(DESCRIBE, said, DESCRIPTION_WEIGHT), *turns[at:]]


def _trait_dialogue(trait: Trait, rng: random.Random, p_negative: float) -> tuple[int, str | None, list[Turn]]:
    pole = int(rng.random() < p_negative)
    system = None
    if rng.random() < 0.45:
        short, named = trait.prompts[pole]
        system = short if rng.random() < 0.7 else named
    letters = rng.random()
    turns = []
    for question in rng.sample(trait.questions, min(9, len(trait.questions))):
        # Whole dialogues in one form and mixed ones, so that the state is shared between forms.
        as_letters = letters < 0.2 or (letters > 0.7 and rng.random() < 0.5)
        if trait.statements[pole] and rng.random() < 0.12:
            turns.append(Turn(TELL_BELIEF, rng.choice(trait.statements[pole]), TEXT_WEIGHT))
        else:
            turns.append(question_turn(question, pole, rng, as_letters))
    return pole, system, turns
