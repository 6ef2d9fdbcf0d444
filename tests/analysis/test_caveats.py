"""Caveats: what an unfinished study lacks, and warnings about searches that say less than they seem to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from relaxbench.analysis.caveats import cautions, missing, poorly_tuned
from relaxbench.analysis.disasters import Disasters, rate_bound
from relaxbench.analysis.findings import Findings
from relaxbench.analysis.progress import progress
from relaxbench.analysis.verdicts import verdicts
from relaxbench.cli.outcome import verdict_lines
from relaxbench.report import StudyFrames, load_study, write_report
from relaxbench.store.facts import KnownFacts, SearchFacts
from tests.analysis.known import SGD, shifted, study
from tests.synthetic import Writer, memory, spec


def searched(params: dict[str, Any], diverged: int = 0, blocks: int = 6, **changes: Any) -> StudyFrames:
    """SGD with four trials per block, all confirmed; the last has the best value and these params; some diverged."""
    asked = {"methods": ["sgd"], "controls": [], "trials": 4, "exploit": 0, "recommend": 0, "looks": [blocks]}
    writer = Writer(memory(), spec(**asked | changes))
    for block in range(blocks):
        for number in range(4):
            lost = number < 3 and 3 * block + number < diverged
            value = 10.0 if lost else 0.5 - 0.1 * (number == 3)
            usual = {"lr": 0.03, "momentum": 0.5, "schedule": "cosine"}
            own = usual | (params if number == 3 else {})
            parent = writer.trial("digits-mlp", "sgd", "explore", block, number, value, params=own, diverged=lost)
            measures = {"test_metric": 0.04 + 0.001 * block}
            writer.trial("digits-mlp", "sgd", "confirm", block, number, 0.4, parent=parent, measures=measures)
    return load_study(writer.close())


def warnings(frames: StudyFrames) -> list[str]:
    return cautions(frames, verdicts(frames))


@pytest.mark.parametrize(
    ("params", "warning"),
    [
        (
            {"lr": 1.1e-3},
            "6 of 6 winners have lr at the lowest end of its range 0.001 to 1 (0.6 by chance): the range may end "
            "too early.",
        ),
        ({"momentum": 0.98}, "6 of 6 winners have momentum at the highest end of its range 0 to 0.99"),
        ({"lr": 0.04, "momentum": 0.12, "schedule": "constant"}, ""),  # 0.04 is far inside on the logarithmic scale
    ],
)
def test_winners_that_crowd_an_edge_of_a_range_are_a_warning(params: dict[str, Any], warning: str) -> None:
    found = warnings(searched(params))
    assert (len(found) == 1 and found[0].startswith(f"SGD on digits-mlp: {warning}")) if warning else found == []


def test_winners_that_are_known_settings_are_not_searched() -> None:
    frames = searched({"lr": 1.1e-3})
    known: list[KnownFacts] = [{"params": {"lr": 1.1e-3, "momentum": 0.5}, "origin": "a paper"}]
    methods = {label: {**about, "known": known} for label, about in frames.manifest["methods"].items()}
    told = replace(frames, manifest={**frames.manifest, "methods": methods})  # type: ignore[arg-type]
    assert not any("end of its range" in line for line in warnings(told))
    known[0]["params"]["lr"] = 0.2
    assert any("end of its range" in line for line in warnings(told))


def test_many_diverged_trials_are_a_warning() -> None:
    (warning,) = warnings(searched({}, diverged=5))
    assert warning == "SGD on digits-mlp: 5 of 24 explore trials diverged, so its search was in effect a smaller one."
    assert warnings(searched({}, diverged=4)) == []


def test_a_search_of_which_every_trial_diverged_is_told_in_the_terminal_too() -> None:
    writer = Writer(memory(), spec(methods=["sgd"], controls=[], trials=2, exploit=0, recommend=0, looks=[6]))
    for block in range(6):
        for number in range(2):
            parent = writer.trial(
                "digits-mlp", "sgd", "explore", block, number, 10.0, params={"lr": 0.3}, diverged=True
            )
            writer.trial("digits-mlp", "sgd", "confirm", block, number, 10.0, parent=parent, diverged=True)
    findings = Findings.of(load_study(writer.close()))
    line = "SGD on digits-mlp: all 12 explore trials diverged, so nothing was tuned: look at the ranges, and at what is"
    for lines in (findings.cautions, [each.plain for each in verdict_lines(findings)]):
        assert sum(each.startswith(line) for each in lines) == 1
        assert not any("search was in effect a smaller one" in each for each in lines)


def test_trials_that_were_given_up_are_told_with_what_to_do(tmp_path: Path) -> None:
    asked = {"methods": ["sgd", "hj"], "controls": [], "trials": 2, "exploit": 0, "recommend": 0, "looks": [6]}
    writer = Writer(memory(), spec(**asked))
    for method, failures in (("sgd", 1), ("hj", 5)):
        for number in range(12):
            status = "failed" if number < failures else "done"
            value = None if status == "failed" else 0.4
            writer.trial("digits-mlp", method, "explore", number // 2, number % 2, value, status=status)
    findings = Findings.of(load_study(writer.close()))
    name = findings.frames.name
    lines = [
        "SGD on digits-mlp: 1 trial failed too often, so it is missing. "
        f"`status {name}` says why; it is run again by `reap {name} --failed` and the same command.",
        "Hamilton–Jacobi on digits-mlp: 5 trials failed too often, so they are missing. "
        f"`status {name}` says why; they are run again by `reap {name} --failed` and the same command.",
    ]
    for told in (findings.cautions, [each.plain for each in verdict_lines(findings)]):
        assert [each for each in told if "failed too often" in each] == lines
    page = write_report(findings, tmp_path).read_text()
    assert "does not run again what failed too often (see Warnings)" in page


def test_few_blocks_are_a_warning() -> None:
    assert warnings(searched({}, blocks=5)) == [
        "SGD on digits-mlp: 5 complete blocks, too few for a claim (at least 6)."
    ]


def test_a_study_without_baseline_says_so() -> None:
    assert warnings(searched({}, baseline="adamw"))[0] == "There is no baseline: 'adamw' is not among the methods."
    assert warnings(searched({}, baseline=None))[0] == "There is no baseline: none was named."


def test_searches_of_more_dimensions_are_named(digits: StudyFrames) -> None:
    assert warnings(digits)[-1] == (
        "Entropy-SGD, Hamilton–Jacobi and HEAT search 6 dimensions, SGD 3: the same number of trials covers more "
        "dimensions less densely."
    )


def test_methods_that_search_nothing_are_named() -> None:
    frames = searched({})
    frames.manifest["methods"]["sgd"]["dimensions"] = 0
    assert warnings(frames) == [
        "SGD searches no hyperparameter: all of its trials have the settings of the study file."
    ]


def test_only_an_unfinished_study_lacks_something(digits: StudyFrames) -> None:
    def lacks(frames: StudyFrames) -> list[str]:
        return missing(frames, progress(frames))

    assert lacks(digits) == []
    assert lacks(searched({}, recommend=3)) == ["SGD on digits-mlp: 0 of 3 runs of the recommended settings done."]
    assert lacks(searched({}, methods=[])) == ["The study names no problem or no method."]


def test_flatness_that_could_not_be_measured_is_said_once_per_problem() -> None:
    """On the page and in the terminal: workers that a study starts print nothing."""
    writer = Writer(memory(), spec(methods=["sgd"], controls=[], trials=1, exploit=0, recommend=0, looks=[6]))
    for block in range(6):
        parent = writer.trial("digits-mlp", "sgd", "explore", block, 0, 0.4)
        measures = {"test_metric": 0.04, "flatness_error": "NotImplementedError: no second derivative."}
        writer.trial("digits-mlp", "sgd", "confirm", block, 0, 0.4, parent=parent, measures=measures)
    frames = load_study(writer.close())
    line = "digits-mlp: flatness could not be measured (NotImplementedError: no second derivative); the runs count."
    assert warnings(frames) == [line]
    assert [str(text) for text in verdict_lines(Findings.of(frames))][-1] == line
    assert frames.flatness.empty


def test_samplers_and_pruners_share_one_caution_and_the_page_fits_them(tmp_path: Path) -> None:
    frames = searched({})
    tuned: dict[str, SearchFacts] = {
        "sgd": {"sampler": "tpe", "options": {}, "generation": 2},
        "other": {
            "sampler": "random",
            "options": {},
            "generation": 2,
            "pruner": {"name": "median", "options": {}, "spot_checks": 0.1},
        },
    }
    methods = {
        label: {**frames.method(label), "search": search, "title": label.upper()} for label, search in tuned.items()
    }
    spec = {**frames.spec, "methods": list(tuned)}
    told = replace(frames, spec=spec, manifest={**frames.manifest, "methods": methods})  # type: ignore[typeddict-item]
    lines = [line for line in warnings(told) if "pruner" in line.lower() or "sampler" in line]
    assert len(lines) == 2 and not any("median stopped" in line for line in lines)
    assert "depend on each other for SGD (sampler tpe) and OTHER (pruner median): a verdict on them" in lines[0]
    assert "as many trials as the gradients of 4 whole trials pay for" in lines[1]
    assert "SGD has no pruner: all of its trials run to their end." in lines[1]
    page = write_report(Findings.of(told), tmp_path).read_text().replace("\u00a0", " ")
    assert "Does OTHER beat SGD?" in page and "relaxation optimizer" not in page
    assert "Every block is a run of its own" in page and "best third" not in page and "all ways to draw" not in page
    assert "TPE: a single search" not in page and "Diamonds are geometric means of the dots" in page


def test_disasters_are_told_in_the_terminal_where_the_answer_does_not_tell_them() -> None:
    findings = Findings.of(searched({}))
    (result,) = findings.results
    failing = replace(result, disasters=Disasters(2, 6, 2 / 6, rate_bound(2, 6), 0.15))
    told = [str(line) for line in verdict_lines(replace(findings, results=[failing]))]
    bound = round(100 * float(stats.beta.ppf(0.95, 3, 4)))
    line = f"{result.title} on digits-mlp: 2 of 6 runs on fresh seeds were disasters, above 0.150; with 95 % "
    assert f"{line}confidence, at most {bound} % of all its runs are." in told


def test_known_settings_are_told_with_what_their_origin_means() -> None:
    frames = searched({})
    assert not any("nown setting" in line for line in warnings(frames))
    params = {"lr": 0.03, "momentum": 0.5, "schedule": "cosine"}
    known: list[KnownFacts] = [
        {"params": params, "origin": origin} for origin in ("before", "elsewhere", "a paper", "")
    ]
    about = {**frames.method("sgd"), "known": known}
    methods = {**frames.manifest.get("methods", {}), "sgd": about}
    shared: dict[str, list[str]] = {"before": ["digits-mlp"], "elsewhere": []}
    told = replace(frames, manifest={**frames.manifest, "methods": methods, "known_from": shared})  # type: ignore[typeddict-item]
    lines = [line for line in warnings(told) if "nown setting" in line]
    assert len(lines) == 1
    assert "begins with 4 known settings (from before, elsewhere and a paper)" in lines[0]
    assert "before is a study on digits-mlp too, with the same test set: the search of all tuned methods" in lines[0]
    assert "a paper is no study of this database" in lines[0] and "elsewhere is" not in lines[0]
    assert "few" not in lines[0]
    sizes = {**told.manifest, "known_search": {"before": [2, 3], "elsewhere": [6, 3]}}
    (line,) = [line for line in warnings(replace(told, manifest=sizes)) if "nown setting" in line]  # type: ignore[arg-type]
    small = "Study before was a quick try, 2 blocks of 3 trials: its best settings are the best of few."
    assert line == lines[0].replace("none of them. Nobody", f"none of them. {small} Nobody")
    printed = "\n".join(map(str, verdict_lines(Findings.of(told))))
    assert all(line in printed for line in lines)
    assert {row.sampler for row in verdicts(told)} == {"known, random"}


def test_known_settings_of_all_tuned_methods_favour_none(digits: StudyFrames) -> None:
    known: list[KnownFacts] = [{"params": {"lr": 0.03}, "origin": "before"}]
    own = digits.manifest["methods"]

    def told(labels: list[str]) -> str:
        methods = {label: {**about, "known": known} if label in labels else about for label, about in own.items()}
        manifest = {**digits.manifest, "methods": methods, "known_from": {"before": ["digits-mlp"]}}
        return "\n".join(warnings(replace(digits, manifest=manifest)))  # type: ignore[arg-type]

    assert "favours SGD" in told(["sgd"]) and "favours none" not in told(["sgd"])
    assert "favours none of them" in told([*own]) and "favours SGD" not in told([*own])


def test_runs_that_are_worse_than_diverged_ones_are_told_with_both_numbers() -> None:
    """The runs of `searched` have errors of 4 to 4.5 %."""
    frames = searched({})
    for worst, count in ((0.0425, 12), (0.0451, 0)):
        about: Any = {**frames.problem("digits-mlp"), "worst_metric": worst}
        told = replace(frames, manifest={**frames.manifest, "problems": {"digits-mlp": about}})
        line = (
            f"digits-mlp: {count} of 24 confirming runs that did not diverge are worse than what a diverged run counts "
            "as (test error up to 4.5 %, and 4.25 %), so diverging looks better than it is: state a larger "
            "worst_metric in the problem, and begin a study of another name."
        )
        assert warnings(told) == ([line] if count else [])
        assert (line in map(str, verdict_lines(Findings.of(told)))) == bool(count)


def test_splits_with_the_same_examples_are_told() -> None:
    frames = searched({})
    splits = {"train": {}, "validation": {"same examples as": "train"}, "test": {"same examples as": "train"}}
    identity = {"problems": {"digits-mlp": {"splits": splits}}, "methods": {}}
    told = replace(frames, manifest={**frames.manifest, "identity": identity})  # type: ignore[typeddict-item]
    (line,) = warnings(told)
    assert line.startswith(
        "digits-mlp: train, validation and test are the same examples, so the results do not say how"
    )
    assert line in map(str, verdict_lines(Findings.of(told)))


def test_splits_with_some_examples_of_another_are_told_from_one_percent_on() -> None:
    frames = searched({})
    for count in (39, 40):
        splits = {
            "train": {"examples": 5000},
            "validation": {"examples": 4000, "examples that are also in train": 39},
            "test": {"examples": 4000, "examples that are also in validation": count},
        }
        identity = {"problems": {"digits-mlp": {"splits": splits}}, "methods": {}}
        told = replace(frames, manifest={**frames.manifest, "identity": identity})  # type: ignore[typeddict-item]
        line = (
            "digits-mlp: 40 of 4,000 test examples are also in validation, so the results say less about new ones: "
            "leave them out of one of the two."
        )
        assert warnings(told) == ([line] if count == 40 else [])
        assert (line in map(str, verdict_lines(Findings.of(told)))) == (count == 40)


def test_a_baseline_that_its_own_published_settings_beat_is_told() -> None:
    frames = study({"sgd": SGD, "hj": shifted(-1), "heat": shifted(1)})
    methods = {label: {**frames.method(label), "rule": "sgd"} for label in frames.methods}
    own = replace(frames, manifest={**frames.manifest, "methods": methods})  # type: ignore[typeddict-item]
    results = [replace(each, arm="published" if each.method != "sgd" else each.arm) for each in verdicts(frames)]
    (line,) = poorly_tuned(own, results)
    assert line.startswith("digits-mlp: Hamilton–Jacobi is better than the tuned SGD (0.")
    assert "so 1 trial per block do not tune SGD well here" not in line and "1 trial per block does not tune" in line
    assert poorly_tuned(frames, results) == []  # another rule's settings
    assert poorly_tuned(own, verdicts(frames)) == []  # tuned itself
