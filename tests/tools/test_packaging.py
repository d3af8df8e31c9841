"""What is shipped: a wheel of bounded size, and a Dockerfile that a linter passes and whose files are there."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_packages_files_make_a_wheel_below_ten_megabytes() -> None:
    """Packed as a wheel packs them: the build backend adds only metadata."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path in sorted((ROOT / "src/tillerman").rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                wheel.write(path, path.relative_to(ROOT / "src"))
    assert 1_000_000 < packed.tell() < 10_000_000


def test_hadolint_passes_the_dockerfile() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    assert hadolint is not None, "hadolint comes with the development environment: make test"
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_dockerfile_copies_what_is_there_and_installs_what_ci_tests() -> None:
    copied = [name for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()]
    assert copied and all((ROOT / name).exists() for name in copied)
    assert {"pyproject.toml", "constraints.txt", "src", PROJECT["readme"], "LICENSE"} <= set(copied)
    (torch,) = re.findall(r'"torch==([\d.]+)"', DOCKERFILE)
    assert f"torch=={torch}\n" in (ROOT / "constraints.txt").read_text(encoding="utf-8")
    (entry,) = re.findall(r'^ENTRYPOINT \["(\w+)"\]', DOCKERFILE, re.MULTILINE)
    assert entry in PROJECT["scripts"]
    extras = re.findall(r"^ARG EXTRAS=(\S+)", DOCKERFILE, re.MULTILINE)
    assert extras and set(extras[0].split(",")) <= set(PROJECT["optional-dependencies"])


def test_the_version_is_said_once_and_the_same_twice() -> None:
    said = re.search(r'^__version__ = "(.+)"', (ROOT / "src/tillerman/__init__.py").read_text("utf-8"), re.MULTILINE)
    assert said is not None and said[1] == PROJECT["version"]
