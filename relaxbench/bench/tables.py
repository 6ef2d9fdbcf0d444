"""The tables of all measurements, the same in a terminal and on the page."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from relaxbench.bench.population_tables import busy_tables, compiled_tables, contender_tables
from relaxbench.bench.steps import BATCH, INNER_STEPS
from relaxbench.bench.table import Figures, Row, Table, between, megabytes, met, number, times
from relaxbench.util.text import counted


def population_tables(figures: Figures) -> list[Table]:
    """Return the speed-up of a population per rule."""
    gains = tuple(
        (
            name,
            f"{row['member_steps']:,.0f}",
            f"{row['plain_steps']:,.0f}",
            times(row["ratio"]),
            times(row["median_ratio"]),
        )
        for name, row in figures["methods"].items()
    )
    return [
        Table(
            f"A population of {figures['size']} on digits-mlp against a plain PyTorch loop of SGD",
            ("method", "member-steps/s", "plain steps/s", "ratio", "median ratio"),
            gains,
            "Fastest stretches of either side, run in turn; the median is over repeats. No Langevin noise. "
            "Member-steps are gradient equivalents.",
        ),
    ]


def residual_tables(figures: Figures) -> list[Table]:
    """Return the speed-up of populations on a differential equation."""
    rows = list[Row]()
    for name, row in figures.items():
        plain = number(statistics.median(row["rates"]["plain"]))
        for path, against in row["against"].items():
            target = against["target"]
            judged = f"≥ {target:.2f} × {met(against, at_least=True)}" if target else ""
            ours = number(statistics.median(row["rates"][path]))
            how = f"{path}, {row['size']}"
            rows.append((name, how, ours, plain, times(against["ratio"]), between(against), judged))
    return [
        Table(
            "Populations on Poisson's equation against nested automatic differentiation",
            ("problem", "path, K", "ours", "plain", "ratio", "95 % interval", "target"),
            tuple(rows),
            "Member-steps per second, and steps of the plain loop: training steps of SGD in float64, with derivatives "
            "in the inputs carried forward, against torch.optim.SGD on one network with torch.autograd.grad for its "
            "Laplacian; in turn.",
        )
    ]


def alone_tables(figures: Figures) -> list[Table]:
    """Return the cost of a gradient of each rule on a tiny network."""
    return [
        Table(
            "Cost of a gradient relative to SGD's, alone on digits-mlp (K = 1, direct path)",
            ("method", "ratio", "95 % interval", "target"),
            tuple((name, times(row["ratio"]), between(row), _at_most(row)) for name, row in figures.items()),
            "Measured in turn, as a study calibrates its seconds; with one thread its processor time, so that other "
            "programs count little. On so small a network, a rule's own arithmetic is a large part.",
        ),
    ]


def _at_most(row: Figures) -> str:
    return "" if row["target"] is None else f"≤ {row['target']:.2f} × {met(row)}"


WAYS = ("way", "ratio", "95 % interval", "target", "steps/s", "trials/h")


def trials_tables(figures: Figures) -> list[Table]:
    """Return one table per problem: the engine's choice, and the other ways to run the same trials."""
    return [_trials_table(label, row) for label, row in figures.items()]


def _trials_table(label: str, row: Figures) -> Table:
    if "missing" in row:
        return Table(
            label, WAYS, ((f"not measured: {row['missing']}", *[""] * 5),), "Its data are not on this machine."
        )
    engine, against = row["engine"], row["against"]
    rows: list[Row] = [(_engine(engine), times(1), "", "", *_speed(row, "ours"))]
    for name, about in against.items():
        if "reason" in about:
            rows.append((f"{way(name, about)}: not measured, {about['reason']}", *[""] * 5))
            continue
        wanted = "" if about["target"] is None else f"≥ {about['target']:.2f} ×"
        judged = f"{wanted} {met(about, at_least=True)}".strip()
        rows.append((way(name, about), times(about["ratio"]), between(about), judged, *_speed(row, name)))
    default = ""
    if workers := row.get("workers"):
        rows.insert(1, (f"ours by default, {way('processes', workers)}", *_by_default(row, workers)))
        if "best" in workers:
            best = way(workers["best"], against[workers["best"]])
            path = f"{workers['path']} path, K = {workers['population']}"
            default = f" By default `study` starts these workers ({path}); their ratio is that to the {best}."
    chose = "was given K and chose" if "K = " in label else "chose"
    why = f" The direct path, because: {engine['note']}." if engine["note"] else ""
    return Table(
        f"{label}: the engine {chose} the {engine['path']} path, K = {engine['population']}",
        WAYS,
        tuple(rows),
        f"Steps of all trials together, SGD with batches of {row['batch_size']}, and what that makes at "
        f"{row['budget']:,} steps per trial, without evaluations. Ratio: ours to theirs, in turn, the median over "
        f"{counted(len(row['rates']['ours']), 'round')}.{default}{why}",
    )


