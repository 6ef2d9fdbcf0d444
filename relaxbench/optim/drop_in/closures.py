"""How often a step calls its closure."""

from __future__ import annotations

import itertools

from relaxbench.optim.rule import Rule

LONGEST = 64
"""The largest number of queries of one mini-batch in a step."""


def closures(rule: Rule) -> int:
    """Count how often a step of a rule calls its closure, each time on the same mini-batch; 0 where it is optional.

    Raises:
        ValueError: if the rule never goes on to another mini-batch.
    """
    first = rule.first_batch(0)
    again = next((n for n in itertools.count(1) if rule.first_batch(n) != first or n > LONGEST), 0)
    if again > LONGEST:
        raise ValueError(f"{rule.title} announces mini-batch {first} for {LONGEST} queries in a row: see first_batch")
    return again if again > 1 else 0
