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


@pytest.fixture(scope="session")
def _engines(folder_of):
    """The engine that runs: one at a time, until another is asked for."""
    engines = _Engines(folder_of)
    yield engines
    engines.close()


@pytest.fixture
def running(_engines):
    """A context manager: vLLM with a family's model. Tests in a row that ask for the same one share it; what they do to
    it they undo."""

    @contextmanager
    def run(family, **options):
        llm = _engines.of(family, options)
        llm.reset_prefix_cache()
        yield llm

    return run


class _Engines:
    def __init__(self, folder_of):
        self._folder_of, self._asked, self._llm = folder_of, None, None

    def of(self, family, options):
        from vllm import LLM

        if self._asked != (family, options):
            self.close()
            self._llm = LLM(
                model=str(self._folder_of(family)),
                skip_tokenizer_init=True,
                dtype="float32",
                enforce_eager=True,
                max_model_len=512,
                max_num_seqs=16,
                block_size=32,
                enable_prefix_caching=True,
                enable_chunked_prefill=True,
                **{"max_num_batched_tokens": 2048, **options},
            )
            self._asked = (family, options)
            assert is_second(self._llm) == bool(os.environ.get("TILLERMAN_TRITON"))
        return self._llm

    def close(self):
        if self._llm is None:
            return
        from vllm.distributed import cleanup_dist_env_and_memory

        self._llm.llm_engine.engine_core.shutdown()
        self._llm, self._asked = None, None
        gc.collect()
        cleanup_dist_env_and_memory()


def is_second(llm):
    """Whether the second runner runs."""
    runner = llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker.model_runner
    return type(runner).__module__.startswith(("vllm.v1.worker.gpu.", "vllm.v1.worker.cpu."))


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
