"""`best`: the best settings of a method as code, and the weights of its best run."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relaxbench.cli import options
from relaxbench.cli.as_json import AsJson, print_json
from relaxbench.cli.options import STORAGE, Storage, reader
from relaxbench.errors import UserError, unknown
from relaxbench.util.text import before_a_number, counted

if TYPE_CHECKING:
    import pandas as pd

    from relaxbench.analysis.frames import StudyFrames
    from relaxbench.optim.rule import Rule
    from relaxbench.problems import Problem
    from relaxbench.store.facts import ProblemFacts


def best(
    study: Annotated[str, typer.Argument(help="Name of a study.")],
    method: Annotated[str, typer.Argument(help="A method of this study.")],
    storage: Storage = STORAGE,
    problem: Annotated[str | None, typer.Option(help=r"A problem of this study.  \[default: the only one]")] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            parser=options.named_path,
            metavar="PATH",
            help="Also write the best run's weights to this file (.pt).",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print a method's best settings as a constructor to paste into a training loop."""
    from relaxbench.analysis.frames import load_study

    answer = best_answer(load_study(reader(storage), study), method, problem, weights)
    if as_json:
        print_json(answer)
    else:
        print(answer["code"])


def best_answer(frames: StudyFrames, method: str, problem: str | None, weights: Path | None) -> dict[str, Any]:
    """Return what `best --json` prints, and write the best run's weights to a file if one is given.

    Args:
        frames: the study; its weights are in the database from which it was read.
        method: its label.
        problem: its name; None for the only one.
        weights: the file.

    Raises:
        UserError: if the method or problem does not exist, or the method has no finished trial.
    """
    from relaxbench.optim.registry import rule_class
    from relaxbench.optim.wrapped.constructor import code
    from relaxbench.optim.wrapped.rule import WrappedRule
    from relaxbench.store.schema import SEARCHED
    from relaxbench.store.winners import best_rows_so_far

    study = frames.name
    if method not in frames.methods:
        raise unknown(f"method in study {study!r}:", method, frames.methods)
    if problem is None and len(frames.problems) > 1:
        raise UserError(f"study {study!r} has several problems: give one of {', '.join(frames.problems)} as --problem")
    name = frames.problems[0] if problem is None else problem
    if name not in frames.problems:
        raise unknown(f"problem in study {study!r}:", name, frames.problems)
    trials = frames.trials
    mine = trials[(trials["problem"] == name) & (trials["method"] == method) & (trials["status"] == "done")]
    published = frames.method(method)["arm"] == "published"
    tried = mine[mine["phase"] == "confirm"] if published else mine[mine["phase"].isin(SEARCHED)]
    if not len(tried):
        raise UserError(
            f"study {study!r} has no finished trial of {method!r} on {name} yet: go on with python -m relaxbench study "
            f"FILE, the study file of {study!r}"
        )
    if published and weights is not None:
        raise UserError(
            f"study {study!r} keeps no weights of {method!r}, which is run as published: leave --weights out"
        )
    winner = best_rows_so_far(tried).iloc[0]
    runs = tried if published else mine[(mine["phase"] == "recommend") & (mine["parent"] == winner["id"])]
    about, facts = frames.problem(name), frames.method(method)
    options, budget = facts["options"], about["budget"] or 0
    tested = runs["test_metric"].dropna()
    answer = {
        "study": study,
        "problem": name,
        "method": method,
        "title": facts["title"],
        "options": dict(options),
        "params": dict(winner["params"]),
        "trial": winner["id"],
        "validation_loss": None if published else winner["value"],
        "metric": about["metric"],
        "unit": about["unit"],
        "runs": len(runs),
        "test_metric": tested.mean() if len(tested) else None,
        "test_metric_std": tested.std(ddof=1) if len(tested) > 1 else None,
        "weights": None if weights is None else str(weights),
    }
    if script := frames.spec.get("script"):
        if weights is not None:
            raise UserError(
                f"relaxbench keeps no weights of the script {name!r}: leave --weights out, and save them there"
            )
        by_loss = script.get("worst_loss") is not None
        return {**answer, "code": _of_script(facts["title"], name, winner, runs, about, by_loss)}
    rule = rule_class(facts["rule"], options)
    origin = f"validation loss {winner['value']:.4g} when it was found (trial {winner['id']})"
    lines = [f"# {rule.title} on {name}: {'as published, not tuned' if published else origin}"]
    lines += _on_fresh_seeds(runs, about)
    if issubclass(rule, WrappedRule):
        lines += code(rule, winner["params"], budget)
    else:
        lines += _drop_in(rule, options, winner["params"], budget)
    if weights is not None:
        lines.append(f"# weights of the best run: {_save_weights(frames, runs, name, weights)}")
    return {**answer, "code": "\n".join(lines)}


def _of_script(
    title: str,
    name: str,
    winner: Any,
    runs: pd.DataFrame,
    about: ProblemFacts,
    scored_by_loss: bool,
) -> str:
    """Return the best params of a method of a training script, as its `Trial.params` has them."""
    if scored_by_loss:
        value = f"validation loss {winner['value']:.4g}"
    else:
        shown = f"{winner['value'] * about['metric_scale']:.4g} {about['unit']}".rstrip()
        value = f"{before_a_number(about['metric'])} {shown} on validation data"
    lines = [f"# {title} on {name}: {value} when it was found (trial {winner['id']})", *_on_fresh_seeds(runs, about)]
    values = ", ".join(f'"{key}": {_literal(value)}' for key, value in winner["params"].items())
    return "\n".join([*lines, f"params = {{{values}}}"])


