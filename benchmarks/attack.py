"""EPO against a steered pilot: candidates per second, batched against one at a time, in one run: ratios, not times.

    python benchmarks/attack.py            # several questions and widths of the window
    python benchmarks/attack.py --items 2  # fewer questions

Three versions of the same search with the same seed: as shipped (batched, the prompt before the window shared), batched
with whole prompts, and one candidate at a time by a plain hook. All must find the same texts.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import dataclass
from statistics import median

import torch
import transformers

import tillerman
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Plan
from tillerman.data.duplicates import clean_split
from tillerman.data.marked_scopes import after_instruction
from tillerman.data.presenting import present
from tillerman.data.writing import make_writer
from tillerman.evaluation.epo import EpoOptions, Search, optimise, spread
from tillerman.evaluation.reversal import Reversal, allowed_tokens, margin, place_in
from tillerman.models.opened import OpenModel

POINT, STRENGTH = HookPoint(3), 3.0
SEARCH = EpoOptions(weights=spread(8), iterations=4, children=16, top=256)


@dataclass(eq=False)
class OneByOne:
    """The same objective, a candidate per pass: two passes of the whole prompt, steered by a plain hook and not."""

    inner: Reversal
    direction: torch.Tensor

    @property
    def width(self) -> int:
        return self.inner.width

    @property
    def allowed(self) -> torch.Tensor:
        return self.inner.allowed

    def gradient(self, tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.inner.gradient(t[None], w[None]) for t, w in zip(tokens, weights, strict=True)])

    def survives(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.inner.survives(row[None]) for row in tokens])

    @torch.inference_mode()
    def scores(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = [self._score(row) for row in tokens]
        return torch.stack([f for f, _ in found]), torch.stack([x for _, x in found])

    def _score(self, row: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        opened, window = self.inner.opened, self.inner.place.window
        ids = torch.tensor([window.filled(row.tolist())])
        first = len(window.before)
        plain = opened.model(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
        x = -plain[first - 1 : first - 1 + self.width].gather(1, row[:, None]).mean()

        def hook(_: object, __: object, h: torch.Tensor) -> torch.Tensor:
            h = h.clone()
            h[:, first + self.width :] += self.direction
            return h

        handle = opened.parts.blocks[POINT.layer].register_forward_hook(hook)
        logits = opened.model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[:, -1]
        handle.remove()
        return margin(logits, self.inner.unwanted)[0], x


def plan_of(opened: OpenModel) -> tuple[Plan, torch.Tensor]:
    data = tillerman.load_examples("sample:interest-in-science")
    asked = tillerman.Experiment(
        method="caa",
        max_train=100,
        max_validation=20,
        max_test=20,
        layers=(POINT.layer,),
        doses=(0.3,),
        null_draws=2,
        generations=(),
    )
    vector = tillerman.fit(asked, opened, data).artefact.steering.at(POINT)
    scope = after_instruction(opened.tokenizer)
    return (Intervention(vector, STRENGTH, scope=scope),), STRENGTH * vector.directions[POINT]


def measured(objective: object) -> tuple[float, Search]:
    """Candidates per CPU second."""
    started = time.process_time()
    found = optimise(objective, SEARCH, seed=0)
    return found.tried / (time.process_time() - started), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    opened = tillerman.open_model("pilot")
    plan, direction = plan_of(opened)
    writer, allowed = make_writer(opened.tokenizer), allowed_tokens(opened)
    items = present(clean_split(tillerman.load_examples("sample:interest-in-science").examples).test[: asked.items])
    result: dict[str, object] = {"questions": len(items), "candidates per search": SEARCH.candidates}
    for width in (8, 12):
        ratios: dict[str, list[float]] = {"/ one at a time": [], "/ whole prompts, batched": []}
        for item in items:
            shared = Reversal.of(opened, plan, place_in(item, writer, width), writer.write(item), allowed)
            whole = Reversal.of(opened, plan, shared.place, writer.write(item), allowed, share=False)
            speeds, found = zip(*map(measured, (shared, whole, OneByOne(shared, direction))), strict=True)
            same(*found)
            ratios["/ one at a time"].append(speeds[0] / speeds[2])
            ratios["/ whole prompts, batched"].append(speeds[0] / speeds[1])
        result |= {f"candidates per second {name}, {width} tokens": round(median(r), 1) for name, r in ratios.items()}
    result |= {"machine": platform.machine(), "torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps(result, indent=1))


def same(*found: Search) -> None:
    """Rounding may order two texts of equal worth differently; values may not differ."""
    best = [one.records[-1] for one in found]
    assert max(abs(one.value - best[0].value) for one in best) < 1e-3, best


if __name__ == "__main__":
    main()
