"""What each part of a method is worth: the method without it, compared with the whole, in words."""

from __future__ import annotations

from collections.abc import Sequence

from relaxbench.analysis.comparison import Comparison, MethodResult
from relaxbench.analysis.sentences import capital, look, prospect, ratio
from relaxbench.util.text import percent

Ablated = tuple[MethodResult, Comparison]
"""A method without one of its parts, and its comparison with the whole method."""

SHORT = {
    "worse": "helps",
    "better": "harms",
    "equivalent": "equivalent",
    "undecided": "undecided",
    "no claim": "no claim",
}
"""What a verdict about the method without a part says of the part."""


def ablated(results: Sequence[MethodResult]) -> list[Ablated]:
    """Return the methods without a part, each with its comparison; empty in a study of whole methods.

    Args:
        results: of one problem.
    """
    pairs = [(result, result.against("baseline")) for result in results if result.without]
    return [(result, comparison) for result, comparison in pairs if comparison is not None]


def worth(result: MethodResult, comparison: Comparison) -> str:
    """Return what leaving a part out has shown, in a few sentences and never stronger than the interval."""
    whole, part = comparison.reference_title, result.without
    if comparison.verdict == "no claim" or not comparison.claimed:
        return f"Nothing is claimed of {part}: {comparison.reason or 'there is no interval'}."
    times = (
        f"Without {part}, {whole} has {ratio(comparison.ratio)} times its {comparison.metric} "
        f"({ratio(comparison.low)} to {ratio(comparison.high)})"
    )
    says = {
        "worse": f"{part} helps",
        "better": f"{part} harms",
        "equivalent": f"{part} makes no difference beyond the margin of {comparison.margin}",
    }.get(comparison.verdict, f"it is undecided whether {part} helps, and it {_at_most(comparison)}")
    needed = prospect(comparison) if comparison.verdict == "undecided" else ""
    return " ".join(filter(None, (f"{times}: {says}.", look(comparison), needed)))


def instead(result: MethodResult) -> str:
    """Return what stands in the place of a part."""
    text = result.instead or "–"
    return capital(text) if text[0].isascii() else text  # γ is not Γ


def _at_most(comparison: Comparison) -> str:
    """What an interval around 1 still allows: how much a part gains at most, and how much it loses."""
    gain, loss = 1 - 1 / comparison.high, 1 / comparison.low - 1
    return f"lowers the {comparison.metric} by at most {percent(gain)} or raises it by at most {percent(loss)}"
