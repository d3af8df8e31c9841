"""Two or more vectors at once: what each still does in company, whether what they do adds up, and what they cost
together. Behaviour is compared, not angles between vectors.

Additivity is ``together - unsteered - sum over vectors of (alone - unsteered)``, per item: 0 where effects add up,
below 0 where the vectors get in each other's way. It is given in log-odds of the right answer, because right and
wrong cannot rise beyond 100 %, and in percentage points beside it.
"""
