"""What becomes of a vector over many turns: drift with a history that was itself steered (GCAD, arXiv 2605.10664: what
is steered in the cache piles up over turns), and what is left after it is switched off.
"""
