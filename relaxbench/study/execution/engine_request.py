"""Choose an engine once for a problem on a machine, not once per study: what was measured is kept in the cache folder.

An engine decides how fast trials run. A study stores the one that it uses, and never looks at the cache again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from pydantic import TypeAdapter, ValidationError

from relaxbench.optim.rule import Rule
from relaxbench.problems import Problem
from relaxbench.store.identity_facts import ProblemIdentity
from relaxbench.training import engine as engines
from relaxbench.training.devices import machine
from relaxbench.training.memory import sizes_that_fit
from relaxbench.training.precision import Precision
from relaxbench.util.files import cache_dir
from relaxbench.util.remembered import recall, remember
from relaxbench.version import __version__

ENGINE = TypeAdapter(engines.Engine)


@dataclass(frozen=True)
class EngineRequest:
    """The arguments of `engine.choose_engine`."""

    problem: Problem
    device: torch.device
    population: int | None
    precision: Precision
    rules: Sequence[Rule]
    wish: engines.Wish
    ready: int | None

    def choose(self) -> engines.Engine:
        """Measure paths and sizes, and choose.

        Raises:
            UserError: if the problem cannot be trained on the path that is asked for.
        """
        return engines.choose_engine(
            self.problem, self.device, self.population, self.precision, self.rules, self.wish, self.ready
        )

    def choose_once(self, identity: ProblemIdentity) -> engines.Engine:
        """Return what was chosen for this problem on this machine before, if it still fits into memory; else choose.

        Args:
            identity: what makes the problem this one and no other.

        Raises:
            UserError: as `choose`.
        """
        if self.wish != "auto":
            engines.cannot_be_trained(self.problem, self.device, self.wish)
        states = sorted((rule.name, rule.copies) for rule in self.rules)  # they limit K
        wished = (self.population, self.precision, self.wish, engines.candidates(self.device, self.ready))
        key = [identity, str(self.device), wished, states, machine(), __version__]
        kept = _kept(key)
        if kept is not None and (kept.path == "direct" or self._fits(kept.population)):
            return kept
        engine = self.choose()
        remember(cache_dir(), "engine", key, engine.as_dict())
        return engine

    def _fits(self, size: int) -> bool:
        return bool(sizes_that_fit(self.problem, (size,), self.device, self.precision, self.rules))


def _kept(key: object) -> engines.Engine | None:
    """Return the engine that is kept under a key; None if there is none, or the file has something else."""
    kept = recall(cache_dir(), "engine", key)
    try:
        return kept and replace(ENGINE.validate_python(kept[0]), measured=kept[1])
    except ValidationError:
        return None
