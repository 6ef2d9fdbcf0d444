"""The conformance suite for your own rules and problems.

In a test file that pytest collects:

    from relaxbench.testing import RuleConformance

    class TestMyRule(RuleConformance):
        rule = MyRule

`python -m relaxbench check NAME` runs the same checks without pytest. A check that does not apply is skipped.
"""

from relaxbench.testing.problems import ProblemConformance
from relaxbench.testing.rules import RuleConformance
from relaxbench.testing.runner import Check, run_checks

__all__ = ["Check", "ProblemConformance", "RuleConformance", "run_checks"]
