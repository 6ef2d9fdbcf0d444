"""`show`: the progress of a study, and its verdicts so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from relaxbench.cli.as_json import AsJson, print_json
from relaxbench.cli.console import console
from relaxbench.cli.grouped_table import GroupedTable
from relaxbench.cli.options import STORAGE, Storage, Study, reader
from relaxbench.cli.outcome import hint_at_report, verdict_lines

if TYPE_CHECKING:
    from relaxbench.analysis.comparison import MethodResult
    from relaxbench.analysis.findings import Findings
    from relaxbench.analysis.frames import StudyFrames
    from relaxbench.store.facts import EngineFacts


def show(study: Study = None, storage: Storage = STORAGE, as_json: AsJson = False) -> None:
    """Show the progress of a study, and its verdicts so far."""
    from relaxbench.analysis.findings import Findings
    from relaxbench.analysis.frames import load_study

    frames = load_study(reader(storage), study)
    if as_json:
        print_json(show_answer(frames))
        return
    findings = Findings.of(frames)
    for part in show_tables(findings):
        console.print(part)
    hint_at_report(findings, storage)


def show_answer(frames: StudyFrames) -> dict[str, Any]:
    """Return what `show --json` prints."""
    from relaxbench.analysis.findings import Findings
    from relaxbench.analysis.pruning import pruning_table, prunings
    from relaxbench.analysis.sentences import sentence
    from relaxbench.analysis.verdict_table import verdict_table

    findings = Findings.of(frames)
    results = findings.results
    rows = verdict_table(results).to_dict("records")
    sentences = [{"sentence": sentence(result)} for result in results]
    return {
        "study": frames.name,
        "problems": frames.problems,
        "methods": frames.methods,
        "baseline": frames.baseline,
        "looks": frames.looks,
        "progress": findings.progress.to_dict("records"),
        "verdicts": [row | said for row, said in zip(rows, sentences, strict=True)],
        "pruning": pruning_table(prunings(frames)).to_dict("records"),
        "cautions": list(findings.cautions),
    }


def show_tables(findings: Findings) -> list[RenderableType]:
    """Return the progress per method, the engines, and the verdicts so far."""
    from relaxbench.analysis.pruning import prunings, without_pruner
    from relaxbench.analysis.publications import origins
    from relaxbench.store.engines import describe_engine

    frames, counts = findings.frames, findings.progress
    looks = {(result.problem, result.method): _look(result) for result in findings.results}
    phases = list(dict.fromkeys(counts["phase"])) if len(counts) else []
    cells: dict[str, dict[str, list[str]]] = {}
    for (problem, method), rows in counts.groupby(["problem", "method"], sort=False):
        done = {row.phase: f"{row.done}/{row.planned}" for row in rows.itertuples()}
        looked = looks.get((str(problem), str(method)), "")
        cells.setdefault(str(problem), {})[str(method)] = [*(done.get(phase, "") for phase in phases), looked]
    listing = GroupedTable(f"Study {frames.name}", "method", [*phases, "looks"])
    for problem, methods in cells.items():
        listing.add(problem, methods)
    engines = [
        line
        for name, engine in frames.manifest.get("engines", {}).items()
        for line in (*describe_engine(name, engine, invariance=True), _limits(frames, name, engine))
        if line
    ]
    pruned = [*filter(None, [without_pruner(frames)]), *(found.sentence for found in prunings(frames))]
    published = origins({label: frames.method(label) for label in frames.methods}, frames.problems)
    notes = [Text(line, style="dim") for line in (*engines, *published, *pruned)]
    return [listing.table, *notes, Text(), *verdict_lines(findings)]


def _limits(frames: StudyFrames, name: str, engine: EngineFacts) -> str:
    """What relaxbench cannot see of a script, which is not its own."""
    return frames.problem(name)["caution"] if engine["path"] == "script" else ""


def _look(result: MethodResult) -> str:
    """The looks that a comparison has had: "0 of 3" before the first, "3 and 1 beyond" with more blocks."""
    comparison = result.against("baseline")
    if comparison is None:
        return ""
    beyond = comparison.look - comparison.looks
    if beyond > 0:
        return f"{comparison.looks} and {beyond} beyond"
    return f"{comparison.look} of {comparison.looks}"
