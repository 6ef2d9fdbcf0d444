"""The conformance suite for rules and problems of one's own.

In a test file that pytest finds:

    from relaxbench.testing import RuleConformance

    class TestMyRule(RuleConformance):
        rule = MyRule

`python -m relaxbench check NAME` runs the same without pytest.
"""

from relaxbench.testing.problems import ProblemConformance
from relaxbench.testing.rules import RuleConformance
from relaxbench.testing.runner import Check, run_checks

__all__ = ["Check", "ProblemConformance", "RuleConformance", "run_checks"]
