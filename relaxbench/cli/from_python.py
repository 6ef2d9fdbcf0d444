"""Run a study, read its verdicts and best settings, and write its report from Python, in a script or a notebook."""

from __future__ import annotations

import os
import re
import sys
import threading
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from relaxbench import given
from relaxbench.cli.console import console
from relaxbench.cli.objects import Added, Found, named, with_methods
from relaxbench.cli.options import STORAGE, reader
from relaxbench.cli.outcome import finish, theory, verdict_lines
from relaxbench.cli.session import Session
from relaxbench.cli.spec import of_own_problems
from relaxbench.errors import UserError, kind_of, require_system, unknown
from relaxbench.util.text import counted
from relaxbench.util.toml import toml_lines

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from relaxbench.analysis.frames import StudyFrames
    from relaxbench.problems import Problem
    from relaxbench.study.definition.spec import StudySpec
    from relaxbench.study.execution.run import Summary

HERE = "run_study"
"""The origin of a study's values, in error messages."""
FOLDERS = ("data_dir", "report", "checkpoints")
"""Options that are paths."""

_alone = threading.RLock()
"""Held by the thread that runs a study: PyTorch has one generator of random numbers and one default type for all."""


def run_study(
    study: Mapping[str, Any] | Path | str | None = None,
    *,
    storage: Path | str | None = None,
    workers: int | None = None,
    device: str | torch.device = "auto",
    report: Path | str | None = None,
    quiet: bool = False,
    **values: Any,
) -> StudyFrames:
    """Run a study, as ``python -m relaxbench study`` does, and return it.

    The same call again continues or extends the study: what is finished is kept. Ctrl-C stops it at the end of a round.
    A program runs one study at a time: a call from another thread waits.

    Args:
        study: the study file, or what would stand in it, as a dict; None for the default study.
        storage: the database: a file or a URL. None for ``$RELAXBENCH_STORAGE``, or relaxbench.db in this folder.
        workers: worker processes; None for one per core where a study is long enough to gain from them.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``, or a ``torch.device``.
        report: folder of the report; None writes none (see `write_report`).
        quiet: print nothing.
        **values: keys of a study file, whose values they replace: ``problems``, ``methods``, ``looks``, ``trials``, …
            (`Problem` objects and classes of optimizers may stand there: see `relaxbench.cli.objects.named`);
            and further options of the command: ``population``, ``path``, ``data_dir``, ``download``, ``devices``,
            ``per_device``, ``engine``, ``address``, ``gpus_per_worker``, ``cpus_per_worker``, ``optuna``,
            ``retries``, ``skip_unfit``, ``known``, ``checkpoints``, ``restate``.

    Returns:
        The study, with its tables; see `verdicts` for the answers.

    Raises:
        UserError: naming what is wrong; or if trials failed too often.
        KeyboardInterrupt: after Ctrl-C; finished trials are kept.

    Example:
        >>> import relaxbench
        >>> mine = {"name": "mine", "problems": ["digits-mlp"], "methods": ["sgd", "entropy-sgd"], "looks": [10, 20]}
        >>> study = relaxbench.run_study(mine, trials=8)  # doctest: +SKIP
        >>> relaxbench.verdicts(study)[["method", "verdict", "ratio", "low", "high"]]  # doctest: +SKIP
    """
    require_system()
    own: dict[str, Any] = {"storage": storage, "workers": workers, "device": device, "report": report, "quiet": quiet}
    try:
        with _alone:
            return _run(study, {**own, **values})
    except UserError as error:
        raise UserError(_in_python(error), *error.settings) from None


def verdicts(study: StudyFrames) -> pd.DataFrame:
    """Return the verdicts of a study: one row per problem and method.

    Args:
        study: from `run_study` or `load_study`; it need not be finished.

    Returns:
        The columns of ``verdicts.csv`` (`relaxbench.analysis.verdict_table.verdict_table`): problem, method, verdict,
        the ratio to the baseline with the ends of its interval (low, high), …; and ``sentence``, the answer in words.
    """
    from relaxbench.analysis.findings import Findings
    from relaxbench.analysis.sentences import sentence
    from relaxbench.analysis.verdict_table import verdict_table

    results = Findings.of(_read(study)).results
    return verdict_table(results).assign(sentence=[sentence(result) for result in results])


