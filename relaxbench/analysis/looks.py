"""Looking more than once: a comparison that is over stays as it is, an undecided one goes on.

After a look only the undecided methods and their opponents, usually the baseline, go on to the next. A comparison is
decided at the first look whose interval decides it, and keeps that look's estimate, interval and band. The opponent's
further blocks could move a later interval back over the border without any new evidence about the method, so later
looks at a decided comparison are not taken. Nor are they where the look shows that no claim can be made, see
`simultaneous.Obstacle`: more blocks with the same settings and the same budget would meet the same obstacle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relaxbench.analysis.simultaneous import LEVEL, MIN_BLOCKS, Judgement


@dataclass(frozen=True)
class Looks:
    """The numbers of blocks at which a study is looked at, declared before it begins.

    Raises:
        ValueError: none, or they do not rise, or there are too few blocks for a claim.
    """

    blocks: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.blocks:
            raise ValueError("a study needs at least one look")
        if self.blocks[0] < MIN_BLOCKS:
            raise ValueError(f"a look at {self.blocks[0]} blocks comes too early: at least {MIN_BLOCKS} make a claim")
        for earlier, later in zip(self.blocks, self.blocks[1:], strict=False):
            if later <= earlier:
                raise ValueError(f"looks must rise: {later} blocks come after {earlier}")

    def taken(self, complete: int) -> tuple[int, ...]:
        """The declared looks that a method with so many complete blocks has had."""
        return tuple(blocks for blocks in self.blocks if blocks <= complete)

    def following(self, complete: int) -> int | None:
        """The blocks of the next declared look; None after the last."""
        return next((blocks for blocks in self.blocks if blocks > complete), None)


@dataclass(frozen=True)
class Outcome:
    """A comparison over the looks that have been taken.

    Attributes:
        judgement: that of the look with which it was over, else of the latest look.
        look: which look that is, from 1.
        history: the judgement of every look up to it.
    """

    judgement: Judgement
    look: int
    history: tuple[Judgement, ...]

    @property
    def verdict(self) -> str:
        """The verdict of the comparison."""
        return self.judgement.verdict

    @property
    def over(self) -> bool:
        """Whether no further look is taken."""
        return self.judgement.over


def fold(judgements: Sequence[Judgement]) -> Outcome | None:
    """The outcome of a comparison from its judgements at successive looks; None before the first."""
    for look, judgement in enumerate(judgements, start=1):
        if judgement.over or look == len(judgements):
            return Outcome(judgement, look, tuple(judgements[:look]))
    return None


def going_on(outcomes: Mapping[str, Outcome | None], opponents: Mapping[str, str]) -> set[str]:
    """The methods of a problem that go on to the next look: those that are not over, and their opponents with them.

    Args:
        outcomes: of every method but the baseline, so far.
        opponents: method → the one that it is compared with.
    """
    open_ones = {method for method, outcome in outcomes.items() if outcome is None or not outcome.over}
    return open_ones | {opponents[method] for method in open_ones}


def wrong_verdict_bound(declared: int, taken: int, level: float = LEVEL) -> float:
    """Bound of the chance of any wrong verdict: α up to the declared looks, α · taken / declared beyond them.

    Raises:
        ValueError: no look is declared.
    """
    if declared < 1:
        raise ValueError("a study needs at least one look")
    return min(1.0, level * max(taken, declared) / declared)
