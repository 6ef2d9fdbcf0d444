"""One check of the suite for rules, without the checks before it."""

from __future__ import annotations

from relaxbench.optim.rule import Rule
from relaxbench.testing import Check, RuleConformance, run_checks


def check_alone(rule: type[Rule], words: str) -> Check:
    """The result of the check with this name, in words."""
    method = f"test_{words.replace(' ', '_')}"
    parts = {"rule": rule, "options": {}, "settings": {}, "_probe": RuleConformance._probe}
    suite = type("Suite", (), {**parts, method: getattr(RuleConformance, method)})()
    (check,) = run_checks(suite)
    return check
