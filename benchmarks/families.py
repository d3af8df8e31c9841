"""Every data family of PAS on the pilot, through the command a user types; effects may honestly be zero.

    python benchmarks/families.py --data ../shared/data

DATA holds the published files in the folders named below.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

FAMILIES = {
    "bbq": "bbq/original/Age.jsonl.gz",
    "ethics": "ethics/commonsense/cm_test.csv.gz",
    "caa sycophancy": "caa/generate/sycophancy/generate_dataset.json",
    "truthfulqa": "truthfulqa/mc_task.json",
    "openbookqa": "commonsense/openbookqa/test.json.gz",
    "arc-challenge": "commonsense/ARC-Challenge/test.json.gz",
    "lsat": "agieval/lsat-lr.jsonl",
    "mmlu (control)": "mmlu/test/philosophy_test.csv",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--limit", default="300")
    args = parser.parse_args()
    print("| family | n | unsteered | steered | effect, pp | prompt | chosen | exit | s |\n" + "|---" * 9 + "|")
    for name, file in FAMILIES.items():
        with TemporaryDirectory() as folder:
            command = [
                sys.executable,
                "-c",
                "from tillerman.cli.app import main; main()",
                "fit",
                str(args.data / file),
                "--method",
                "pas",
                "--limit",
                args.limit,
                "--layers",
                "2-5",
                "--doses",
                "0.05,0.1,0.2,0.3,0.4",
                "--neutral",
                "sample:tinystories",
                "--json",
                "--out",
                f"{folder}/vector.safetensors",
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 3):
            raise SystemExit(f"{name}: exit code {done.returncode}\n{done.stderr}")
        r = json.loads(done.stdout)
        low, high = r["interval"]
        print(
            f"| {name} | {r['n_test']} | {100 * r['unsteered']:.0f} | {100 * r['steered']:.0f} "
            f"| {100 * r['effect']:+.0f} ({100 * low:+.0f} to {100 * high:+.0f}) | {100 * r['prompt_baseline']:.0f} "
            f"| {r['method']}, {r['hook_point']}, {r['dose']:.2f} | {done.returncode} | {r['seconds']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
