"""One artefact at one fixed operating point through four gates: control, utility, robustness, safety (FaithSteer-BENCH,
Ding et al. 2026, arXiv 2603.18329, has the first three)."""
