"""Every study with its default budget on the embedded model: seconds, and what it says.

    python benchmarks/studies.py            # both behaviours, all studies
    python benchmarks/studies.py samples    # only some

Vectors are fitted by CAA with default options. Wall and CPU seconds on one thread.
"""

from __future__ import annotations

import sys
import time

import torch

import tillerman
from tillerman.studies import STUDIES, Subject, run

BEHAVIOURS = ("interest-in-science", "agreeableness")


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    model = tillerman.open_model("pilot")
    data = [tillerman.load_examples(f"sample:{name}") for name in BEHAVIOURS]
    fitted = [tillerman.fit(tillerman.Experiment(method="caa"), model, one).artefact for one in data]
    print("| study | behaviour | wall s | CPU s | verdict | |\n|---|---|---:|---:|---|---|")
    for name in names or sorted(STUDIES):
        for k in (0, 1) if name != "interaction" else (0,):
            subject = Subject(
                fitted[k], model, data[k], ((fitted[1 - k], data[1 - k]),) if name == "interaction" else ()
            )
            wall, cpu = time.perf_counter(), time.process_time()
            verdict = run(name, subject).verdict
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            print(
                f"| {name} | {BEHAVIOURS[k]} | {wall:.0f} | {cpu:.0f} | {verdict.outcome} | {verdict.words} |",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
