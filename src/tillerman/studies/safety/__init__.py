"""What a vector does to refusals: of unsafe prompts, and of safe ones that only look unsafe (XSTest: Röttger et al.
2024, arXiv 2308.01263). Vectors of harmless behaviours moved the success of jailbreaks by +57 and -50 pp (arXiv
2603.24543), so a vector is held against random directions of equal norm, and against its own component along the
direction of refusal (Arditi et al. 2024, arXiv 2406.11717, section 2.3).
"""
