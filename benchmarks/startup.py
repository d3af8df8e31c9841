"""Start-up: what importing Tillerman costs beyond torch, and how long ``tillerman --help`` takes.

    python benchmarks/startup.py

Each time is the median wall time of fresh interpreters that take turns. Names are loaded on first use, so
the import alone would flatter: "every name" loads all that is public, against the libraries it stands on.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from statistics import median

import torch
import transformers

HELP = "import sys; sys.argv = ['tillerman', '--help']; from tillerman.cli.app import main; main()"
PROGRAMS = {
    "nothing": "pass",
    "torch": "import torch",
    "torch, tillerman": "import torch, tillerman",
    "torch, transformers": "import torch; from transformers import GenerationMixin, AutoModelForCausalLM",
    "torch, transformers, tillerman, every name": "import torch; from transformers import GenerationMixin, "
    "AutoModelForCausalLM; import tillerman; [getattr(tillerman, name) for name in tillerman.__all__]",
    "tillerman --help": HELP,
}


def seconds(program: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=9, help="interpreters per program")
    args = parser.parse_args()
    for program in PROGRAMS.values():
        seconds(program)  # fills the disk cache
    turns = [{name: seconds(program) for name, program in PROGRAMS.items()} for _ in range(args.n)]

    def beyond(name: str, base: str) -> float:
        return round(median(turn[name] - turn[base] for turn in turns), 3)

    print(
        json.dumps(
            {
                "interpreters": args.n,
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "machine": platform.machine(),
                **{f"{name}, s": round(median(turn[name] for turn in turns), 3) for name in PROGRAMS},
                "tillerman beyond torch, s": beyond("torch, tillerman", "torch"),
                "every name beyond torch and transformers, s": beyond(
                    "torch, transformers, tillerman, every name", "torch, transformers"
                ),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
