"""How often the pipeline is right about what is known: labels by coin, and an effect that is there.

    python -m benchmarks.calibration coins     # shares of runs that claim an effect where there is none
    python -m benchmarks.calibration planted   # shares that find one, by number of items, beside what was foreseen
    python -m benchmarks.calibration nested    # optimism of the choice on labels by coin, and what nested folds say
    python -m benchmarks.calibration intervals # exact cover of the paired interval and of a percentile bootstrap

From the root of the repository; the model and the data are those of ``tests/planted.py``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from scipy import stats
from tests import planted

import tillerman
from tillerman.logs.evaluation import EvaluationLog
from tillerman.statistics.estimates import rate
from tillerman.statistics.power import power_of
from tillerman.statistics.tango import score_interval
from tillerman.statistics.values import Interval

Row = dict[str, object]


def counted(name: str, logs: Iterable[EvaluationLog]) -> Row:
    done = list(logs)
    found = np.array([log.effect.found for log in done])
    share = rate(found, ["A"] * len(found))
    return {
        "runs": name,
        "n": len(done),
        "test items": round(float(np.mean([log.n_test for log in done])), 1),
        "steered": sum(log.strength != 0 for log in done),
        "claims": int(found.sum()),
        "share": share.value,
        "interval": [round(share.interval.low, 4), round(share.interval.high, 4)],
    }


def coins(runs: int) -> Iterator[Row]:
    opened = planted.speaker()
    for zero in (True, False):
        e = replace(planted.SMALL, zero=zero)
        logs = (tillerman.fit(replace(e, seed=k), opened, planted.coins(k)).log for k in range(runs))
        yield counted("may abstain" if zero else "must steer", logs)


def steady(runs: int) -> Iterator[Row]:
    opened = planted.speaker()
    for items in (50, 100, 200, 400):
        logs = [
            tillerman.fit(replace(planted.SMALL, seed=k), opened, planted.labelled(k, items, 1.0)).log
            for k in range(runs)
        ]
        true, n = float(np.mean([log.effect.value for log in logs])), round(np.mean([log.n_test for log in logs]))
        # Every label is yes: what changes its answer to yes is gained, and next to nothing is lost.
        yield counted(f"planted, {items} items", logs) | {
            "effect": true,
            "foreseen": power_of(true, n, max(true, 0.01)),
        }


def nested(runs: int) -> Iterator[Row]:
    opened, told, true = planted.speaker(), [], []
    for k in range(runs):
        e = replace(planted.SMALL, seed=k, zero=False, nested=4)
        log = tillerman.fit(e, opened, planted.coins(k, 300)).log
        assert log.nested is not None
        told.append(log.nested.optimism)
        score = max(cell.score for cell in log.cells) - log.condition("unsteered").rate.value
        true.append(score - log.effect.value)
    yield {
        "runs": runs,
        "optimism by nested folds": [float(np.mean(told)), float(np.std(told) / runs**0.5)],
        "optimism of the run itself": [float(np.mean(true)), float(np.std(true) / runs**0.5)],
    }


def intervals(runs: int) -> Iterator[Row]:
    """``runs`` is the number of draws of each bootstrap; the cover is exact, a sum over all counts."""
    random = np.random.default_rng(0)
    for n in (20, 50, 100):
        counts = [(g, l) for g in range(n + 1) for l in range(n + 1 - g)]
        kinds = {
            "tango": [score_interval(g, l, n) for g, l in counts],
            "bootstrap": [_percentiles(random, g, l, n, runs) for g, l in counts],
        }
        for changed, effect in ((0.05, 0.0), (0.05, 0.05), (0.1, 0.1), (0.2, 0.1), (0.4, 0.0), (0.4, 0.35)):
            gain, loss = (changed + effect) / 2, (changed - effect) / 2
            likely = stats.multinomial.pmf([(g, l, n - g - l) for g, l in counts], n, [gain, loss, 1 - changed])
            covers = {
                kind: float(sum(p for p, i in zip(likely, found, strict=True) if i.low <= effect <= i.high))
                for kind, found in kinds.items()
            }
            yield {"n": n, "changed": changed, "effect": effect} | covers


def _percentiles(random: np.random.Generator, gained: int, lost: int, n: int, draws: int) -> Interval:
    drawn = random.multinomial(n, [lost / n, (n - gained - lost) / n, gained / n], size=draws)
    low, high = np.quantile((drawn[:, 2] - drawn[:, 0]) / n, [0.025, 0.975])
    return Interval(float(low), float(high))


PARTS = {"coins": coins, "planted": steady, "nested": nested, "intervals": intervals}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--runs", type=int, default=1000)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    started = time.process_time()
    for row in PARTS[asked.part](asked.runs):
        print(json.dumps(row), flush=True)
    print(json.dumps({"CPU seconds": round(time.process_time() - started)}))


if __name__ == "__main__":
    main()
