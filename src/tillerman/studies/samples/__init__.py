"""How many examples a vector needs: effect against the number of fit examples, over repeated draws (CAE, arXiv
2505.03189, finding 2: diminishing returns near 80), and how steady its direction is.

The curve is ``E(n) = top * n / (n + half)``. Its knee is the n at which nine tenths of the effect of all examples
are reached; the interval is of curves fitted to draws taken again with replacement.
"""
