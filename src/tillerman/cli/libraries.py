"""Libraries in a process of ours: their bars, advice and warnings are not ours to show, and what no command needs is
not imported."""

from __future__ import annotations

import logging
import os
import sys

# Loggers with handlers of their own, or that speak while they are imported.
NOISY = ("torch.utils._pytree", "torchao", "bitsandbytes")
_NOT_AT_ONCE = ("torchao",)


def quiet_libraries() -> None:
    """transformers imports torchao wherever it is installed, which takes a second and warns; here it finds none until
    ``models.libraries`` brings it back."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    for name in _NOT_AT_ONCE:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # what import takes for "not there"
