# %% [markdown]
# # Your data
#
# Rows in memory are as good as a file: a list, a `datasets.Dataset`, a frame of pandas or polars.

# %%
import pandas
import tillerman

frame = pandas.DataFrame(
    {
        "text": [f"{start} {thing}!" for thing in ("tea", "a walk", "rain") for start in ("I love", "I hate")],
        "mood": ["joy", "woe"] * 3,
    }
)
frame

# %% [markdown]
# Labels that are names do not say which side is wanted. The error does.

# %%
try:
    tillerman.load_examples(frame, columns={"label": "mood"})
except tillerman.DataError as error:
    print(error)

# %%
data = tillerman.load_examples(frame, columns={"label": "mood"}, positive_label="joy")
data

# %% [markdown]
# Before anything is fitted: what in the data could be taken for the behaviour?

# %%
from tillerman.data.diagnostics import diagnose
from tillerman.data.duplicates import clean_split

for finding in diagnose(data.examples, clean_split(data.examples)):
    print(f"{finding.level:8} {finding.check}: {finding.message}")
