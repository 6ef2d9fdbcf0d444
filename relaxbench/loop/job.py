"""What a study tells a script of its trial, and the messages that come back: lines of JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from relaxbench.space import Value

STOP = "stop"
"""The line that ends a running trial."""
PRUNE, GO_ON = "prune", "go on"
"""The lines that answer a running trial."""
REPORTS = 20
"""How often a script is asked to report, by default."""
SEEDS = 2**32
"""Seeds of scripts are smaller than this: NumPy's global generator takes no larger one."""


@dataclass(frozen=True)
class Job:
    """A trial of a script.

    Attributes:
        method: its label in the study file.
        params: a value for every hyperparameter of the method, searched and fixed.
        seed: of everything random, below `SEEDS`.
        budget: gradients.
        purpose: ``"plain"`` outside a study, ``"try-out"`` before it, else the phase of the study.
        tested: whether `Trial.test` measures.
        reports: how often the script is asked to report.
        device: where the study works, such as ``"cpu"`` or ``"cuda:1"``.
        checkpoint: path of a file that the script may write, and find again after an interruption; empty for one in a
            temporary folder.
        limit: gradients at which a script that does not end is ended.
        judged: whether a pruner answers `Trial.should_prune`.
    """

    method: str = ""
    params: Mapping[str, Value] = field(default_factory=dict)
    seed: int = 0
    budget: float = math.inf
    purpose: str = "plain"
    tested: bool = True
    reports: int = REPORTS
    device: str = "cpu"
    checkpoint: str = ""
    limit: float = math.inf
    judged: bool = False

    def line(self) -> str:
        """Return the job as a line of JSON."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def of(cls, line: str) -> Job:
        """Return the job of such a line."""
        return cls(**json.loads(line))
