"""Trains the sentiment classifier that ships with the scorers; the same input gives the same weights up to rounding.

    python tools/sentiment/train.py --data ../shared/data

Trained on GoEmotions' train file, strength of the penalty and temperature chosen on its dev file, measured on its
test file and, as text of another kind, on the sentences of SST-2. A comment with emotions of one sign only has that
class; one of both signs, or with none but ambiguous ones (confusion, curiosity, realization, surprise), is left out.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy import optimize, sparse, stats

from tillerman.core.files import replacing, write_text
from tillerman.evaluation.scorers.sentiment import BUCKETS, CLASSES, ClassifierCard, ClassifierTrial, features
from tillerman.statistics.estimates import rate
from tillerman.statistics.values import Interval

OUT = Path(__file__).parents[2] / "src/tillerman/evaluation/scorers/files"
POSITIVE = {
    "admiration",
    "amusement",
    "approval",
    "caring",
    "desire",
    "excitement",
    "gratitude",
    "joy",
    "love",
    "optimism",
    "pride",
    "relief",
}
NEGATIVE = {
    "anger",
    "annoyance",
    "disappointment",
    "disapproval",
    "disgust",
    "embarrassment",
    "fear",
    "grief",
    "nervousness",
    "remorse",
    "sadness",
}
PENALTIES = (5e-6, 1e-5, 2e-5)
STEPS = 150
BINS = 15

Set = tuple[list[str], NDArray[np.int64]]  # texts, and the place of each one's class


def read(path: Path) -> list[str]:
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8").splitlines()


def comments(folder: Path, file: str) -> Set:
    names = read(folder / "labels.txt")

    def rows() -> Iterator[tuple[str, int]]:
        for line in read(folder / file):
            text, labels, _ = line.split("\t")
            said = {names[int(i)] for i in labels.split(",")}
            up, down = bool(said & POSITIVE), bool(said & NEGATIVE)
            if up != down:
                yield text, CLASSES.index("positive" if up else "negative")
            elif said == {"neutral"}:
                yield text, CLASSES.index("neutral")

    texts, labels = zip(*rows(), strict=True)
    return list(texts), np.array(labels)


def sentences(path: Path) -> Set:
    rows = [line.rsplit("\t", 1) for line in read(path)[1:]]
    return [text for text, _ in rows], np.array([2 * int(label) for _, label in rows])


def table(texts: list[str]) -> sparse.csr_matrix:
    """``[n, buckets]``; every row has length 1."""
    found = [features(text) for text in texts]
    starts = np.cumsum([0, *map(len, found)])
    values = np.concatenate([np.full(len(row), max(1, len(row)) ** -0.5) for row in found])
    return sparse.csr_matrix((values, np.concatenate(found), starts), (len(texts), BUCKETS))


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def nats(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    return float(-np.log(softmax(logits)[np.arange(len(labels)), labels]).mean())


def train(x: sparse.csr_matrix, labels: NDArray[np.int64], penalty: float) -> tuple[NDArray, NDArray]:
    """Weights ``[buckets, 3]`` and bias ``[3]`` of least ``mean nats + penalty / 2 * |weights|^2``."""
    size, one_hot = 3 * BUCKETS, np.eye(3)[labels]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights, bias = flat[:size].reshape(-1, 3), flat[size:]
        logits = x @ weights + bias
        slope = (softmax(logits) - one_hot) / len(labels)
        value = nats(logits, labels) + penalty / 2 * float((weights**2).sum())
        return value, np.concatenate([(x.T @ slope + penalty * weights).ravel(), slope.sum(0)])

    found = optimize.minimize(loss, np.zeros(size + 3), jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    return found.x[:size].reshape(-1, 3), found.x[size:]


def eight_bit(weights: NDArray, bias: NDArray) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float32]]:
    """Weights, scale and bias of negative and positive relative to neutral."""
    polar = weights[:, [0, 2]] - weights[:, [1]]
    scale = np.abs(polar).max(0) / 127
    return np.rint(polar / scale).astype(np.int8), scale.astype(np.float32), (bias[[0, 2]] - bias[1]).astype(np.float32)


def logits_of(x: sparse.csr_matrix, weights: NDArray, scale: NDArray, bias: NDArray) -> NDArray[np.float64]:
    polar = x @ (weights.astype(np.float64) * scale) + bias
    return np.stack([polar[:, 0], np.zeros(len(polar)), polar[:, 1]], 1)


def trial(name: str, chances: NDArray[np.float64], labels: NDArray[np.int64]) -> ClassifierTrial:
    polar = labels != 1
    positive, score = labels[polar] == 2, (chances[:, 2] - chances[:, 0])[polar]
    sure = (chances[:, 2] / (chances[:, 2] + chances[:, 0]))[polar]
    names = [CLASSES[i] for i in labels]
    contrast, apart = _contrast(score, positive)
    area, around = _area(score, positive)
    return ClassifierTrial(
        data_name=name,
        accuracy=rate((score > 0) == positive, [n for n in names if n != "neutral"]),
        auc=area,
        auc_interval=around,
        contrast=contrast,
        contrast_interval=apart,
        brier=float(((sure - positive) ** 2).mean()),
        calibration_error=_calibration_error(sure, positive),
        three_way=None if polar.all() else rate(chances.argmax(1) == labels, names),
    )


def _area(score: NDArray[np.float64], positive: NDArray[np.bool_]) -> tuple[float, Interval]:
    """Area under the ROC curve, with DeLong's variance."""
    up, down = score[positive], score[~positive]
    above = np.array([np.mean(value > down) + np.mean(value == down) / 2 for value in up])
    below = np.array([np.mean(value < up) + np.mean(value == up) / 2 for value in down])
    area, half = float(above.mean()), 1.96 * (above.var(ddof=1) / len(up) + below.var(ddof=1) / len(down)) ** 0.5
    return area, Interval(area - half, area + half)