def best(
    study: StudyFrames,
    method: str | type,
    problem: str | Problem | None = None,
    *,
    weights: Path | str | None = None,
) -> dict[str, Any]:
    """Return the best settings of a method, as ``python -m relaxbench best`` does.

    Args:
        study: from `run_study` or `load_study`.
        method: its label, or the class that was given to `run_study`.
        problem: its name, or the object that was given to `run_study`; None for the only one.
        weights: a file to which the weights of the best run are written, as a state dict of the problem's model. They
            are in the database from which the study was read.

    Returns:
        ``"params"`` and ``"options"``, the arguments of the optimizer's class; ``"code"``, which makes it; and what
        ``best --json`` has of the runs on fresh seeds: ``"runs"``, ``"test_metric"``, ``"test_metric_std"``, ….

    Raises:
        UserError: for an unknown method or problem, or one without a finished trial; if the weights cannot be written.
    """
    from relaxbench.cli.best import best_answer

    objects = Found()
    of_method = named({"baseline": method}, objects, Added())["baseline"]
    (of_problem,) = named({"problems": [problem]}, objects, Added())["problems"] if problem is not None else [None]
    file = None if weights is None else Path(weights)
    try:
        with given.giving(objects):
            return best_answer(_read(study), of_method, of_problem, file)
    except UserError as error:
        raise UserError(_in_python(error), *error.settings) from None


def write_report(study: StudyFrames, folder: Path | str = "reports") -> Path:
    """Write the page of a study and its tables into a folder, and return the path of the page.

    Args:
        study: from `run_study` or `load_study`; it need not be finished.
        folder: created if it is missing.

    Raises:
        UserError: if the folder cannot be written.
    """
    from relaxbench.analysis.findings import Findings
    from relaxbench.report.study_page import write_report

    return write_report(Findings.of(_read(study)), folder, theory(study))


def _read(study: StudyFrames) -> StudyFrames:
    """Check that a study is one that was read, not its name.

    Raises:
        UserError: if it is anything else.
    """
    from relaxbench.analysis.frames import StudyFrames

    if not isinstance(study, StudyFrames):
        raise UserError(f"study = {kind_of(study)}: expected what run_study or load_study returns")
    return study


def _run(study: Mapping[str, Any] | Path | str | None, values: dict[str, Any]) -> StudyFrames:
    lender = isinstance(values.get("known"), str | PurePath)  # an option of the command, and a key of the file
    chosen = {name: values.pop(name) for name in _options(lender) if name in values}
    objects, own, added = Found(), Added(), Added()
    if isinstance(study, Mapping):
        study = with_methods(named(study, objects, own), own)
    values = named(values, objects, added)
    with given.giving(objects):
        return _session_of(study, values, added, chosen)


def _session_of(
    study: Mapping[str, Any] | Path | str | None, values: Mapping[str, Any], added: Added, chosen: Mapping[str, Any]
) -> StudyFrames:
    from relaxbench.analysis.findings import Findings
    from relaxbench.analysis.frames import load_study

    spec, source, where = _define(study, values, added)
    session = _session({name: value for name, value in chosen.items() if value is not None})
    found: list[StudyFrames] = []

    def end(summary: Summary, name: str) -> Path | None:
        if summary.failed and summary.missing and not summary.stopped:
            raise UserError(
                f"{counted(summary.failed, 'trial')} of study {name!r} failed too often: see why with python -m "
                f"relaxbench status {name}, and try again after python -m relaxbench reap {name} --failed"
            )
        if summary.missing:
            raise KeyboardInterrupt(f"{counted(summary.missing, 'trial')} of study {name!r} are missing: {HERE} again")
        found.append(frames := load_study(reader(session.storage), name))
        finish(summary, name, session.storage, session.quiet)
        for line in [] if session.quiet else verdict_lines(Findings.of(frames)):
            console.print(line)
        return None if session.report is None else write_report(frames, session.report)

    session.run(spec, source, where, _names(values), end)
    return found[0]


