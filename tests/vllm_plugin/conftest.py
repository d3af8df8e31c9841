"""vLLM in this process, on the CPU: these tests run in an environment of their own (``make test-vllm``)."""

from __future__ import annotations

import gc
import os
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from . import models, second_runner

if find_spec("vllm") is None:
    collect_ignore_glob = ["test_*.py"]

os.environ.update(
    HF_HUB_OFFLINE="1",
    VLLM_CPU_KVCACHE_SPACE="1",
    VLLM_CPU_OMP_THREADS_BIND="nobind",
    VLLM_NO_USAGE_STATS="1",
    DO_NOT_TRACK="1",
    VLLM_ENABLE_V1_MULTIPROCESSING="0",
    VLLM_LOGGING_LEVEL="ERROR",
)

if os.environ.get("TILLERMAN_TRITON"):  # a folder with Triton: the second runner instead of the first
    second_runner.use(os.environ["TILLERMAN_TRITON"])


@pytest.fixture(scope="session", autouse=True)
def digests(tmp_path_factory):
    """The artefacts that the plugin serves: read from the environment when it is loaded, once in a process."""
    folder = tmp_path_factory.mktemp("artefacts")
    found = models.write_artefacts(folder)
    os.environ["TILLERMAN_ARTEFACTS"] = str(folder)
    return found


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory):
    """Folder of a family's model."""
    made: dict[str, Any] = {}

    def of(family):
        if family not in made:
            made[family] = tmp_path_factory.mktemp(family)
            models.model(family).save_pretrained(made[family])
        return made[family]

    return of


@pytest.fixture
def running(folder_of):
    """A context manager: vLLM with a family's model; it is gone afterwards."""

    @contextmanager
    def run(family, **options):
        from vllm import LLM
        from vllm.distributed import cleanup_dist_env_and_memory

        given = {"max_num_batched_tokens": 2048, **options}
        llm = LLM(
            model=str(folder_of(family)),
            skip_tokenizer_init=True,
            dtype="float32",
            enforce_eager=True,
            max_model_len=512,
            max_num_seqs=16,
            block_size=32,
            enable_prefix_caching=True,
            enable_chunked_prefill=True,
            **given,
        )
        try:
            assert is_second(llm) == bool(os.environ.get("TILLERMAN_TRITON"))
            yield llm
        finally:
            llm.llm_engine.engine_core.shutdown()
            del llm
            gc.collect()
            cleanup_dist_env_and_memory()

    return run


def is_second(llm):
    """Whether the second runner runs."""
    runner = llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker.model_runner
    return type(runner).__module__.startswith(("vllm.v1.worker.gpu.", "vllm.v1.worker.cpu."))


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
