"""Run a suite's checks without pytest."""

from __future__ import annotations

import time
import unittest
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NoReturn

from relaxbench.errors import UserError

Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: the requirement, in words.
        outcome: ``"passed"``, ``"failed"``, or ``"skipped"`` where the requirement does not apply, or cannot be tested
            because another one is not met.
        reason: why it failed or was skipped; "" if it passed.
        seconds: its duration.
    """

    name: str
    outcome: Outcome
    reason: str
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether the requirement was tested and is met."""
        return self.outcome == "passed"

    @property
    def failed(self) -> bool:
        """Whether the requirement was tested and is not met."""
        return self.outcome == "failed"

    @property
    def skipped(self) -> bool:
        """Whether the requirement was not tested."""
        return self.outcome == "skipped"


def run_checks(suite: object) -> Iterator[Check]:
    """Run every ``test_…`` method of a suite, in the order of its class; yield each result when it is known.

    A check that ends as an earlier one failed is skipped, so that a cause is reported once.
    """
    failed: dict[str, str] = {}
    for name in dict.fromkeys(name for cls in reversed(type(suite).__mro__) for name in vars(cls)):
        if not name.startswith("test_"):
            continue
        start = time.perf_counter()
        outcome, reason = _run_one(suite, name)
        words = name.removeprefix("test_").replace("_", " ")
        if outcome == "failed":
            cause = next((earlier for earlier, known in failed.items() if reason in known), "")
            failed.setdefault(words, reason)
            outcome, reason = ("skipped", f"see {cause!r}") if cause else (outcome, reason)
        yield Check(words, outcome, reason, time.perf_counter() - start)


def _run_one(suite: object, name: str) -> tuple[Outcome, str]:
    try:
        getattr(suite, name)()
    except unittest.SkipTest as skipped:
        return "skipped", str(skipped)
    except AssertionError as error:
        return "failed", str(error) or "the assertion has no message"
    except (Exception, SystemExit) as error:
        first_line = str(error).splitlines()[0] if str(error) else ""
        if isinstance(error, UserError):  # it says by itself what is wrong
            return "failed", first_line
        return "failed", f"{type(error).__name__}: {first_line}".rstrip(": ")
    return "passed", ""


def require(condition: bool, message: str) -> None:
    """Assert, also under ``python -O``.

    Raises:
        AssertionError: with the message, if the condition is false.
    """
    if not condition:
        raise AssertionError(message)


def skip(reason: str) -> NoReturn:
    """End a check that does not apply, so that it does not count as passed.

    Raises:
        unittest.SkipTest: always. pytest reports it as skipped, too.
    """
    raise unittest.SkipTest(reason)