def _drop_in(rule: type[Rule], options: Mapping[str, Any], params: Mapping[str, Any], budget: int) -> list[str]:
    """Return the lines that make a drop-in optimizer, and how to call its step."""
    from relaxbench.optim.drop_in.classes import DROP_INS
    from relaxbench.optim.drop_in.closures import closures

    if rule.compares_losses:
        values = ", ".join(f'"{key}": {_literal(value)}' for key, value in {**options, **params}.items())
        return [
            '# for your own loop: torch.optim.LBFGS(…, line_search_fn="strong_wolfe") with a closure on all data',
            f"params = {{{values}}}",
        ]
    built_in = rule.name in DROP_INS
    cls = DROP_INS[rule.name].__name__ if built_in else f'drop_in("{rule.name}")'
    calls = closures(rule(**options))
    steps = int(budget / rule(**options).price / max(1, calls))
    lines = [
        f"from relaxbench.optim import {cls if built_in else 'drop_in'}",
        "",
        f"optimizer = {cls}(",
        f"    {'model' if rule.curvature else 'model.parameters()'},",
        f"    total_steps={steps},  # calls of step(); the schedules run over these",
        *(f"    {key}={_literal(value)}," for key, value in {**options, **params}.items()),
        ")",
    ]
    if rule.curvature:
        lines.append("# in the loop: loss = optimizer.step(lambda: model(x), lambda outputs: criterion(outputs, y))")
    elif calls:
        lines.append("# in the loop: optimizer.step(closure), see help(optimizer.step)")
    return lines


def _on_fresh_seeds(runs: pd.DataFrame, about: ProblemFacts) -> list[str]:
    """Return a line with the test metric of confirming runs, if there are any."""
    if not len(runs):
        return []
    level = f"{before_a_number(about['metric'])} {_level(runs['test_metric'], about)}"
    return [f"# on {counted(len(runs), 'fresh seed')}: {level}"]


def _level(metrics: pd.Series[float], about: ProblemFacts) -> str:
    """Return the mean of a metric with its standard deviation; of a number of gradients, also how many runs missed."""
    from relaxbench.analysis.sentences import FINEST, decimals_of, number

    known = metrics.dropna()
    if not len(known):
        return "not known"
    mean, spread = float(known.mean()), float(known.std(ddof=1)) if len(known) > 1 else 0.0
    decimals, least = 0 if about["censored"] else 2, spread or abs(mean)
    if least and not about["censored"]:
        decimals = min(max(decimals, decimals_of(least)), FINEST)
    words = number(mean, decimals)
    words += f" ± {number(spread, decimals)}" if len(known) > 1 else ""
    words = words if about["censored"] else f"{words} {about['unit']}".rstrip()
    worst = about["worst_metric"]
    missed = int((known >= worst).sum()) if about["censored"] and worst is not None else 0
    if missed:
        words += f" ({missed} of {counted(len(known), 'run')} missed the tolerance and count as {worst:,.0f})"
    return words


def _save_weights(frames: StudyFrames, runs: pd.DataFrame, name: str, file: Path) -> str:
    """Write the stored weights as the model's own state dict, with frozen parameters, buffers and tied names.

    Statistics of batch normalization are those at the stored weights, as the study measured them.
    """
    import numpy as np
    import torch
    from sqlalchemy import select

    from relaxbench.store.schema import Weights
    from relaxbench.training.oracle import Oracle

    if frames.storage is None:
        raise UserError(f"study {frames.name!r} was read from a database in memory: leave --weights out")
    database = reader(frames.storage.render_as_string(hide_password=False))
    try:
        with database.connect() as connection:
            data = connection.scalar(select(Weights.data).where(Weights.trial_id.in_([int(i) for i in runs["id"]])))
    finally:
        database.dispose()
    if data is None:
        raise UserError(f"study {frames.name!r} keeps no weights for this method yet: finish it first")
    double = frames.manifest["engines"][name]["dtype"] == "float64"
    flat = torch.from_numpy(np.frombuffer(data, dtype=np.float64 if double else np.float32).copy())
    own = _problem(frames, name)
    if own.size != len(flat):
        raise UserError(
            f"problem {name!r} has {own.size:,} trainable parameters here, and study {frames.name!r} stored "
            f"{len(flat):,}: bring back the model with which the study began"
        )
    statistics = {key: value[0] for key, value in Oracle(own, "direct").statistics(flat[None]).items()}
    buffer = io.BytesIO()
    state = own.state_dict({**own.unflatten(flat), **statistics})
    torch.save({key: value.contiguous().clone() for key, value in state.items()}, buffer)
    try:
        file.write_bytes(buffer.getvalue())
    except OSError as error:
        raise UserError(f"weights cannot be written to {str(file)!r}: {error.strerror}") from None
    return str(file)


def _problem(frames: StudyFrames, name: str) -> Problem:
    """Make the problem of a study from where the study found it."""
    from relaxbench.problems import problem
    from relaxbench.problems.registry import require_known
    from relaxbench.study.definition.identity import refuse_other_model
    from relaxbench.study.definition.ladder import SEPARATOR

    origin = frames.manifest.get("origins", {}).get(name, name.rpartition(SEPARATOR)[0] or name)
    if origin.endswith(".py") and not Path(origin).is_file():
        raise UserError(
            f"problem {name!r} of study {frames.name!r} is not here at {origin!r}: put its Python file there, because "
            "weights are written as its model's state dict"
        )
    require_known(origin, frames.name)
    own = problem(origin)
    refuse_other_model(frames.manifest, frames.name, name, own, origin)
    return own


def _literal(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) and value != int(value) else repr(value)
