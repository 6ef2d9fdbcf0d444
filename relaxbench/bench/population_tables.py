"""The tables of populations that are measured by processor time."""

from __future__ import annotations

import statistics

from relaxbench.bench.table import Figures, Row, Table, between, met, number, times

WAYS = {"vectorized": "ours, vectorized", "compiled": "ours, compiled", "jax": "JAX", "loader": "PyTorch, DataLoader"}
COLUMNS = ("way", "steps/CPU-s", "ours to it", "95 % interval", "target")


READING = (
    "Member-steps per CPU-second. JAX is jit(vmap(train)) with lax.scan over the steps, on the same network, batch "
    "size and defaults, noise included, and draws its mini-batches without replacement as we do. No measurements, and "
    "nothing of what compiling takes. Ratio: of our compiled population (without a compiler, of the vectorized one) to "
    "another way, in turn, the median over rounds."
)


def contender_tables(figures: Figures) -> list[Table]:
    """Return one table per rule and size: ours, JAX, and a DataLoader; and what is missing."""
    missing = tuple((f"not measured: {reason}", *[""] * 4) for reason in figures["missing"].values())
    tables = [Table("Beside what others would write", COLUMNS, missing, "")] if missing else []
    return tables + [
        _contest(case, READING if case is figures["cases"][-1] else "") for case in figures.get("cases", [])
    ]


def _contest(case: Figures, reading: str) -> Table:
    rows = list[Row]()
    for way, rates in case["rates"].items():
        against = case["against"].get(way)
        judged = _judged(against) if against else ("", "", "")
        rows.append((WAYS[way], number(statistics.median(rates)), *judged))
    title = f"{case['rule']} on digits-mlp, {case['size']} members, each way with one thread"
    return Table(title, COLUMNS, tuple(rows), reading)


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
            "Gradient equivalents per CPU-second, noise and inner loops included, and relative to the vectorized "
            "population and to SGD's compiled one (with its interval), in turn, the median over rounds. A step is made "
            "quickly where the cache on disk has it.",
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
            ("path", "alone", "beside them", "CPU-s", "95 % interval", "target"),
            tuple(rows),
            "Gradients per CPU-second of one thread, and CPU-seconds of a gradient beside the others relative to those "
            "without them, in turn. "
            f"The load of the machine was {figures['load']:.1f} before.",
        )
    ]


def _judged(row: Figures) -> Row:
    wanted = "" if row.get("target") is None else f"≥ {row['target']:.2f} × {met(row, at_least=True)}".strip()
    return times(row["ratio"]), between(row), wanted
