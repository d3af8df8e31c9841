"""What steering may cost on neutral text where nobody says otherwise. A search keeps to it, a verdict asks for it."""

from __future__ import annotations

MAX_KL = 0.1  # nats per token, KL(unsteered || steered)
MAX_PERPLEXITY_RATIO = 1.2
# Of a way of writing, which changes what is written of everything.
MAX_KL_WRITTEN = 0.3
MAX_PERPLEXITY_RATIO_WRITTEN = 1.4
