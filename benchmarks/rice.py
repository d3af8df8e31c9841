"""RICE on pilot-moe: accuracy and thought length against n and beta, and against experts drawn at random.

    python benchmarks/rice.py --items 100
    python benchmarks/rice.py --items 100 --system "Think briefly."

Prints a table for RESULTS.md. Experts are found on the training share; figures are of the test share.
"""

from __future__ import annotations

import argparse
import sys

import tillerman
from tillerman.core.plan import Intervention, Plan
from tillerman.core.steerings.base import Steering
from tillerman.core.steerings.vector import SteeringVector
from tillerman.data.thoughts import Reply
from tillerman.evaluation.thoughts import thinking
from tillerman.logs.thoughts import Thinking
from tillerman.methods.registry import method
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.vectors import fit_methods
from tillerman.reports.numbers import percent, points, span

BETAS = (1.5, 2.0, 4.0, 16.0, 64.0)
METHODS = ("rice:experts=1", "rice", "rice:experts=5", "rice-renormalised")
DRAWS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--system", help="system prompt under which everything runs")
    args = parser.parse_args()
    experiment = tillerman.Experiment(
        method=",".join(METHODS), system=args.system, max_test=args.items, answer_tokens=200
    )
    opened, data = tillerman.open_model("pilot-moe"), tillerman.load_examples("sample:sums")
    bench = set_up(experiment, opened, data, tillerman.Store(None, ""), tillerman.ProgressBar())
    fitted, _ = fit_methods(bench)
    vectors = {name: one.vector for name, one in fitted.items() if isinstance(one.vector, SteeringVector)}
    plans: dict[str, list[Plan]] = {"unsteered": [()]}
    for name, vector in vectors.items():
        plans |= {f"{name}, β = {beta:g}": [plan(vector, beta)] for beta in BETAS}
    for name, beta in (("rice:experts=1", 4.0), ("rice", 2.0), ("rice", 64.0)):
        drawn = [plan(vectors[name].random_like(seed), beta) for seed in range(DRAWS)]
        plans[f"as {name}, experts drawn at random ({DRAWS} times), β = {beta:g}"] = drawn
    flat = [one for group in plans.values() for one in group]
    with bench.watch.stage("replies", len(flat) * len(bench.test.items)) as progress:
        said = iter(bench.test.replies_under(flat, bench.store, progress))
    references = [item.answers[item.right] for item in bench.test.items]
    print(f"System prompt: {args.system or 'none'}; {len(references)} test items.\n")
    print("| steering | right | effect, pp (95 %) | thought, tokens | without repeats | unended |")
    print("|---|---|---|---|---|---|")
    plain: list[Reply] = []
    for label, group in plans.items():
        replies = [reply for _ in group for reply in next(said)]
        plain = plain or replies
        print(row(label, thinking(label, replies, references * len(group), plain * len(group))))
    print(*method("rice").report(vectors["rice:experts=5"].provenance.found), sep="\n", file=sys.stderr)


def plan(vector: Steering, beta: float) -> Plan:
    return (Intervention(vector, beta - 1, vector.operator),)


def row(label: str, it: Thinking) -> str:
    assert it.right is not None and it.effect is not None  # every item has a reference
    effect = f"{points(it.effect.value)} ({span(it.effect.interval, signed=True)})"
    return (
        f"| {label} | {percent(it.right.value)} | {effect} | {it.length.value:.1f} | {it.stripped.value:.1f} | "
        f"{percent(it.unfinished.value)} |"
    )


if __name__ == "__main__":
    main()
