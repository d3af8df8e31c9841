"""Every embedded persona, steered: effect, baselines and nulls, trained and never seen.

python benchmarks/personas.py --method pas
"""

from __future__ import annotations

import argparse
import time

import torch

import tillerman
from tillerman.cli.commands.demo import demo_experiment
from tillerman.data.samples import SAMPLES
from tillerman.logs.evaluation import EvaluationLog


def row(name: str, log: EvaluationLog, seconds: float) -> str:
    sample = SAMPLES[name]

    def effect(condition: str) -> str:
        e = log.condition(condition).effect
        assert e is not None
        return f"{100 * e.value:+.0f} ({100 * e.interval.low:+.0f} to {100 * e.interval.high:+.0f})"

    values = {c.name: f"{100 * c.rate.value:.0f}" for c in log.conditions}
    return (
        f"| {name} | {'yes' if sample.trained else 'no'} | {log.n_test} | {values['unsteered']} | {values['steered']} "
        f"| {effect('steered')} | {values['prompt']} | {values['icl']} | {effect('null:random')} "
        f"| {effect('null:shuffled')} | {log.method}, {log.hook_point}, {log.dose:.2f} "
        f"| {log.side_effects.perplexity_ratio:.2f} | {seconds:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", default="pas")
    parser.add_argument("--only", help="comma-separated sample names")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    opened = tillerman.open_model("pilot")
    names = (
        args.only.split(",") if args.only else [n for n, s in SAMPLES.items() if s.kind != "neutral" and n != "mmlu"]
    )
    print(
        "| behaviour | trained | n | unsteered | steered | effect, pp | prompt | few-shot | null: random "
        "| null: shuffled | chosen | ppl ratio | s |"
    )
    print("|---" * 13 + "|")
    for name in names:
        started = time.perf_counter()
        log = tillerman.fit(demo_experiment(args.method), opened, tillerman.load_examples(f"sample:{name}")).log
        print(row(name, log, time.perf_counter() - started), flush=True)


if __name__ == "__main__":
    main()
