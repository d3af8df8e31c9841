"""The precisions that a model can be rounded to; ``models.precision`` makes them."""

PRECISIONS = ("bf16", "int8", "int4")
