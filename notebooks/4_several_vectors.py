# %% [markdown]
# # Several vectors
#
# A plan is a list of interventions, each with a dose and a scope. Rows of one batch may have plans of their own.

# %%
import tillerman

model = tillerman.open_model("pilot")
topics = ["stars", "rivers", "birds", "bread", "music", "trains"]
curious = tillerman.vector_from(
    model, [f"I love to find out how {t} work." for t in topics], [f"I never ask how {t} work." for t in topics],
    layers=2, name="curious",
)
cheerful = tillerman.vector_from(
    model, [f"What a joy, the {t}!" for t in topics], [f"How sad, the {t}." for t in topics], layers=4, name="cheerful"
)
curious

# %%
both = (*curious.plan(), *cheerful.plan())
[(str(one.steering.points[0]), one.strength) for one in both]

# %% [markdown]
# One batch, three rows: unsteered, one vector, both. The first row is bit-equal to no steering.

# %%
import torch

tokens = model.tokenizer(["Tell me about the sea."] * 3, return_tensors="pt")
with torch.no_grad():
    plain = model.model(**tokens).logits[:, -1]
    with tillerman.steer_rows(model, [(), curious.plan(), both]) as steered:
        moved = model.model(**tokens).logits[:, -1]
[round(float((moved[row] - plain[row]).abs().mean()), 3) for row in range(3)]

# %%
bool((moved[0] == plain[0]).all()), len(steered.receipt.applied)
