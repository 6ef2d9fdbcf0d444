"""`list`: all problems and methods."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from relaxbench.cli import checks
from relaxbench.cli.as_json import AsJson, print_json
from relaxbench.cli.console import console
from relaxbench.cli.options import DataDir
from relaxbench.errors import UserError
from relaxbench.util.text import counted

if TYPE_CHECKING:
    from relaxbench.optim.rule import Rule
    from relaxbench.problems.problem import Problem


def list_(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List all problems with their parameters, data, budgets and targets, and all methods."""
    checks.use_data(data_dir)
    if as_json:
        print_json(list_answer())
        return
    for part in list_tables():
        console.print(part)


def list_answer() -> dict[str, Any]:
    """Return what `list --json` prints."""
    from relaxbench.optim.registry import ignored_rules, rule_names
    from relaxbench.problems import problem_names
    from relaxbench.problems.data.published import data_dir
    from relaxbench.problems.registry import ignored_problems

    return {
        "data_dir": str(data_dir()),
        "problems": [_problem_answer(name) for name in problem_names()],
        "methods": [_method_answer(name) for name in rule_names()],
        "ignored": [*ignored_problems().values(), *ignored_rules().values()],
    }


def _problem_answer(name: str) -> dict[str, Any]:
    """Return the facts of a problem; of one in a plug-in that does not work, the error."""
    from relaxbench.problems import problem

    try:
        p = problem(name)
    except UserError as error:
        return {"name": name, "error": str(error)}
    try:
        size = _size(p)
    except UserError:  # depends on the number of classes or characters
        size = None
    own = ("name", "title", "budget", "batch_size", "metric", "unit", "tolerance", "data", "published")
    return {**{key: getattr(p, key) for key in own}, "parameters": size, "error": None}


def _method_answer(name: str) -> dict[str, Any]:
    """Return the facts of a method; of one in a plug-in that does not work, the error."""
    from relaxbench.optim.options import options_of
    from relaxbench.optim.registry import rule_class
    from relaxbench.space import to_stored

    try:
        rule = rule_class(name)
    except UserError as error:
        return {"name": name, "error": str(error)}
    return {
        "name": name,
        "title": rule.title,
        "source": rule.source,
        "copies": rule.copies,
        "space": to_stored(rule.space),
        "fixed": dict(rule.default_fixed),
        "wide": to_stored(rule.wide),
        "options": {option: {"default": o.default, "meaning": o.text} for option, o in options_of(rule).items()},
        "error": None,
    }


def list_tables() -> list[RenderableType]:
    """Return one entry per problem and per method."""
    from relaxbench.optim.registry import ignored_rules, rule_class, rule_names
    from relaxbench.problems import problem, problem_names
    from relaxbench.problems.data.published import data_dir
    from relaxbench.problems.registry import ignored_problems

    lines: list[RenderableType] = [Text("Problems", style="bold")]
    names = problem_names()
    for name in names:
        if name.endswith("-small") and name.removesuffix("-small") in names:
            continue  # listed with the large one
        try:
            p = problem(name)
        except UserError as error:  # in a plug-in: list the rest
            lines.append(_entry(name, "does not work", str(error)))
            continue
        target = f"gradients until the loss is ≤ {p.tolerance:g}" if p.tolerance is not None else p.metric
        published = f"; published: {p.published}" if p.published else ""
        try:
            size = counted(_size(p), "parameter")
        except UserError:  # depends on the number of classes or characters
            size = "parameters unknown until its data are here"
        facts = [f"{size}; {_budget(p)}; judged by {target}{published}"]
        if f"{name}-small" in names:
            facts.append(f"{name}-small: {_variant(p, problem(f'{name}-small'))}")
        lines.append(_entry(name, p.title, *facts, f"data: {p.data}"))
    lines += [Text(line, style="yellow") for line in ignored_problems().values()]
    lines.append(
        Text(
            f"Data lie in {data_dir()} (--data-dir, RELAXBENCH_DATA); study --download fetches those of torchvision. "
            "Add a colon to train a network on other data: lenet:fashion-mnist, allcnn-bn:FOLDER, char-lstm:FILE.txt, "
            "tabular-mlp:FILE.csv.",
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
        memory = f"memory: {rule.copies} copies of the parameters"
        lines.append(_entry(name, rule.title, *_spaces(rule), memory, rule.source))
    lines += [Text(line, style="yellow") for line in ignored_rules().values()]
    lines.append(
        _entry(
            "torch:MODULE.CLASS",
            "Any torch.optim.Optimizer, wrapped",
            'such as rule = "torch:torch.optim.Adam" or "torch:schedulefree.AdamWScheduleFree" in a study file, or '
            '"torch:my_file.py:MyOptimizer"; check torch:torch.optim.Adam shows whether one can be a method',
        )
    )
    lines.append(
        Text(
            'A study searches the default space. In the table [method.NAME] of a study file, space = "wide" searches '
            'the wide one, arm = "published" runs the published settings without any search, and options = {…} sets '
            "options of the method.",
            style="dim",
        )
    )
    return lines


def _spaces(rule: type[Rule]) -> list[str]:
    """Say what a study searches of a rule, what it keeps, what the wide space adds, its options, what was published."""
    from relaxbench.optim.options import in_toml, options_of
    from relaxbench.optim.spaces import published_value, rows

    table = rows(rule)
    searched = [f"{row.name} {row.default}" for row in table if row.name in rule.space]
    kept = [f"{row.name} {row.default.removeprefix('fixed: ')}" for row in table if row.name in rule.default_fixed]
    wide = [f"{row.name} {row.wide}" for row in table if row.wide != row.default]
    parts = {"searched by default": searched, "kept by default": kept, "in the wide space": wide}
    lines = [f"{what}: {'; '.join(texts)}" for what, texts in parts.items() if texts]
    lines += [f"option {name} = {in_toml(option)}: {option.text}" for name, option in options_of(rule).items()]
    if rule.publications:
        first, *others = rule.publications
        values = "; ".join(f"{name} {published_value(first, name)}" for name in rule.wide)
        note = " (* not given by the source)" if "*" in values else ""
        also = f"; others for {', '.join(other.kind for other in others)}" if others else ""
        lines.append(f"published for {first.kind}: {values}{note}{also}")
    return lines


def _variant(large: Problem, small: Problem) -> str:
    """Say what a small variant has: its budget, and its parameters where they are others."""
    try:
        own = _size(small)
        other = f"; {counted(own, 'parameter')}" if own != _size(large) else ""
    except UserError:  # depends on data
        other = ""
    return _budget(small) + other


def _size(problem: Problem) -> int:
    """The number of parameters; their values are not drawn, of which networks for images have millions."""
    import torch

    from relaxbench.problems.image_problems import ImageProblem

    with torch.device("meta") if isinstance(problem, ImageProblem) else nullcontext():
        return problem.size


def _budget(problem: Problem) -> str:
    """Say how many gradients a trial gets, and of how many examples."""
    examples = f" of {problem.batch_size} examples" if problem.batch_size > 1 else ""
    return f"{problem.budget:,} gradients{examples} per trial"


def _entry(name: str, title: str, *facts: str) -> Padding:
    """Format a name and its title, with indented facts below, so that it reads well at any width."""
    head = Text.assemble((name, "bold cyan"), "  ", title)
    return Padding(Group(head, *(Padding(Text(fact, style="dim"), (0, 0, 0, 4)) for fact in facts)), (0, 0, 0, 2))
