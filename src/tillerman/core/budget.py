"""What steering may cost on neutral text where nobody says otherwise. A search keeps to it, a verdict asks for it."""

from __future__ import annotations

MAX_KL = 0.1  # nats per token, KL(unsteered || steered)
MAX_PERPLEXITY_RATIO = 1.2
