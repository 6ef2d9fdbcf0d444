"""What many tests would wait for and few look at: measurements of time, and Optuna's scripts for old databases.

Tests that look at what a study measures on its machine ask for the fixture `at_length` (of tests/conftest.py).
"""

from __future__ import annotations

from typing import Any

from optuna.storages._rdb import storage

from relaxbench.training import costs, durations, engine

BRIEF = (
    (costs, {"LEAST": 2, "MOST": 3, "STRETCH_SECONDS": 0.001, "STRETCH_STEPS": 4}),
    (engine, {"PAIRS": 1, "SECONDS": 0.02, "STRETCH_SECONDS": 0.004, "STRETCHES": 1}),
    (durations, {"ENOUGH": 0.03, "STRETCH_SECONDS": 0.005}),
)
USUAL = [(module, {name: getattr(module, name) for name in values}) for module, values in BRIEF]


def measure_briefly(brief: bool = True) -> None:
    """Measure briefly from now on, or as usual again: in this process, and in those that are forked from it."""
    for module, values in BRIEF if brief else USUAL:
        for name, value in values.items():
            setattr(module, name, value)


def load_migrations_once() -> None:
    """Load Optuna's migration scripts once per process, not three times per new database (30 ms each)."""
    manager, loaded = storage._VersionManager, []
    load = manager._create_alembic_script

    def once(self: Any) -> Any:
        if not loaded:
            loaded.append(load(self))
        return loaded[0]

    manager._create_alembic_script = once  # type: ignore[method-assign]
