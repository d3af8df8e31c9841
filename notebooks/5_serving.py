# %% [markdown]
# # Serving
#
# A steered model behind an OpenAI-compatible server: one field more in the request, and a receipt in the answer.

# %%
import os
import subprocess
import sys
from pathlib import Path

import tillerman

model = tillerman.open_model("pilot")
topics = ["stars", "rivers", "birds", "bread", "music", "trains"]
artefact = tillerman.vector_from(
    model, [f"I love to find out how {t} work." for t in topics], [f"I never ask how {t} work." for t in topics],
    layers=3, name="curious",
)
Path("artefacts").mkdir(exist_ok=True)
tillerman.save("artefacts/curious.safetensors", artefact)

# %% [markdown]
# `--allow-unproven`, since nothing was measured about this vector; one that `fit` found to work needs no such word.

# %%
server = subprocess.Popen(
    [Path(sys.executable).with_name("tillerman"), "serve", "pilot", "--artefacts", "artefacts", "--port", "8123",
     "--allow-unproven", "--quiet"],
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
)

# %%
import time

import httpx

for _ in range(300):
    try:
        if httpx.get("http://127.0.0.1:8123/v1/models").status_code == 200:
            break
    except httpx.TransportError:
        time.sleep(0.5)

# %%
from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8123/v1", api_key="none")
answer = client.chat.completions.create(
    model="pilot",
    messages=[{"role": "user", "content": "Who are you?"}],
    max_tokens=8,
    temperature=0,
    extra_body={"steering": "curious@0.2"},
)
(bool(answer.choices[0].message.content), sorted(answer.model_extra))

# %%
server.terminate()
server.wait() in (0, -15, 143)
