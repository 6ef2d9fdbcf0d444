"""`list`: all problems and methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from relaxbench.cli import checks
from relaxbench.cli.console import console
from relaxbench.cli.options import DataDir
from relaxbench.errors import UserError
from relaxbench.util.text import counted

if TYPE_CHECKING:
    from relaxbench.problems.problem import Problem


def list_(data_dir: DataDir = None) -> None:
    """All problems with their parameters, data, budgets and targets, and all methods."""
    checks.use_data(data_dir)
    for part in list_tables():
        console.print(part)


def list_tables() -> list[RenderableType]:
    """Problems and methods, with what they need and what is searched."""
    from relaxbench.optim.registry import rule_class, rule_names
    from relaxbench.problems import problem, problem_names
    from relaxbench.problems.data.published import data_dir

    lines: list[RenderableType] = [Text("Problems", style="bold")]
    names = problem_names()
    for name in names:
        if name.endswith("-small") and name.removesuffix("-small") in names:
            continue  # told with the large one
        try:
            p = problem(name)
        except UserError as error:  # of another package: the rest is still worth a list
            lines.append(_entry(name, "does not work", str(error)))
            continue
        target = f"gradients until the loss is ≤ {p.tolerance:g}" if p.tolerance is not None else p.metric
        published = f"; published: {p.published}" if p.published else ""
        try:
            size = counted(p.size, "parameter")
        except UserError:  # it depends on the number of classes or characters
            size = "parameters unknown until its data are here"
        facts = [f"{size}; {_budget(p)}; judged by {target}{published}"]
        if f"{name}-small" in names:
            facts.append(f"{name}-small: {_budget(problem(f'{name}-small'))}")
        lines.append(_entry(name, p.title, *facts, f"data: {p.data}"))
    lines.append(
        Text(
            f"Data lie in {data_dir()} (--data-dir, RELAXBENCH_DATA); study --download fetches what torchvision knows. "
            "Networks take other data after a colon: lenet:fashion-mnist, allcnn-bn:FOLDER, char-lstm:FILE.txt.",
            style="dim",
        )
    )
    lines.append(Text("\nMethods", style="bold"))
    for name in rule_names():
        try:
            rule = rule_class(name)
        except UserError as error:
            lines.append(_entry(name, "does not work", str(error)))
            continue
        searched = f"searched: {', '.join(rule.space)}"
        lines.append(_entry(name, rule.title, searched, f"memory: {rule.copies} copies of the parameters", rule.source))
    return lines


def _budget(problem: Problem) -> str:
    """Of one trial."""
    return f"{problem.budget:,} gradients a trial" + (f" of {problem.batch_size}" if problem.batch_size > 1 else "")


def _entry(name: str, title: str, *facts: str) -> Padding:
    """A name, what it is, and facts below it, indented; readable at any width."""
    head = Text.assemble((name, "bold cyan"), "  ", title)
    return Padding(Group(head, *(Padding(Text(fact, style="dim"), (0, 0, 0, 4)) for fact in facts)), (0, 0, 0, 2))
