"""Test load and faults: many workers run simulated trials on a real database. Neither torch nor a problem is needed.

Start with `run`. `load` measures trials per second, `faults` lists what goes wrong on purpose, `simulated` is the study
whose trials only sleep.
"""
