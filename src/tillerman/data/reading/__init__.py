"""How files become rows: formats, dialects, encodings and limits. What the fields mean is no matter here."""
