# %% [markdown]
# # A real model
#
# SmolLM2-135M-Instruct, which `make real-models` fetches. Texts, not labels: a vector from two lists.

# %%
import os
from pathlib import Path

import tillerman

folder = Path(os.environ.get("TILLERMAN_REAL_MODELS", "../.real-models")) / "smollm2-135m-instruct"
model = tillerman.open_model(folder, dtype="float32")
(len(model.parts.blocks), model.parts.width)

# %%
data = tillerman.load_examples("sample:cheerful", limit=24)
wanted = [example.options[example.answer] for example in data.examples]
others = [example.options[1 - example.answer] for example in data.examples]
artefact = tillerman.vector_from(model, wanted, others, layers=14, dose=0.2, name="cheerful")
str(artefact.cell.points[0]), round(artefact.cell.strength, 3)

# %%
from tillerman.steering.generation import Sampling, continuations

messages = [{"role": "user", "content": "How was your day?"}]
prompt = tuple(model.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))
plain, steered = continuations(model, [prompt, prompt], [(), artefact.plan()], Sampling(max_new_tokens=30))
print("unsteered:", plain)
print("steered:  ", steered)

# %% [markdown]
# Two texts are no evidence. `fit` on the same data searches by what is written and tests it:
# `tillerman fit sample:cheerful --model ... --objective written --report report.html`.
