# %% [markdown]
# # A first vector
#
# From labelled examples to a steered model. Everything is embedded: no download, no GPU.

# %%
import tillerman

model = tillerman.open_model("pilot")
data = tillerman.load_examples("sample:interest-in-science", limit=240)
data

# %% [markdown]
# One layer and two doses keep this quick; without them the search looks at every layer. The budget of side effects is
# lifted to show a large effect; the next notebooks keep it.

# %%
experiment = tillerman.Experiment(
    method="caa", layers=(3,), doses=(0.2, 0.4), fast=True, read="usual",
    max_kl=None, max_perplexity_ratio=None, neutral="sample:tinystories")
outcome = tillerman.fit(experiment, model, data)
outcome.artefact

# %%
outcome.log.effect

# %% [markdown]
# The artefact is one small file. `steer` edits the live model inside the block, and nothing after it.

# %%
import torch

tillerman.save("science.safetensors", outcome.artefact)
asked = [{"role": "user", "content": "What would you like to read about?"}]
tokens = model.tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
with torch.no_grad():
    before = model.model(**tokens).logits
    with tillerman.steer(model, outcome.artefact) as steered:
        inside = model.model(**tokens).logits
    after = model.model(**tokens).logits
bool((before == after).all()), steered.receipt
