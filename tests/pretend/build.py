"""Compile the guards of the pretend devices, once per torch and source, into the user's cache folder."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest
import torch

SOURCE = Path(__file__).with_name("guard.cpp")
CI = "CI"  # set by .ci/run: what cannot be tested there is a failure


@cache
def load_guards() -> None:
    """Into this process, for good. Without a compiler the test is skipped, in CI it fails."""
    compiler = shutil.which("g++")
    if compiler is None:
        said = "the pretend device needs g++ (on Debian: apt-get install g++)"
        pytest.fail(said) if os.environ.get(CI) else pytest.skip(said)
    ctypes.CDLL(str(_built(compiler)))


def _built(compiler: str) -> Path:
    key = hashlib.blake2b(SOURCE.read_bytes() + torch.__version__.encode(), digest_size=8).hexdigest()
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tillerman-tests"
    wanted = folder / f"guard-{key}.so"
    if not wanted.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        where = Path(torch.__file__).parent
        with tempfile.TemporaryDirectory(dir=folder) as work:
            made = Path(work) / wanted.name
            options = ["-std=c++20", "-shared", "-fPIC", f"-I{where / 'include'}", f"-L{where / 'lib'}"]
            subprocess.run([compiler, *options, str(SOURCE), "-lc10", "-o", str(made)], check=True)
            made.replace(wanted)  # whole or not at all, also where two workers build it
    return wanted
