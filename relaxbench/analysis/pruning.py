"""What a pruner has saved, and what its spot checks say of the trials that it has thrown away.

A spot check runs a pruned trial again to its end. Would it have won its block, then pruning has lost the winner. Spot
checks are a random share of the pruned trials, so the share of them that would have won estimates that of all; blocks
without one say nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from relaxbench.analysis.disasters import rate_bound
from relaxbench.analysis.frames import StudyFrames
from relaxbench.store.schema import FINISHED, SPOT_CHECK
from relaxbench.util.text import counted, listed, percent


@dataclass(frozen=True)
class Pruning:
    """What a pruner did to a method on a problem.

    Attributes:
        problem, method: names.
        title: of the method.
        pruner: its name.
        trials: finished trials of the search, pruned ones included.
        pruned: how many of them were pruned.
        blocks: that are complete.
        gradients: of the search.
        saved: gradients that the pruned trials would have taken from there to their ends.
        unspent: gradients that complete blocks have left, each less than a whole trial.
        audit: gradients of the spot checks, beside the budget.
        checks: finished spot checks of complete blocks.
        lost: those of them that would have won their block.
        checked: blocks with such a check.
        kept: those of these blocks in which none would have won.
        bound: the share of pruned trials that would have won is at most this, with a probability of 95 %.
    """

    problem: str
    method: str
    title: str
    pruner: str
    trials: int
    pruned: int
    blocks: int
    gradients: float
    saved: float
    unspent: float
    audit: float
    checks: int
    lost: int
    checked: int
    kept: int
    bound: float

    @property
    def sentence(self) -> str:
        """Return it in words."""
        left = f"{self.unspent:,.0f} gradients stay unspent, less than a whole trial in every block"
        stopped = f"of {counted(self.trials, 'trial')} of {self.title} on {self.problem}"
        if not self.pruned:
            return f"Pruner {self.pruner} stopped none {stopped}{f'; {left}' if self.unspent else ''}."
        parts = [
            f"Pruner {self.pruner} stopped {self.pruned:,} {stopped}. It saved {self.saved:,.0f} gradients, which pay "
            f"for further trials of the same block; {left}.",
        ]
        if not self.checks:
            return f"{parts[0]} No spot check says whether it threw good trials away."
        parts += [
            f"Of its pruned trials, {self.checks:,} ran again to the end ({self.audit:,.0f} gradients beside the "
            f"budget): {self.lost or 'none'} beat the winner of its block, so pruning kept the winner in "
            f"{self.kept:,} of {counted(self.checked, 'block')} with such a check.",
            f"With 95 % confidence, at most {percent(self.bound)} of all pruned trials would have beaten the winner of "
            "their block.",
        ]
        return " ".join(parts)


def prunings(frames: StudyFrames) -> list[Pruning]:
    """Return what pruners did, one entry per problem and method with a pruner and a finished trial."""
    pairs = [(problem, method) for problem in frames.problems for method in frames.pruned]
    return [found for problem, method in pairs if (found := _pruning(frames, problem, method)) is not None]


def without_pruner(frames: StudyFrames) -> str:
    """Return which tuned methods have no pruner where others have one, in one sentence; "" for none."""
    if not frames.pruned:
        return ""
    about = {label: frames.method(label) for label in frames.methods if label not in frames.pruned}
    titles = [facts["title"] for facts in about.values() if facts["arm"] == "tuned"]
    if not titles:
        return ""
    has, its = ("has", "its") if len(titles) == 1 else ("have", "their")
    return f"{listed(titles)} {has} no pruner: all of {its} trials run to their end."


def _pruning(frames: StudyFrames, problem: str, method: str) -> Pruning | None:
    trials, budget = frames.trials, frames.pruned_budget(method, problem)
    own = trials[(trials["problem"] == problem) & (trials["method"] == method) & trials["status"].isin(FINISHED)]
    searched, checks = own[own["phase"] == "explore"], own[own["phase"] == SPOT_CHECK]
    if searched.empty or budget is None:
        return None
    blocks = frames.blocks
    winners = blocks[(blocks["problem"] == problem) & (blocks["method"] == method)].set_index("block")["winner_value"]
    pruned = searched[searched["status"] == "pruned"]
    spent = searched[searched["block"].isin(winners.index)]["gradients"].sum()
    judged = checks[checks["block"].isin(winners.index)]
    won = judged["value"] < judged["block"].map(winners)
    lost_in = judged.loc[won, "block"].nunique()
    return Pruning(
        problem=problem,
        method=method,
        title=frames.method(method)["title"],
        pruner=frames.pruned[method]["name"],
        trials=len(searched),
        pruned=len(pruned),
        blocks=len(winners),
        gradients=float(searched["gradients"].sum()),
        saved=float((budget - pruned["gradients"]).sum()),
        unspent=float(len(winners) * frames.tuning(method) * budget - spent),
        audit=float(checks["gradients"].sum()),
        checks=len(judged),
        lost=int(won.sum()),
        checked=judged["block"].nunique(),
        kept=judged["block"].nunique() - lost_in,
        bound=rate_bound(int(won.sum()), len(judged)),
    )


def pruning_table(found: Sequence[Pruning]) -> pd.DataFrame:
    """Return entries as a table, one row each."""
    return pd.DataFrame([vars(entry) for entry in found], columns=list(Pruning.__dataclass_fields__))
