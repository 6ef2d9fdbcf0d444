"""The tables of populations that are measured by processor time."""

from __future__ import annotations

import statistics

from relaxbench.bench.table import Figures, Row, Table, between, met, number, times

WAYS = {"vectorized": "ours, vectorized", "compiled": "ours, compiled", "jax": "JAX: jit(vmap(train)), lax.scan"}
WAYS["loader"] = "plain PyTorch loop, DataLoader"


def contender_tables(figures: Figures) -> list[Table]:
    """Return one table of all rules and sizes: ours, JAX, and a DataLoader."""
    rows: list[Row] = [(f"not measured: {reason}", *[""] * 6) for reason in figures["missing"].values()]
    for case in figures.get("cases", []):
        for way, rates in case["rates"].items():
            head = WAYS[way], case["rule"], str(case["size"]), number(statistics.median(rates))
            against = case["against"].get(way)
            rows.append((*head, *(_judged(against) if against else ("", "", ""))))
    return [
        Table(
            "The digits population beside what others would write, each with one thread",
            ("way", "rule", "K", "member-steps per CPU-second", "ours to it", "95 % interval", "target"),
            tuple(rows),
            "The same network, batches, rule and defaults, noise included, the mini-batches drawn without replacement; "
            "no measurements, and nothing of what compiling takes. Ratio: of our compiled population (without a "
            "compiler, of the vectorized one), in turn, median over rounds.",
        )
    ]


def compiled_tables(figures: Figures) -> list[Table]:
    """Return what compiling gains each rule, and its speed relative to SGD's."""
    title = "Compiled populations on digits-mlp"
    columns = (
        "method",
        "gradients per CPU-second",
        "to vectorized",
        "to sgd",
        "95 % interval",
        "target",
        "compiled in",
    )
    if "missing" in figures:
        return [Table(title, columns, ((f"not measured: {figures['missing']}", *[""] * 6),), "")]
    rows = list[Row]()
    for name, row in figures["rules"].items():
        if "reason" in row:
            rows.append((f"{name}: no compiled step, {row['reason']}", *[""] * 6))
            continue
        rate = number(statistics.median(row["rates"]["compiled"]))
        cells = rate, times(row["vectorized"]["ratio"]), *_judged(row["sgd"])
        rows.append((name, *cells, f"{row['seconds']:.0f} s"))
    return [
        Table(
            f"{title}, K = {figures['size']}, one thread",
            columns,
            tuple(rows),
            "In turn with the vectorized population and with SGD's compiled one, the median over rounds; gradient "
            "equivalents, noise and inner loops included. Compiling is quicker where its cache on disk has the step.",
        )
    ]


def busy_tables(figures: Figures) -> list[Table]:
    """Return the processor time of a gradient on a busy machine, relative to an idle one."""
    rows = []
    for path, row in figures["paths"].items():
        idle, busy = (number(statistics.median(row["rates"][state])) for state in ("idle", "busy"))
        rows.append(
            (path, idle, busy, times(row["ratio"]), between(row), f"≤ {row['target']:.2f} × {met(row)}".strip())
        )
    count = figures["processes"]
    others = f"{count} processes that only count" if count > 1 else "1 process that only counts"
    return [
        Table(
            f"A population of SGD beside {others}",
            ("path", "gradients per CPU-second, alone", "beside them", "CPU-seconds", "95 % interval", "target"),
            tuple(rows),
            "One thread; CPU-seconds of a gradient beside the others, relative to those without them, in turn. "
            f"The load of the machine was {figures['load']:.1f} before.",
        )
    ]


def _judged(row: Figures) -> Row:
    wanted = "" if row.get("target") is None else f"≥ {row['target']:.2f} × {met(row, at_least=True)}".strip()
    return times(row["ratio"]), between(row), wanted
