"""Train populations of independent trials, with every gradient on the bill of its trial."""

import os

# Makes results independent of the alignment of a member's rows, bit for bit. MKL reads it at its first call.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
