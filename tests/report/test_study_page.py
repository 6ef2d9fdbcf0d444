"""The page: what it says agrees with its CSVs, nothing in it is executed or fetched, and no study breaks it."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from relaxbench.analysis.findings import Findings
from relaxbench.analysis.sentences import number, ratio
from relaxbench.analysis.verdict_table import verdict_table
from relaxbench.analysis.verdicts import verdicts
from relaxbench.errors import UserError
from relaxbench.report import StudyFrames, load_study, write_report
from tests import synthetic
from tests.synthetic import Writer, memory, spec


class Page(HTMLParser):
    """A page as text, tables, attributes and scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.figures: list[dict] = []
        self.packed: dict[str, str] = {}
        self.open: list[str] = []
        self.headings = 0
        self._script: str | None = None
        self.feed(html)
        assert [tag for tag in self.open if tag not in ("html", "body")] == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attrs}
        self.attributes += [(tag, key, value) for key, value in values.items()]
        if tag not in ("meta", "link", "br", "input"):
            self.open.append(tag)
        self.headings += tag == "th"
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "script":
            self._script = values.get("class", "code")
        if "data-packed" in values:
            self.packed[values["data-name"]] = gzip.decompress(base64.b64decode(values["data-packed"])).decode()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "script":
            self._script = None

    def handle_data(self, data: str) -> None:
        if self._script == "figure":
            self.figures.append(json.loads(data))
        elif self._script is None and self.open[-1:] != ["style"]:
            self.words.append(data)
            if self.tables and self.tables[-1] and self.tables[-1][-1] and "table" in self.open:
                self.tables[-1][-1][-1] += data

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words).replace("\u00a0", " "))

    def cells(self, table: int) -> list[list[str]]:
        return [[" ".join(cell.split()) for cell in row] for row in self.tables[table]]


@pytest.fixture(scope="module")
def page(digits_page: Path) -> Page:
    return Page(digits_page.read_text())


def test_every_number_of_the_table_is_that_of_the_csv(page: Page, digits: StudyFrames) -> None:
    """`recompute.py` computes these columns again; here the cells say what they say."""
    table = pd.read_csv(io.StringIO(page.packed["digits-verdicts.csv"])).set_index("title")
    rows = page.cells(0)[1:]
    assert len(rows) == 6

    def interval(row: pd.Series, prefix: str = "") -> str:
        if np.isnan(row[prefix + "ratio"]):
            return "–"
        ends = f"{ratio(row[prefix + 'low'])} to {ratio(row[prefix + 'high'])}" if row[prefix + "low"] > 0 else ""
        return f"{ratio(row[prefix + 'ratio'])} {ends}"

    for title, verdict, level, times, points, look, seconds, control, searched, disasters in rows:
        row = table.loc[title.removesuffix(" control")]
        assert level == number(row["level"], 2) and verdict == row["verdict"]
        if row["method"] == "sgd":
            assert times == points == look == seconds == control == "–"
            continue
        assert times == interval(row) and points == number(row["points"], 2, True)
        assert look == f"{row['look']:.0f}{row['compared_blocks']:.0f} blocks"
        assert seconds == interval(row, "seconds_") + row["seconds_verdict"]
        assert control == ("–" if row["role"] == "control" else interval(row, "control_") + row["control_verdict"])
        assert searched == f"{row['dimensions']}{row['space']}"
        assert disasters.startswith(f"{row['disaster_count']:.0f} of {row['disaster_runs']:.0f}≤ ")
        assert f"{ratio(row['ratio'])} times SGD's test error, {ratio(row['low'])} to {ratio(row['high'])}" in page.text
    assert digits.methods == table["method"].tolist()


def test_recommended_table_follows_from_the_csv(page: Page) -> None:
    runs = pd.read_csv(io.StringIO(page.packed["digits-recommended.csv"]))
    table = next(rows for rows in map(page.cells, range(len(page.tables))) if rows[0][1] == "Setting")
    assert len(table) == 7
    for row, method in zip(table[1:], synthetic.TITLES, strict=True):
        part = runs[runs["method"] == method]
        assert row[3] == f"{number(part['test_metric'].mean())} ± {number(part['test_metric'].std())}, 10 seeds"
        for key, value in json.loads(part["params"].iloc[0]).items():
            assert f"{key} {value:.4g}" in row[1] if isinstance(value, float) else f"{key} {value}" in row[1]


def test_csv_beside_the_page_is_the_one_inside(page: Page, digits_page: Path, digits: StudyFrames) -> None:
    folder = digits_page.parent / "digits"
    names = {path.name for path in folder.iterdir()}
    tables = {f"{name}.csv" for name in TABLES}
    assert names == tables | {"curves.parquet"}
    for name in tables:
        assert (folder / name).read_bytes().decode() == page.packed[f"digits-{name}"]
    curves = pd.read_parquet(folder / "curves.parquet")
    assert np.array_equal(curves["validation_loss"], digits.curves["validation_loss"], equal_nan=True)
    assert list(curves["method"]) == list(digits.curves["method"])
    trials = pd.read_csv(folder / "trials.csv")
    assert np.allclose(trials["value"], digits.trials["value"])
    assert [json.loads(text) for text in trials["params"]] == list(digits.trials["params"])


