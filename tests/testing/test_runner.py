"""Outcomes of checks: passed, failed, or skipped with a reason; with and without pytest."""

from __future__ import annotations

import re
from pathlib import Path

from relaxbench.errors import UserError
from relaxbench.optim.registry import RULES
from relaxbench.testing import run_checks
from relaxbench.testing.runner import require, skip
from tests import processes
from tests.testing.single import check_alone

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

    def test_that_crashes_likewise(self) -> None:
        raise RuntimeError("no idea")

    def test_that_crashes_otherwise(self) -> None:
        raise ValueError("no idea")

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
        ("that crashes likewise", "skipped", "see 'that crashes'"),
        ("that crashes otherwise", "failed", "ValueError: no idea"),
        ("without a message", "failed", "the assertion has no message"),
    ]
    assert all((check.passed + check.failed + check.skipped) == 1 for check in checks)


class Refused:
    """Every check meets the same refusal; the last two also the error that it quotes."""

    def test_it_declares_itself(self) -> None:
        raise UserError("file 'a.py' fails (RuntimeError: no graph): use torch.func")

    def test_it_has_shapes(self) -> None:
        raise UserError("file 'a.py' fails (RuntimeError: no graph): use torch.func")

    def test_it_can_be_trained(self) -> None:
        raise RuntimeError("no graph")


def test_a_cause_is_reported_once() -> None:
    first, *others = run_checks(Refused())
    assert first.failed and first.reason == "file 'a.py' fails (RuntimeError: no graph): use torch.func"
    assert [(check.outcome, check.reason) for check in others] == [("skipped", "see 'it declares itself'")] * 2


def test_the_drop_in_class_of_a_curvature_method_is_not_counted_as_tested() -> None:
    words = "the drop in class takes the same steps"
    assert check_alone(RULES["sgd"], words).passed
    check = check_alone(RULES["curveball"], words)
    assert check.skipped and "does not cover it" in check.reason


def test_pytest_reports_a_pass_and_a_skip_too(tmp_path: Path) -> None:
    classes = "".join(
        f"class Test{title}(RuleConformance):\n    rule = RULES[{name!r}]\n"
        for title, name in (("Gradients", "sgd"), ("Curvature", "curveball"))
    )
    (tmp_path / "test_mine.py").write_text(
        "from relaxbench.optim.registry import RULES\nfrom relaxbench.testing import RuleConformance\n" + classes
    )
    command = ["-m", "pytest", "-v", "-rs", "-p", "no:cacheprovider", "-k", "drop_in", str(tmp_path)]
    done = processes.run(command, cwd=ROOT)
    assert done.returncode == 0 and "1 passed, 1 skipped" in done.stdout, done.stdout + done.stderr
    outcomes = dict(re.findall(r"::Test(\w+)::test_the_drop_in_class_takes_the_same_steps (\w+)", done.stdout))
    assert outcomes == {"Gradients": "PASSED", "Curvature": "SKIPPED"}
    assert done.stdout.count("this check does not cover it") == 1