def _define(
    study: Mapping[str, Any] | Path | str | None, values: Mapping[str, Any], added: Added
) -> tuple[StudySpec, str, str]:
    """The study of a file or a dict, with the values that replace some of its own; its text; and its origin."""
    from relaxbench.study.definition.files import define, find, read
    from relaxbench.study.definition.spec import StudySpec

    keys = {*StudySpec.model_fields, "ablation"}
    for name in values:
        if name not in keys:
            raise unknown(f"argument of {HERE}:", name, {*keys, *_options(True)})
    changes, _ = _plain(values)
    if isinstance(study, Mapping):
        (base, source), where = _plain(study), HERE
    elif study is None or isinstance(study, str | PurePath):
        file = find(None if study is None else str(study))
        (base, source), where = read(file), HERE if study is None else str(file)
        base |= of_own_problems(changes.get("problems", []) if study is None else [])
    else:
        raise UserError(f"study = {kind_of(study)}: expected the path of a study file, or a dict of its keys")
    chosen: dict[str, Any] = {key: changes[key] for key in ("methods", "budget") if key in changes}
    if not isinstance(chosen.get("methods", []), list):  # which is told where the study is checked
        del chosen["methods"]
    return define(with_methods({**base, **changes}, added), where, chosen, _names(values)), source, where


def _names(values: Mapping[str, Any]) -> dict[str, str]:
    """How messages name the keys of a study that are arguments: without its file."""
    return {key: f"{key} =" for key in values}


def _options(lender: bool) -> list[str]:
    """The names of a session's options; of `known` only where it names a study that lends its best settings."""
    return [field.name for field in fields(Session) if lender or field.name != "known"]


def _session(given: dict[str, Any]) -> Session:
    """Check the types of a session's options, which a command line would check.

    Raises:
        UserError: naming the first one of a wrong type.
    """
    given.setdefault("storage", os.environ.get("RELAXBENCH_STORAGE") or STORAGE)
    for name, value in given.items():
        kinds, expected = _expected(name)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise UserError(f"{name} = {kind_of(value)}: expected {expected}")
        if name in FOLDERS:
            given[name] = Path(str(value))
        elif not isinstance(value, str) and str in kinds:  # a path, or a device of PyTorch
            given[name] = str(value)
    return Session(**given)


def _expected(name: str) -> tuple[tuple[type, ...], str]:
    """The types that an option may have, and these in words."""
    usual = asdict(Session()).get(name)
    if name in FOLDERS:
        return (str, PurePath), "a folder"
    if name in ("storage", "known"):
        return (str, PurePath), "a text or a path"
    if name == "device" and (torch := sys.modules.get("torch")):  # whoever gives a device has imported it
        return (str, torch.device), "a text"
    if isinstance(usual, bool):
        return (bool,), "True or False"
    if name in ("population", "workers", "per_device", "cpus_per_worker", "retries"):
        return (int,), "a whole number"
    return ((int, float), "a number") if name == "gpus_per_worker" else ((str,), "a text")


def _plain(values: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """What a TOML file with these values gives when it is read, and its text.

    Raises:
        UserError: naming the first key whose value has no form in TOML.
    """
    lines = []
    for key, value in values.items():
        try:
            lines += toml_lines({key: value})
        except TypeError as error:
            raise UserError(f"{HERE}: {key} = {kind_of(value)}: {error}; leave it out, or give a plain value") from None
    text = "\n".join([*lines, ""])
    return tomllib.loads(text), text


def _in_python(error: UserError) -> str:
    """The message of an error with arguments in place of the options of the command line."""
    names = "|".join(field.name.replace("_", "-") for field in fields(Session))
    text = re.sub(rf"--({names})\b(?!-)", lambda option: option[1].replace("-", "_"), str(error))
    return f"{text} (argument {', '.join(error.settings)})" if error.settings else text