def _by_default(row: Figures, workers: Figures) -> tuple[str, str, str, str, str]:
    """Return the cells of our workers."""
    if "reason" in workers:
        return ("", f"not measured, {workers['reason']}", "", "", "")
    wanted = "" if workers["target"] is None else f"≥ {workers['target']:.2f} × {met(workers, at_least=True)}"
    return (times(workers["ratio"]), between(workers), wanted, *_speed(row, "workers"))


def _engine(engine: Figures) -> str:
    return f"ours, {engine['population']} at once" if engine["path"] == "vectorized" else "ours, one after another"


def way(name: str, about: Figures) -> str:
    """Name a way to run trials."""
    if name == "processes":
        several = f"{about['processes']} processes" if about["processes"] > 1 else "1 process"
        return f"{several} of {counted(about['threads'], 'thread')}"
    if name == "loader":
        workers = f", {counted(about['workers'], 'worker')}" if about["workers"] else ""
        return f"plain loop, DataLoader{workers}"
    return "plain loop, data in memory"


def _speed(row: Figures, name: str) -> tuple[str, str]:
    rate = statistics.median(row["rates"][name])
    return number(rate), number(rate * 3600 / row["budget"])


def step_tables(figures: Figures) -> list[Table]:
    """Return the cost of a step of each drop-in class."""
    rows = []
    for name, row in figures.items():
        wanted = "" if row["target"] is None else f"≤ {row['target']:.2f} ×"
        judged = f"{wanted} {met(row)}".strip()
        rows.append((name, f"{row['gradients']:.3g}", times(row["ratio"]), between(row), judged))
    return [
        Table(
            f"A whole training step of LeNet, batches of {BATCH}, against torch.optim.SGD(foreach=True)",
            ("optimizer", "gradients", "ratio", "95 % interval", "target"),
            tuple(rows),
            "Gradients as the ledger counts them. "
            f"Single steps in turn; mean over an outer step (L = {INNER_STEPS}) of median ratios. "
            "No Langevin noise unless said; heat and lpf-sgd always draw theirs. The first row shows the "
            "accuracy of the measurement.",
        )
    ]


def allcnn_tables(figures: Figures) -> list[Table]:
    """Return seconds per epoch, and the share of the device's peak."""
    rows, against, rounds = list[Row](), figures["against"], len(figures["rates"]["ours"])
    for name, title in (("ours", "ours, direct path"), ("plain", "plain loop")):
        row = figures["ways"][name]
        rows.append(
            (
                title,
                f"{row['seconds_per_epoch']:,.1f}",
                number(row["flops_per_second"] / 1e9),
                f"{100 * row['fraction']['ratio']:.0f} %",
                f"{100 * row['fraction']['low']:.0f} – {100 * row['fraction']['high']:.0f} %" if rounds > 1 else "",
            )
        )
    size, spread = f"{figures['side']:,}", f" ({between(against)})" if rounds > 1 else ""
    products = ("product", f"product of two matrices, {size} × {size}"), ("convolution", "the same, as a convolution")
    for name, title in products:
        rate = statistics.median(figures["rates"][name])
        rows.append((title, "", number(rate / 1e9), f"{100 * rate / figures['peak']:.0f} %", ""))
    return [
        Table(
            f"All-CNN-BN with SGD, batches of {figures['batch_size']}, {figures['arithmetic']}",
            ("way", "seconds per epoch", "GFLOP/s", "of the peak", "95 % interval"),
            tuple(rows),
            f"An epoch is {figures['steps_per_epoch']:,} steps, extrapolated from a few on noise; medians of "
            f"{counted(rounds, 'round')} in turn. A step takes {figures['flops_per_step'] / 1e9:,.1f} GFLOP in "
            "convolutions, as PyTorch counts them; the peak is the faster of the two products, in every round. "
            f"Ours makes {times(against['ratio'])} the plain loop's steps{spread}." + _epoch_target(figures),
        )
    ]


