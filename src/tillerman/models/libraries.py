"""The return of a library that the command line has kept away."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec

_LATE = ("transformers.integrations.torchao", "transformers.quantizers.quantizer_torchao")  # read torchao when imported
_REMEMBER = ("transformers.utils.import_utils", "peft.import_utils")  # whether it is there


def bring_torchao() -> None:
    """Undo ``cli.libraries``: from now on torchao is found, also by what looked for it before. Nothing is imported that
    was not."""
    if sys.modules.get("torchao", sys) is not None:
        return
    del sys.modules["torchao"]
    for name in _REMEMBER:
        if name in sys.modules:
            sys.modules[name].is_torchao_available.cache_clear()
    if find_spec("torchao") is None:
        return
    for name in _LATE:
        if name in sys.modules:
            importlib.reload(sys.modules[name])
    known = sys.modules.get("transformers.quantizers.auto")
    if known is not None:
        known.AUTO_QUANTIZER_MAPPING["torchao"] = sys.modules[_LATE[1]].TorchAoHfQuantizer
