"""Whether the searched prompt reaches what prompts written by hand reach, on rows of pirate speech.

    python benchmarks/prompt_baseline.py --model path/to/instruct-model

``sample:pirate`` has 60 ordinary questions with a plain answer (rejected), and the same in pirate speech (chosen).
"""

from __future__ import annotations

import argparse

import tillerman
from tillerman.core.store import Store
from tillerman.evaluation.exam import Exam
from tillerman.pipeline.run import Run, Unwatched
from tillerman.pipeline.set_up import set_up

BY_HAND = (
    "You are a pirate. Talk like a pirate.",
    "Answer every question in the voice of a pirate.",
    "You are a pirate. Always answer like a pirate: say arr, matey, ye and aye aye.",
)


def right(run: Run, prompt: str) -> str:
    """On the test items, in per cent, and the mean log-odds of the wanted answer."""
    exam = Exam.of(run.opened, run.test.items, run.writer.with_system(prompt or None))
    (scores,) = exam.scores_under([()], run.store)
    margins = [row[w.right] - row[1 - w.right] for row, w in zip(scores, exam.written, strict=True)]
    return f"{100 * sum(m > 0 for m in margins) / len(margins):.0f} | {sum(margins) / len(margins):+.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pilot")
    parser.add_argument("--data", default="sample:pirate")
    args = parser.parse_args()
    experiment = tillerman.Experiment(shares=(0.4, 0.25, 0.35))
    data, opened = tillerman.load_examples(args.data), tillerman.open_model(args.model)
    run = set_up(experiment, opened, data, Store(None, ""), Unwatched())
    print(f"{len(run.train.items)} train, {len(run.validation.items)} validation, {len(run.test.items)} test items\n")
    print("| prompt | validation, % | test, % | test, log-odds |\n|---|---|---|---|")
    for one in run.prompts.tried:
        said = " ".join(one.text.split())[:90] or "none"
        print(f"| {one.source}: {said} | {100 * (one.score or 0):.0f} | {right(run, one.text)} |", flush=True)
    for text in BY_HAND:
        print(f"| by hand: {text} | | {right(run, text)} |", flush=True)
    print(f"\nThe search took {run.prompts.seconds:.0f} s.")


if __name__ == "__main__":
    main()
