"""Train populations of independent trials, with every gradient billed to its trial.

Start with `population`, which trains many trials in slots, and `oracle`, which computes and bills their gradients.
`engine` chooses the path and the number of slots; `ensemble` advances members without trials.
"""

import os

# Makes results independent of the alignment of a member's rows, bit for bit. MKL reads it at its first call.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