TABLES = ("verdicts", "looks", "confirmations", "blocks", "recommended", "flatness", "trials")


def test_nothing_is_fetched(page: Page, digits_page: Path) -> None:
    fetching = {"src", "href", "srcset", "data", "action", "poster", "background"}
    links = {value for _, key, value in page.attributes if key in fetching}
    inside = {link for link in links if link.startswith("#")}
    assert links - inside == {"data:,", "digits/curves.parquet"}
    assert {link[1:] for link in inside} <= {value for _, key, value in page.attributes if key == "id"}
    ours = digits_page.read_text()  # plotly's own text lies in it compressed
    assert "plotly.js v" not in ours
    assert not re.findall(r"https?://|@import|url\(|fetch\(|XMLHttpRequest|import\(", ours)
    assert digits_page.stat().st_size < 4_000_000


def test_headings_scopes_and_labels(page: Page) -> None:
    assert page.text.count("Does a relaxation optimizer beat SGD?") == 1
    scopes = [value for tag, key, value in page.attributes if tag == "th" and key == "scope"]
    assert page.headings == len(scopes) > 40 and set(scopes) == {"row", "col"}
    identities = [value for _, key, value in page.attributes if key == "id"]
    assert len(identities) == len(set(identities))
    canvases = [value for tag, key, value in page.attributes if key == "aria-label" and tag == "div" and value]
    assert len(canvases) >= len(page.figures)
    kinds = Counter(figure["key"].split("-digits-mlp")[0] for figure in page.figures)
    assert kinds["ratio"] == kinds["looks"] == kinds["blocks"] == kinds["cost"] == kinds["target"] == 1
    assert kinds["curve"] == kinds["budget"] == kinds["best"] == 5 and kinds["schedule"] == 3
    answer = page.text.index("Entropy-SGD beats SGD here: 0.48 times its test error (0.")
    assert answer < page.text.index("geometric mean of the best of 12 trials") < page.text.index("Learning curves")
    for words in (
        "Digits is a demonstration",
        "below 1 is better",
        "calibrated one run at a time",
        "hold at once",
    ):
        assert words in page.text


def test_figures_show_the_frames(page: Page, digits: StudyFrames) -> None:
    def unpack(value: dict) -> np.ndarray:
        return np.frombuffer(base64.b64decode(value["bdata"]), dtype=np.dtype(value["dtype"]))

    drawn = {figure["key"]: figure["figure"] for figure in page.figures}
    forest = drawn["ratio-digits-mlp"]["data"]
    shown = {trace["name"]: float(unpack(trace["x"])[0]) for trace in forest}
    assert shown["HEAT"] == pytest.approx(verdict_table(verdicts(digits)).set_index("method").loc["heat", "ratio"])
    curve = next(t for t in drawn["curve-digits-mlp-heat"]["data"] if t.get("name") == "HEAT")
    final = digits.curves[digits.curves["point"] == 24].set_index("trial_id")["validation_loss"]
    runs = digits.blocks.loc[digits.blocks["method"] == "heat", "confirm"].dropna()
    logs = np.log(final[runs].to_numpy(dtype=float))
    usual = np.minimum(logs, np.median(logs) + np.log(3))  # a disaster counts as three medians
    assert unpack(curve["y"])[-1] == pytest.approx(np.exp(usual.mean()), rel=1e-5)
    views = next(each["views"] for each in page.figures if each["key"].startswith("curve-"))
    assert list(views) == ["validation loss", "validation error (%)"]


HOSTILE = [
    "</script><script>window.hacked=1</script>",
    '"><img src=x onerror=window.hacked=1>',
    "{{ 7*7 }}{% raw %}",
    "%{x}",
    "<b>bold</b>&amp;",
    "אבג \u202e reversed",
    "🎉" * 20,
    "x" * 200,
    "a/b\\c:d",
    "<!--",
    "' onclick='x",
]


def test_hostile_names_are_shown_never_executed(tmp_path: Path) -> None:
    for index, name in enumerate(HOSTILE):
        asked = spec(
            name=name, description=name, methods=["sgd", name], controls=[], looks=[6], trials=2, exploit=0, recommend=1
        )
        about = synthetic.manifest(asked)
        about["problems"]["digits-mlp"] |= {"title": name, "caution": name, "metric": name + " error", "data": name}
        about["methods"][name] |= {"scope": "gamma", "space": synthetic.RELAXED, "title": name}
        about["cpu"] = name
        frames = load_study(synthetic.fill(Writer(memory(), asked, about)))
        path = write_report(Findings.of(frames), tmp_path / str(index))
        assert path.parent == tmp_path / str(index)
        html = path.read_text()
        page = Page(html)
        assert re.sub(r"\s+", " ", name) in page.text
        tags = {tag for tag, _, _ in page.attributes}
        assert not tags & {"img", "b", "object", "iframe"} and not any(
            k.startswith("on") for _, k, _ in page.attributes
        )
        assert html.count("<script") == 2 + len(page.figures)  # plotly, ours, and one with data a figure
        for figure in page.figures:
            assert re.fullmatch(r"[A-Za-z0-9._-]+", figure["key"])
            drawn = json.dumps(figure["figure"])
            assert "<img" not in drawn and "<b>" not in drawn and "<script" not in drawn
            assert "%{x}" not in json.dumps(figure["figure"]["layout"])


