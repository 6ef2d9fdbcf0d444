"""Spot checks of a pruner: a share of the pruned trials, chosen by seed, is run again to its end, and never wins.

A spot check has the seed and the settings of its trial, so its first rounds are the same, bit for bit. It is a row of
its own, billed apart. No generation waits for it, and no plan looks at its result.
"""

from __future__ import annotations

from relaxbench.util.seeds import derive


def is_checked(seed: int, problem: str, method: str, block: int, number: int, share: float) -> bool:
    """Whether a trial is run to its end if it is pruned.

    Args:
        seed: of the study.
        problem, method, block, number: place of the trial.
        share: of the pruned trials that are.
    """
    return derive(seed, "spot-check", problem, method, block, number) / 2**63 < share
