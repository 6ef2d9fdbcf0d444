"""The figures as people see them."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from relaxbench.bench.steps import BATCH, INNER_STEPS


def population_tables(figures: dict[str, Any]) -> list[RenderableType]:
    """What a population gains, and what each rule costs on a tiny network."""
    gains = _table("method", "member-steps/s", "plain steps/s", "ratio", "median ratio")
    for name, row in figures["population"].items():
        rates = f"{row['member_steps']:,.0f}", f"{row['plain_steps']:,.0f}"
        gains.add_row(name, *rates, f"{row['ratio']:.2f} ×", f"{row['median_ratio']:.2f} ×")
    costs = _table("method", "ratio")
    for name, ratio in figures["cost_alone"].items():
        costs.add_row(name, f"{ratio:.2f} ×")
    return [
        Text(
            f"A population of {figures['size']} on digits-mlp against a plain PyTorch loop of SGD beside it, "
            f"on {figures['device']}"
        ),
        gains,
        _note("Fastest stretches of either side, run in turn; the median is over repeats. No Langevin noise."),
        Text("\nCost of a gradient relative to SGD's, alone (K = 1, direct path)"),
        costs,
    ]


def step_tables(figures: dict[str, Any]) -> list[RenderableType]:
    """What a step of the drop-in classes costs."""
    table = _table("optimizer", "gradients", "ratio", "95 % interval", "target", "")
    for name, row in figures["steps"].items():
        wanted = "" if row["target"] is None else f"≤ {row['target']:.2f} ×"
        between = f"{row['low']:.2f} – {row['high']:.2f}"
        table.add_row(name, f"{row['gradients']:.3g}", f"{row['ratio']:.2f} ×", between, wanted, _met(row))
    return [
        Text(f"\nA whole training step of LeNet, batches of {BATCH}, against torch.optim.SGD(foreach=True)"),
        table,
        _note(
            f"Gradients as billed. Single steps in turn; mean over an outer step (L = {INNER_STEPS}) of median ratios. "
            "No Langevin noise unless said; heat and lpf-sgd always draw theirs. The first row shows what the "
            "measurement is worth."
        ),
    ]


def _met(row: dict[str, Any]) -> str:
    if row["target"] is None:
        return ""
    return "✓" if row["high"] <= row["target"] else "✗" if row["low"] > row["target"] else "undecided"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right")
    return table


def _note(text: str) -> Text:
    return Text(text, style="dim")
