"""Say how the trials of a problem are run."""

from __future__ import annotations

from relaxbench.store.facts import EngineFacts
from relaxbench.util.text import counted, listed


def describe_engine(name: str, engine: EngineFacts, invariance: bool = False) -> list[str]:
    """Return the lines that describe an engine: path, K, precision, device, and the methods with compiled steps.

    Args:
        name: of the problem.
        engine: as stored.
        invariance: whether to say how much a gradient depends on the slot, instead of why the path was chosen.
    """
    if engine["path"] == "script":
        return [f"{name}: a script, one trial at a time in every worker, on {engine['device']}"]
    line = f"{name}: {engine['path']} path, K = {engine['population']}, {engine['precision']} on {engine['device']}"
    if invariance:
        line += f"; gradients are the same in any slot: {engine['invariance']}"
    elif engine["note"]:
        line += f" ({engine['note']})"
    line += f"; measured on {day}" if (day := engine.get("measured")) else ""
    return [line, *describe_repayment(name, engine), *describe_steps(name, engine)]


def describe_repayment(name: str, engine: EngineFacts) -> list[str]:
    """Return the line that says why steps are compiled, or not; none where the training is short, or a path was asked.

    Args:
        name: of the problem.
        engine: as stored.
    """
    facts = engine.get("repayment")
    if not facts or not facts["reason"]:
        return []
    chosen = "steps are compiled" if engine["path"] == "compiled" else "steps are not compiled"
    return [f"{name}: {chosen}: {facts['reason']}"]


def describe_steps(name: str, engine: EngineFacts) -> list[str]:
    """Return the lines that say which methods have compiled steps, and why the others have not; none on other paths."""
    compiled = engine.get("compiled", {})
    made = {method: facts["seconds"] for method, facts in compiled.items() if not facts["reason"]}
    lines = []
    if made:
        lines.append(f"{name}: {counted(len(made), 'step')} compiled in {sum(made.values()):.0f} s ({listed([*made])})")
    by_reason: dict[str, list[str]] = {}
    for method, facts in compiled.items():
        if facts["reason"]:
            by_reason.setdefault(facts["reason"], []).append(method)
    lines += [f"{name}: not compiled: {listed(methods)}: {reason}" for reason, methods in by_reason.items()]
    return lines