def _contrast(score: NDArray[np.float64], positive: NDArray[np.bool_]) -> tuple[float, Interval]:
    up, down = score[positive], score[~positive]
    found = stats.ttest_ind(up, down, equal_var=False).confidence_interval()
    return float(up.mean() - down.mean()), Interval(float(found.low), float(found.high))


def _calibration_error(sure: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = [abs(float((positive - sure)[bins == b].sum())) for b in range(BINS)]
    return sum(gaps) / len(sure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the shared data folder")
    data = parser.parse_args().data
    emotions = data / "emotion/goemotions/original"
    texts, labels = comments(emotions, "train.tsv.gz")
    held, held_labels = comments(emotions, "dev.tsv")
    x, held_x = table(texts), table(held)
    best, least = None, np.inf
    for penalty in PENALTIES:
        weights, scale, bias = eight_bit(*train(x, labels, penalty))
        raw = logits_of(held_x, weights, scale, bias)
        cooled = optimize.minimize_scalar(lambda t, raw=raw: nats(raw / t, held_labels), bounds=(0.2, 5))
        print(f"penalty {penalty:g}: {cooled.fun:.4f} nats on dev at temperature {cooled.x:.3f}", flush=True)
        if cooled.fun < least:
            best, least = (weights, scale / cooled.x, bias / cooled.x, float(cooled.x)), cooled.fun
    weights, scale, bias, temperature = best
    trials = []
    for name, (some, truth) in {
        "GoEmotions, test": comments(emotions, "test.tsv"),
        "SST-2, sentences": sentences(data / "sentiment/sst2/test.tsv"),
    }.items():
        trials.append(trial(name, softmax(logits_of(table(some), weights, scale, bias)), truth))
        print(trials[-1])
    OUT.mkdir(exist_ok=True)
    stored = {"weights": weights, "scale": scale.astype(np.float32), "bias": bias.astype(np.float32)}
    with replacing(OUT / "sentiment.safetensors") as part:
        save_file({key: np.ascontiguousarray(value) for key, value in stored.items()}, part)
    card = ClassifierCard("GoEmotions, train (Demszky et al. 2020)", len(texts), temperature, tuple(trials))
    write_text(OUT / "sentiment.json", json.dumps(asdict(card), indent=1) + "\n")


if __name__ == "__main__":
    main()
