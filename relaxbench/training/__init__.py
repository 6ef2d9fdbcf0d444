"""Training a population: gradients that are billed, slots that are refilled, trials that do not see each other."""

import os

# Bit for bit the same whatever the alignment of a member's rows: MKL reads this at its first call.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