def _epoch_target(figures: Figures) -> str:
    if figures.get("target") is None:
        return ""
    reached = figures["ways"]["ours"]["seconds_per_epoch"] <= figures["target"]
    return f" The target on one H200 is {figures['target']:g} s per epoch: {'met' if reached else 'missed'} here."


def memory_tables(figures: Figures) -> list[Table]:
    """Return peak memory per member, and the value in a report."""
    tables = []
    for network, row in figures.items():
        rows = []
        for name, about in row["rules"].items():
            head = name, str(about["copies"]), megabytes(about["stated"])
            ratio = "measured" in about and times(about["measured"] / about["stated"])
            tail = (megabytes(about["measured"]), ratio) if ratio else (about["reason"], "")
            rows.append((*head, *tail))
        few, many = row["sizes"]
        tables.append(
            Table(
                f"Peak memory per member: {network}, {row['parameters']:,} parameters, batches of {row['batch_size']}",
                ("method", "copies declared", "stated MB", "measured MB", "ratio"),
                tuple(rows),
                f"Measured: the slope of the peak between populations of {few} and {many} on the vectorized path. "
                "Stated, as in a report of trials on that path: the most that a member alone holds within an outer "
                "step. What lies between the two are temporaries within operations, and what the allocator leaves "
                "unused.",
            )
        )
    return tables


def ledger_tables(figures: Figures) -> list[Table]:
    """Return the ledger's cost per outer step next to counts of FLOPs."""
    rows = []
    for name, row in figures["rules"].items():
        cells, holds = [name, f"{row['billed']:.4g}"], True
        for count in ("profiler", "flop_counter"):
            cells += [f"{row[count]:.4g}", f"{row[count] / row['billed']:.3f}"]
            holds = holds and abs(row[count] / row["billed"] - 1) <= figures["within"]
        rows.append((*cells, f"{row['own']['profiler']:.2g}", "✓" if holds else "✗"))
    within = f"within {100 * figures['within']:.0f}\N{NO-BREAK SPACE}%"
    return [
        Table(
            "The ledger's cost of an outer step against PyTorch's counts of FLOPs",
            ("method", "billed", "profiler", "ratio", "FLOP counter", "ratio", "own products", within),
            tuple(rows),
            "All in gradients: FLOPs of the outer step divided by those of one gradient, in matrix products and "
            "convolutions. torch.profiler on 20 full layers, torch.utils.flop_counter on LeNet, whose first layer "
            "weighs more. Products that a method makes of its own are no gradients: they are not billed, count in "
            "seconds, and stand apart, on the full layers.",
        )
    ]


def plan_tables(figures: Figures) -> list[Table]:
    """Return the time that a plan states next to the time that its study takes."""
    rows = []
    for name, row in figures["problems"].items():
        ratio = row["taken"] / row["planned"]
        holds = max(ratio, 1 / ratio) <= figures["within"]
        seconds = (f"{row[key]:,.0f} s" for key in ("planned", "taken"))
        rows.append((name, f"{row['budget']:,}", *seconds, times(ratio), "✓" if holds else "✗"))
    return [
        Table(
            "The time of a small study against its plan",
            ("problem", "gradients per run", "planned", "taken", "ratio", f"within {times(figures['within'])}"),
            tuple(rows),
            "Three methods, one look at six blocks of four trials, four trials of TPE and two recommended runs, with "
            "flatness. Plan and study run one right after the other, as commands; other programs on the machine "
            "disturb the ratio.",
        )
    ]


TABLES: dict[str, tuple[str, Callable[[Figures], list[Table]]]] = {
    "population": ("A population on a tiny network", population_tables),
    "contenders": ("Beside JAX and a DataLoader", contender_tables),
    "compiled": ("Compiled populations", compiled_tables),
    "busy": ("On a busy machine", busy_tables),
    "residual": ("A differential equation", residual_tables),
    "alone": ("A gradient of each rule", alone_tables),
    "trials": ("Parallel trials", trials_tables),
    "steps": ("A step in a custom loop", step_tables),
    "allcnn": ("All-CNN-BN", allcnn_tables),
    "memory": ("Memory", memory_tables),
    "ledger": ("The ledger", ledger_tables),
    "plan": ("Plans", plan_tables),
}
"""Title and tables of every part."""
