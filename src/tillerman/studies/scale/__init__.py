"""One behaviour in several models, in units of dose: does it steer all of them, and do larger ones resist degradation
(CAE, arXiv 2505.03189, finding 5)?

A dose is the change in units of the stream, so the same dose is the same push everywhere. What it costs grows with its
square where it is small: ``log(perplexity ratio) = cost * dose^2``, fitted by least squares to every window of one
neutral text, in nats per byte, because tokens of different tokenizers are of different length.
"""
