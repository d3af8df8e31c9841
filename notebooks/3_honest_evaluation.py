# %% [markdown]
# # Honest evaluation
#
# An effect is a difference on held-out items, beside two null controls, a prompt and exemplars, and with its cost.

# %%
import tillerman

model = tillerman.open_model("pilot")
data = tillerman.load_examples("sample:interest-in-science", limit=120)
experiment = tillerman.Experiment(
    method="caa", read="usual", layers=(3,), doses=(0.05, 0.1), neutral="sample:tinystories", generations=(),
    written_prompts=0, max_test=24,
)
log = tillerman.fit(experiment, model, data).log
log.effect

# %% [markdown]
# Every condition with its interval, as a frame:

# %%
log.to_frame()[["condition", "rate", "rate_low", "rate_high", "effect", "effect_low", "effect_high"]].round(2)

# %% [markdown]
# What the search looked at, and what it cost:

# %%
log.to_frame("cells")[["hook_point", "dose", "score", "kl", "admissible"]].round(3)

# %%
log.to_frame("side_effects")[["kl", "perplexity_ratio", "unrelated_effect", "unrelated_effect_low"]].round(3)

# %% [markdown]
# The verdict weighs all of it: with so few test items it has to say that it does not know. `log` on a line of its own shows the whole report.

# %%
from tillerman.reports.verdict import judge_log

print(judge_log(log).words)
