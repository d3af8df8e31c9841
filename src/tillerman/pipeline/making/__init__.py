"""From a description to a data file: prompts, questions, answers on both sides, filters. One pure flow, asked of one
author after the other: ``make.make``."""
