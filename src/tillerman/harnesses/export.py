"""Items as a folder of files that lm-eval and inspect-ai read as a task, without a network and without Tillerman."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tillerman.core.errors import DataError, UsageError
from tillerman.core.files import make_folder, write_text
from tillerman.data.presenting import Item
from tillerman.data.writing import Writer

ITEMS, LM_TASK, INSPECT_TASK = "items.jsonl", "lm_task.py", "inspect_task.py"
_YAML = """\
task: {name}
custom_dataset: !function lm_task.items
test_split: test
output_type: multiple_choice
doc_to_text: prompt
doc_to_choice: choices
doc_to_target: right
target_delimiter: ""
process_results: !function lm_task.accuracy
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


def export_task(items: Sequence[Item], writer: Writer, folder: Path, name: str) -> tuple[Path, ...]:
    """Write ``items.jsonl`` and what makes a task of it: ``NAME.yaml`` and ``lm_task.py`` for lm-eval,
    ``inspect_task.py`` for inspect-ai. Order, options and prompts are the writer's.

    lm-eval gets prompts as one tokenizer's texts, template included, so it must not apply a template again;
    inspect-ai gets messages. Raises ``DataError`` for items without options to choose from, and where the
    tokenizer makes other tokens of prompt and answer together than of each alone.
    """
    if not name.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f"task name {name!r}: expected letters, digits, '-' and '_'")
    rows = [_row(item, writer) for item in items]
    if not rows:
        raise DataError("no items to export")
    make_folder(folder)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    written = [folder / ITEMS, folder / f"{name}.yaml"]
    for path, text in zip(written, (lines, _YAML.format(name=name)), strict=True):
        write_text(path, text)
    for file in (LM_TASK, INSPECT_TASK):
        written.append(Path(shutil.copy(Path(__file__).with_name(file), folder / file)))
    return tuple(written)


def _row(item: Item, writer: Writer) -> dict[str, Any]:
    example = item.example
    if example.kind in ("open", "text"):
        raise DataError(
            f"items of kind {example.kind!r} have no options to choose from after a question; "
            "export multiple choice, yes/no questions or preferences",
            field="kind",
        )
    written = writer.write(item)
    text = writer.after(example).text_before(example.kind, item.prompt)
    # What decides is all that lm-eval may score: where first tokens tell answers apart, these alone.
    scored = [answer if written.whole else answer[:1] for answer in written.answers]
    choices = [_after(writer, written.prompt, tokens) for tokens in scored]
    for tokens, choice in zip(scored, choices, strict=True):
        if writer.encode(text + choice) != written.prompt + tokens:
            raise DataError(
                f"the tokenizer gives other tokens for {text[-20:]!r} and {choice!r} together than for each "
                "alone, so lm-eval would score other tokens than Tillerman"
            )
    return {
        "id": example.id,
        "messages": writer.after(example).messages(item.prompt),
        "answers": list(item.answers),
        "right": item.right,
        "whole": example.kind == "preference",
        "prompt": text,
        "choices": choices,
        "tokens": [len(tokens) for tokens in scored],
    }


def _after(writer: Writer, prompt: tuple[int, ...], answer: tuple[int, ...]) -> str:
    """The text of an answer's tokens where they stand; alone, some tokenizers would leave out a blank."""
    before = str(writer.tokenizer.decode(list(prompt), skip_special_tokens=False))
    return str(writer.tokenizer.decode([*prompt, *answer], skip_special_tokens=False)).removeprefix(before)
