"""The benchmark of a real accelerator runs: in tiny sizes, on a pretended one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

import tillerman

from .machine import pretend_machine


@pytest.mark.slow
def test_the_benchmark_compares_with_the_cpu_and_counts_tokens():
    path = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
    found = importlib.util.spec_from_file_location("gpu_benchmark", path)
    gpu = importlib.util.module_from_spec(found)
    found.loader.exec_module(gpu)
    tillerman.open_model("pilot")  # transformers' code of the model is imported on a machine as it is
    with pretend_machine():
        facts, faults = gpu.small("pilot", "cuda", torch.float32)
        large = gpu.large("tiny", "cuda")
    assert faults == []
    assert 0 <= facts["activations_apart"] < 1e-4
    assert facts["rates_device_cpu"]["steered"][0] == facts["rates_device_cpu"]["steered"][1]
    assert set(facts["tokens_per_s"]) == set(large["tokens_per_s"]) == {"unsteered", "steered"}
    assert large["captured_tokens_per_s"] > 0
