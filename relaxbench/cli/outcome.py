"""The last lines of a study: trials that ran, the verdicts, and the path of the report."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from relaxbench.cli.console import console, say, working
from relaxbench.cli.options import STORAGE, reader
from relaxbench.util.text import counted, duration

if TYPE_CHECKING:
    from relaxbench.analysis.findings import Findings
    from relaxbench.analysis.frames import StudyFrames
    from relaxbench.analysis.theory_numbers import Theorem
    from relaxbench.study.execution.run import Summary


def finish(summary: Summary, name: str, storage: str, quiet: bool) -> None:
    """Print what a session did; exit with a hint if the study is not complete."""
    from relaxbench.study.coordination.supervisor import INCOMPLETE

    done = summary.total - summary.missing
    of = f"{summary.total:,} trials" + (f" {summary.look}" if summary.look else "")
    if summary.code == INCOMPLETE:
        console.print(f"{done:,} of {of} are done; {summary.failed:,} failed too often.")
        for word, command in (("see why:   ", ["status", name]), ("try again: ", ["reap", name, "--failed"])):
            console.print(f"  {word} {_command(command, storage)}", markup=False, soft_wrap=True)
        raise typer.Exit(summary.code)
    if summary.missing:
        again = shlex.join(["python", "-m", "relaxbench", *sys.argv[1:]])
        console.print(f"Stopped. {done:,} of {of} are done and kept. Continue with:")
        console.print(f"  {again}", markup=False, soft_wrap=True)  # one line, to be copied
        raise typer.Exit(summary.code)
    if quiet:
        return
    if summary.ran:
        console.print(f"{summary.ran:,} trials in {duration(summary.seconds)}; {summary.total:,} in the study.")
    else:
        console.print(f"All {summary.total:,} trials of study {name!r} are done; nothing was run.")
    console.print()


def conclude(storage: str, study: str | None, directory: Path | None) -> Path | None:
    """Print one sentence per method, write the report, print its path and return it; None without a directory."""
    from relaxbench.analysis.findings import Findings
    from relaxbench.analysis.frames import load_study

    frames = load_study(reader(storage), study)
    findings = Findings.of(frames)
    for line in verdict_lines(findings):
        console.print(line)
    if directory is None:
        hint_at_report(findings, storage)
        return None
    from relaxbench.report.study_page import write_report

    working("Writing the report")
    page = write_report(findings, directory, theory(frames))
    say(f"\nReport: {page}")
    return page


def hint_at_report(findings: Findings, storage: str) -> None:
    """Print the command that writes the report with all cautions, without an address that holds a password."""
    if not findings.results or not findings.cautions:
        return
    again = _command(["report", findings.frames.name], storage)
    console.print(f"  report:     {again}", markup=False, soft_wrap=True)  # one line, to be copied


def _command(words: list[str], storage: str) -> str:
    """A command on the same database, to be copied; without an address that holds a password."""
    secret = re.search(r"//[^/@]*:[^/@]*@", storage)
    usual = (STORAGE, os.environ.get("RELAXBENCH_STORAGE"))
    place = [] if storage in usual or secret else ["--storage", storage]
    return shlex.join(["python", "-m", "relaxbench", *words, *place])


def verdict_lines(findings: Findings) -> list[Text]:
    """Return the answers per problem, the baseline's first, then what was special of the study.

    Cautions that could make an answer wrong are told in full; of the others, how many there are and where they stand.
    """
    from relaxbench.analysis.caveats import (
        OLD,
        all_diverged,
        billed,
        disasters,
        given_up,
        known_settings,
        restated,
        undefined,
        unmeasured,
    )
    from relaxbench.analysis.problem_caveats import same_examples, shared_examples, worse_than_diverged
    from relaxbench.analysis.sentences import sentence, sentences
    from relaxbench.store.facts import protocol

    if not findings.results:
        return [Text("The study has no results yet.")]
    frames = findings.frames
    problems = frames.problems
    results = sorted(findings.results, key=lambda result: (problems.index(result.problem), result.role != "baseline"))
    old = [Text(OLD, style="dim")] if protocol(frames.spec) == 1 else []
    answers = sentences(results)
    of_problems = (same_examples, shared_examples, undefined, worse_than_diverged)
    told = [
        line for kind in (given_up, restated, *of_problems, billed, unmeasured, known_settings) for line in kind(frames)
    ]
    told += all_diverged(results)
    told += disasters(result for result in results if "disaster" not in sentence(result))
    others = len(set(findings.cautions) - {*told, *disasters(results), OLD})
    if others:
        told.append(f"{counted(others, 'more caution' if told else 'caution')}: see Warnings in the report.")
    notes = [*old, *(Text(line, style="dim") for line in told)]
    return [*map(Text, answers), *notes]


def theory(frames: StudyFrames) -> Mapping[str, Theorem]:
    """Compute what the theory expects on a study's landscapes (seconds per landscape)."""
    if all(frames.problem(name)["train_examples"] for name in frames.problems):
        return {}
    from relaxbench.theory.summary import theorems

    return theorems(frames.problems)