def written(writer: Writer, folder: Path) -> Page:
    return Page(write_report(Findings.of(load_study(writer.close())), folder).read_text())


def unclaimed(page: Page) -> bool:
    return not re.search(r"(better|worse|equivalent|undecided)\. \d|beats? SGD here[.:]", page.text)


def test_empty_study(tmp_path: Path) -> None:
    page = written(Writer(memory(), spec()), tmp_path)
    assert "This study is not finished." in page.text and "SGD on digits-mlp: 0 of 72 explore trials" in page.text
    assert unclaimed(page) and page.figures == []


def test_study_that_stored_nothing_of_itself(tmp_path: Path) -> None:
    bare = {"name": "bare", "baseline": "sgd", "controls": [], "methods": [], "problems": []}
    page = written(Writer(memory(), bare, {}), tmp_path)
    assert "names no problem or no method" in page.text and unclaimed(page)


def test_the_page_says_nothing_of_places_and_turns(digits: StudyFrames, digits_page: Path) -> None:
    """The manifest is printed, but for what is meant for workers: paths on somebody's machine are nobody's business."""
    assert {"origins", "turns", "identity"} <= digits.manifest.keys()
    text = digits_page.read_text()
    assert "git_commit" in text and "somebody" not in text and "somewhere" not in text


def test_manifest_that_is_missing(tmp_path: Path) -> None:
    writer = Writer(memory(), spec(methods=["sgd", "hj"]), {})
    writer.trial("digits-mlp", "hj", "explore", 0, 0, 0.5)
    page = written(writer, tmp_path)
    assert "hj on digits-mlp: 1 of 72 explore trials" in page.text and unclaimed(page)


def test_only_diverged_trials(tmp_path: Path) -> None:
    writer = Writer(memory(), spec(methods=["sgd", "hj"], controls=[], looks=[6], trials=1, exploit=0, recommend=0))
    nan = np.full((5, 4), np.nan)
    nan[0] = [100, 200, 300, 400]
    for method in ("sgd", "hj"):
        for block in range(6):
            winner = writer.trial("digits-mlp", method, "explore", block, 0, 10.0, diverged=True, curve=nan)
            measures = {"validation_loss": None, "test_loss": None, "test_metric": 1.0}
            writer.trial(
                "digits-mlp",
                method,
                "confirm",
                block,
                0,
                10.0,
                parent=winner,
                diverged=True,
                curve=nan,
                measures=measures,
            )
    page = written(writer, tmp_path)
    assert "Every confirming run diverged." in page.text and "all 6 explore trials diverged" in page.text
    assert unclaimed(page)


def test_one_method_and_no_baseline(tmp_path: Path) -> None:
    for methods, words in ((["sgd"], "Measured results"), (["hj"], "'sgd' is not among the methods")):
        asked = spec(methods=methods, controls=[], looks=[6], trials=2, exploit=0, recommend=2)
        writer = Writer(memory(), asked)
        page = Page(write_report(Findings.of(load_study(synthetic.fill(writer))), tmp_path / methods[0]).read_text())
        assert words in page.text and unclaimed(page)
        assert "not finished" not in page.text


def test_unfinished_study(tmp_path: Path) -> None:
    writer = Writer(memory(), spec(methods=["sgd", "hj"], controls=[], looks=[8], exploit=0, recommend=0, trials=2))
    for method in ("sgd", "hj"):
        for block in range(4):
            winners = [writer.trial("digits-mlp", method, "explore", block, n, 0.5) for n in range(2)]
            writer.trial(
                "digits-mlp",
                method,
                "confirm",
                block,
                0,
                0.5,
                parent=winners[0],
                measures={"test_metric": 0.02 + 0.01 * block},
            )
        writer.trial("digits-mlp", method, "explore", 4, 0, None, status="running")
    page = written(writer, tmp_path)
    assert "Hamilton–Jacobi on digits-mlp: 8 of 16 explore trials, 4 of 14 confirming runs done." in page.text
    assert "Nothing is decided before the first look, at 8 blocks of 2 trials." in page.text
    assert "No claim can be made yet." in page.text
    assert unclaimed(page)


def test_repeated_study(repeated: StudyFrames, tmp_path: Path) -> None:
    page = Page(write_report(Findings.of(repeated), tmp_path).read_text())
    assert "How often is a method called different from SGD?" in page.text
    assert re.search(r"Called different in \d of 40 repetitions", page.text) and unclaimed(page)


def test_unwritable_directory(digits: StudyFrames, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write the report to .*file"):
        write_report(Findings.of(digits), tmp_path / "file")


def test_same_study_same_page(digits: StudyFrames, digits_page: Path, tmp_path: Path) -> None:
    again = write_report(Findings.of(digits), tmp_path)
    assert again.read_bytes() == digits_page.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits", "digits.html"]  # no temporary file is left
