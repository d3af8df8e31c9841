"""The papers' protocols: ``recipe`` says what one is, ``running`` runs it, ``weighing`` holds the claims against it."""
