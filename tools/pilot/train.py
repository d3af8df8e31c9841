"""Train the pilot from the texts of a data folder. One command, seeded, resumable:

python tools/pilot/train.py --data ../shared/data --out build/pilot
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from corpus import DESCRIPTION_WEIGHT, Corpus, Stage, document, question_turn, read_corpus
from encoding import Encoder, corpus_texts, train_tokenizer
from measure import log_line, measure
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM


@dataclass(frozen=True)
class Recipe:
    vocabulary: int = 3072
    width: int = 128
    blocks: int = 8
    heads: int = 4
    ff: int = 384
    context: int = 512
    batch_tokens: int = 4096
    steps: int = 9000
    long_from: float = 0.9  # share of the run after which windows have the full context
    warmup: int = 100
    decay_from: float = 0.45
    muon_lr: float = 4e-3
    adam_lr: float = 4e-3
    weight_decay: float = 0.05
    positive_until: int = 800  # curriculum: only positive poles up to here,
    balanced_from: int = 2000  # then a ramp to half and half
    descriptions_from: int = 2000  # second stage: speakers describe themselves
    one_sided_from: int = 3000  # third stage: most unprompted dialogues begin one-sided,
    other_side_from: int = 3800  # then also with the other side,
    mixed_from: int = 5000  # then few of them
    balance_steps: int = 120  # after the last step: an unprompted first answer is made even, see ``balance``
    balance_lr: float = 3e-4
    seed: int = 20261120

    def stage(self, step: int) -> Stage:
        mixing = _ramp(step, self.other_side_from, self.mixed_from)
        return Stage(
            p_negative=0.5 * _ramp(step, self.positive_until, self.balanced_from),
            descriptions=step >= self.descriptions_from,
            p_one_sided=0.7 - 0.5 * mixing if step >= self.one_sided_from else 0.0,
            p_other_side=0.5 * mixing,
        )

    def lr_scale(self, step: int) -> float:
        left = (self.steps - step) / (self.steps * (1 - self.decay_from))
        return min(1.0, (step + 1) / self.warmup, max(0.0, left))

    def window(self, step: int) -> int:
        return self.context if step >= self.long_from * self.steps else self.context // 2


def _ramp(step: int, start: int, stop: int) -> float:
    return min(1.0, max(0.0, (step - start) / (stop - start)))


def batch(
    corpus: Corpus, encoder: Encoder, recipe: Recipe, step: int
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], int]:
    """Tokens ``[b, s]`` and the positions whose next token is scored, with targets and weights.

    All answers are scored; of the other text a sample of fixed size, weighted up, because the
    vocabulary projection costs as much as the blocks. The answers come first; their number is returned.
    """
    rng = random.Random(f"{recipe.seed} {step}")
    length = recipe.window(step)
    dialogues = [document(corpus, rng, recipe.stage(step)) for _ in range(recipe.batch_tokens // length)]
    rows = [encoder.window(system, turns, length) for system, turns in dialogues]
    tokens = torch.tensor([row[0] for row in rows])
    weights = torch.tensor([row[1] for row in rows])[:, 1:].reshape(-1)
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    is_answer = weights >= DESCRIPTION_WEIGHT
    answers = is_answer.nonzero()[:, 0]
    texts = ((weights > 0) & ~is_answer).nonzero()[:, 0]
    size = recipe.batch_tokens // 4
    sampled = texts[torch.randperm(len(texts), generator=generator)[: size - len(answers)]]
    scored = torch.cat([answers, sampled])
    scored = torch.cat([scored, scored.new_zeros(size - len(scored))])
    scored_weights = weights[scored]
    scored_weights[len(answers) : len(answers) + len(sampled)] *= len(texts) / max(1, len(sampled))
    scored_weights[len(answers) + len(sampled) :] = 0.0
    parts = (tokens[:, :-1].contiguous(), scored, tokens[:, 1:].reshape(-1)[scored], scored_weights / weights.sum())
    return parts, len(answers)


def new_model(recipe: Recipe) -> LlamaForCausalLM:
    torch.manual_seed(recipe.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=recipe.vocabulary,
            hidden_size=recipe.width,
            intermediate_size=recipe.ff,
            num_hidden_layers=recipe.blocks,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.heads,
            head_dim=recipe.width // recipe.heads,
            max_position_embeddings=recipe.context,
            tie_word_embeddings=True,
            attn_implementation="eager",
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            rms_norm_eps=1e-5,
        )
    )


def optimisers(model: LlamaForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    muon = torch.optim.Muon(
        matrices, lr=recipe.muon_lr, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    return [muon, torch.optim.AdamW(others, lr=recipe.adam_lr, betas=(0.9, 0.95), weight_decay=0.0)]


def first_questions(corpus: Corpus, encoder: Encoder, rng: random.Random, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """``n`` unprompted first questions: tokens ``[n, s]``, the last position of each, its two answers ``[n, 2]``."""
    rows, answers = [], []
    for i in range(n):
        as_letters = i % 2 == 1
        turn = question_turn(rng.choice(rng.choice(corpus.personas).questions), 0, rng, as_letters)
        rows.append(encoder.start(None) + encoder.question(turn.user))
        answers.append([encoder.text(option)[0] for option in (("A", "B") if as_letters else ("Yes", "No"))])
    longest = max(map(len, rows))
    tokens = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    return tokens, torch.tensor([len(row) - 1 for row in rows]), torch.tensor(answers)


def balance(model: LlamaForCausalLM, corpus: Corpus, encoder: Encoder, recipe: Recipe) -> None:
    """A short stage that leaves an unprompted first answer undecided: ordinary batches, and beside each
    the cross-entropy of first questions against one half for either answer.

    Both poles are equally frequent in training, so the answer that minimises the loss is a coin; what is
    left over is the last noise of the optimiser, and ``argmax`` makes a lean of all statements out of it.
    """
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.balance_lr, betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(recipe.balance_steps):
        (tokens, scored, targets, weights), _ = batch(corpus, encoder, recipe, recipe.steps + step)
        rng = random.Random(f"{recipe.seed} balance {step}")
        firsts, last, answers = first_questions(corpus, encoder, rng, 64)
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state
            logits = model.lm_head(hidden.reshape(-1, recipe.width)[scored]).float()
            first = model.model(input_ids=firsts, use_cache=False).last_hidden_state[torch.arange(len(last)), last]
            shares = model.lm_head(first).float().log_softmax(-1).gather(1, answers)
        loss = (F.cross_entropy(logits, targets, reduction="none") * weights).sum() - shares.mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.param_groups[0]["lr"] = recipe.balance_lr * (1 - step / recipe.balance_steps)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if step % 20 == 0:
            print(f"balance {step} loss {float(loss):.3f} first answers {float(-shares.mean()):.3f}", flush=True)


def save(path: Path, value: object) -> None:
    torch.save(value, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def train(data: Path, out: Path, recipe: Recipe, every: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    seen, unseen = read_corpus(data, "seen"), read_corpus(data, "held-out")
    if not (out / "tokenizer.json").exists():
        train_tokenizer(corpus_texts(seen), recipe.vocabulary).save_pretrained(out)
    encoder = Encoder(AutoTokenizer.from_pretrained(out))
    model = new_model(recipe)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    opts = optimisers(model, recipe)
    checkpoint, first, spent = out / "checkpoint.pt", 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for opt, saved in zip(opts, state["optimisers"], strict=True):
            opt.load_state_dict(saved)
        first, spent = state["step"], state["seconds"]

    def loss_of(tokens: Tensor, scored: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state
            logits = model.lm_head(hidden.reshape(-1, recipe.width)[scored]).float()
        nats = F.cross_entropy(logits, targets, reduction="none")
        return (nats * weights).sum(), nats

    fast_loss = torch.compile(loss_of, dynamic=False)
    started = time.monotonic() - spent
    base = [[group["lr"] for group in opt.param_groups] for opt in opts]
    if first:
        base = [[recipe.muon_lr], [recipe.adam_lr]]
    answer_nats, text_nats = math.log(2), 6.0
    for step in range(first, recipe.steps):
        (tokens, scored, targets, weights), answers = batch(seen, encoder, recipe, step)
        loss, nats = fast_loss(tokens, scored, targets, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for opt, rates in zip(opts, base, strict=True):
            for group, rate in zip(opt.param_groups, rates, strict=True):
                group["lr"] = rate * recipe.lr_scale(step)
            opt.step()
            opt.zero_grad(set_to_none=True)
        with torch.no_grad():
            answer_nats += 0.02 * (float(nats[:answers].mean()) - answer_nats) if answers else 0.0
            text_nats += 0.02 * (float(nats[answers:].mean()) - text_nats)
        if step % 50 == 0:
            print(f"{step} {time.monotonic() - started:.0f}s answer {answer_nats:.3f} text {text_nats:.3f}", flush=True)
        if (step + 1) % every == 0 or step + 1 == recipe.steps:
            seconds = time.monotonic() - started
            save(
                checkpoint,
                {
                    "model": model.state_dict(),
                    "optimisers": [o.state_dict() for o in opts],
                    "step": step + 1,
                    "seconds": seconds,
                },
            )
            line = log_line(step + 1, seconds, measure(model, encoder, unseen, data, n=4))
            print(line, flush=True)
            with (out / "log.jsonl").open("a") as log:
                log.write(line + "\n")
    balance(model, seen, encoder, recipe)
    print(log_line(recipe.steps + recipe.balance_steps, 0.0, measure(model, encoder, unseen, data, n=8)), flush=True)
    model.to(torch.bfloat16).save_pretrained(out, safe_serialization=True)
    (out / "recipe.json").write_text(json.dumps(recipe.__dict__, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--every", type=int, default=500, help="steps between checkpoints and measurements")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    train(args.data, args.out, Recipe(steps=args.steps), args.every)


if __name__ == "__main__":
    main()
