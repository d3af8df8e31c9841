"""Vectors and steering of the pilot with 8-bit and 4-bit weights (torchao), beside bfloat16.

python benchmarks/quantised.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch
from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, quantize_
from torchao.quantization.granularity import PerGroup

import tillerman
from tillerman.data.loading import LoadedData
from tillerman.evaluation.exam import Exam
from tillerman.pipeline.run import Unwatched
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.vectors import fit_methods

BITS: dict[str, Callable[[], object] | None] = {
    "bf16": None,
    "int8": Int8WeightOnlyConfig,
    "int4, groups of 32": lambda: IntxWeightOnlyConfig(torch.int4, PerGroup(32)),
}
PERSONAS = ("interest-in-science", "agreeableness", "low-discount-rate")
POINT, DOSE = tillerman.HookPoint(3), 0.3


def opened(bits: str) -> tillerman.OpenModel:
    """The pilot in bfloat16, its linear layers quantised where asked for."""
    made = tillerman.open_model("pilot", dtype=torch.bfloat16)
    config = BITS[bits]
    if config is not None:
        quantize_(made.model, config())
    return tillerman.open_model(made.model, made.tokenizer)


def fitted(model: tillerman.OpenModel, data: LoadedData) -> tuple[tillerman.SteeringVector, Exam]:
    """CAA's mean difference on the training share, and the test share as an exam."""
    experiment = tillerman.Experiment(method="caa", max_train=300, layers=(POINT.layer,))
    bench = set_up(experiment, model, data, tillerman.Store(None, ""), Unwatched())
    return fit_methods(bench)[0]["caa"].vector, bench.test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    models = {bits: opened(bits) for bits in BITS}
    print(
        "| behaviour | weights | n | cosine of its own vector with bf16's | unsteered | steered by bf16's vector "
        "| effect, pp | same steered answers as bf16 | steered by its own vector |"
    )
    print("|---" * 9 + "|")
    for name in PERSONAS:
        data = tillerman.load_examples(f"sample:{name}")
        reference, _ = fitted(models["bf16"], data)
        strength = reference.strength(POINT, DOSE)
        said: dict[str, np.ndarray] = {}
        for bits, model in models.items():
            own, exam = fitted(model, data)
            plain = exam.correct()
            answers = exam.given((tillerman.Intervention(reference, strength),))
            mine = exam.correct((tillerman.Intervention(own, strength),))
            right = answers == np.array([written.right for written in exam.written])
            said[bits] = answers
            cosine = torch.cosine_similarity(own.directions[POINT], reference.directions[POINT], dim=0)
            print(
                f"| {name} | {bits} | {len(plain)} | {float(cosine):.4f} | {100 * plain.mean():.0f} "
                f"| {100 * right.mean():.0f} | {100 * (right.mean() - plain.mean()):+.0f} "
                f"| {100 * (answers == said['bf16']).mean():.0f} % | {100 * mine.mean():.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
