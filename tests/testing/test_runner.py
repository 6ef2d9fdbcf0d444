"""Outcomes of checks: passed, failed, or skipped with a reason; with and without pytest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from relaxbench.optim.registry import RULES
from relaxbench.testing import Check, RuleConformance, run_checks
from relaxbench.testing.runner import require, skip

ROOT = Path(__file__).resolve().parents[2]


class Suite:
    def test_that_passes(self) -> None:
        require(True, "no")

    def test_that_fails(self) -> None:
        require(False, "because")

    def test_that_crashes(self) -> None:
        raise RuntimeError("no idea\nat all")

    def test_that_does_not_apply(self) -> None:
        skip("no derivatives")

    def test_without_a_message(self) -> None:
        raise AssertionError

    def helper(self) -> None:
        raise AssertionError("not a check")


def test_every_check_has_one_of_three_outcomes() -> None:
    checks = list(run_checks(Suite()))
    assert [(check.name, check.outcome, check.reason) for check in checks] == [
        ("that passes", "passed", ""),
        ("that fails", "failed", "because"),
        ("that crashes", "failed", "RuntimeError: no idea"),
        ("that does not apply", "skipped", "no derivatives"),
        ("without a message", "failed", "the assertion has no message"),
    ]
    assert all((check.passed + check.failed + check.skipped) == 1 for check in checks)


def drop_in_check(name: str) -> Check:
    suite = type("Suite", (RuleConformance,), {"rule": RULES[name]})()
    return next(check for check in run_checks(suite) if check.name.startswith("the drop in class"))


def test_the_drop_in_class_of_a_curvature_method_is_not_counted_as_tested() -> None:
    assert drop_in_check("sgd").passed
    check = drop_in_check("curveball")
    assert check.skipped and "does not cover it" in check.reason


@pytest.mark.parametrize(("rule", "line"), [("curveball", "1 skipped"), ("sgd", "1 passed")])
def test_pytest_reports_it_too(tmp_path: Path, rule: str, line: str) -> None:
    (tmp_path / "test_mine.py").write_text(
        "from relaxbench.optim.registry import RULES\n"
        "from relaxbench.testing import RuleConformance\n"
        f"class TestMine(RuleConformance):\n    rule = RULES[{rule!r}]\n"
    )
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", "-k", "drop_in", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and line in done.stdout, done.stdout + done.stderr
    assert ("does not cover it" in done.stdout) == (rule == "curveball")
