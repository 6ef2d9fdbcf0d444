"""A report as it lies on disk: what its page says, and the tables beside it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


class Page(HTMLParser):
    """What a page says: its answers, its tables as rows of cells, and the data of its figures."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.answers, self.tables, self.figures = list[str](), list[list[list[str]]](), dict[str, pd.DataFrame]()
        self.headlines, self.texts, self._place = list[str](), list[str](), ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        kind = dict(attrs).get("class") or ""
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "li" and kind in ("candidate", "control"):
            self.answers.append("")
        elif tag == "p" and self._place == "li":
            self.answers[-1] += "\x1e"  # the parts of an answer: its line, and the sentences that open from it
        elif tag == "h2":
            self.headlines.append("")
        elif tag == "pre":
            self.texts.append("")
        if tag in ("td", "th", "h2", "pre") or (tag == "li" and kind) or (tag == "script" and kind == "figure"):
            self._place = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._place or tag in ("table", "ul"):
            self._place = ""

    def handle_data(self, data: str) -> None:
        data, place = data.replace("\u00a0", " "), self._place
        if place == "script":
            figure = json.loads(data)
            if figure["csv"]:
                self.figures[figure["key"]] = read(gzip.decompress(base64.b64decode(figure["csv"])).decode())
        elif place in ("td", "th"):
            self.tables[-1][-1][-1] += data
        elif place == "pre":
            self.texts[-1] += data
        elif place:
            told = self.answers if place == "li" else self.headlines
            told[-1] += data


class Report:
    """A report's page and the tables beside it, and what was found when they were checked."""

    def __init__(self, path: Path) -> None:
        folder = path.parent / path.name.removesuffix(".html")
        self.page = Page(path.read_text(encoding="utf-8"))
        tables = {
            name: read((folder / f"{name}.csv").read_text(encoding="utf-8"))
            for name in ("verdicts", "looks", "confirmations", "blocks", "trials", "recommended", "flatness")
        }
        self.verdicts, self.blocks, self.trials = tables["verdicts"], tables["blocks"], tables["trials"]
        self.recommended, self.flatness = tables["recommended"], tables["flatness"]
        self.confirmations, self.history = tables["confirmations"], tables["looks"]
        spec, manifest = (json.loads(text) for text in self.page.texts[-2:])
        self.spec = spec
        self.protocol = 2 if "looks" in spec else 1
        self.declared = spec["looks"] if "looks" in spec else [spec["blocks"]]
        more = spec.get("more_blocks") or 0
        earlier = manifest.get("extra_looks", [])
        self.looks = [*self.declared, *([*earlier, self.declared[-1] + more] if more else [])]
        self.problems = manifest["problems"]
        self.curves = pd.read_parquet(folder / "curves.parquet")
        self.rows: dict[tuple[str, str], Any] = {
            (row["problem"], row["method"]): row for _, row in self.verdicts.iterrows()
        }
        runs = self.curves[self.curves["trial_id"].isin(self.confirmations["id"])]
        lost = self.trials.loc[self.trials["diverged"], "id"]
        end = runs["trial_id"].isin(lost) & ~runs["trial_id"].duplicated(keep="last")
        # From its last measurement on a diverged run counts as the worst, whatever that says.
        runs = runs.assign(**{key: runs[key].mask(end) for key in ("validation_loss", "validation_metric")})
        self.runs = dict(tuple(runs.groupby("trial_id")))
        done = self.trials[self.trials["status"] == "done"]
        self._tried = dict(tuple(done.groupby(["problem", "method", "phase"])))
        self._runs = dict(tuple(self._confirm_runs().groupby(["problem", "method"])))
        self.agreed, self.wrong, self.seen = Counter[str](), list[str](), set[str]()

    def check(self, what: str, told: Any, known: Any, places: int | None = None, relative: float = 1e-5) -> None:
        """Compare numbers (a NaN agrees with a NaN) within half of the last decimal told, or words."""
        if isinstance(known, str):
            agree = str(told) == known
        else:
            told, known = np.asarray(told, dtype=float), np.asarray(known, dtype=float)
            slack = 1e-9 if places is None else 0.5001 * 10.0**-places
            agree = told.shape == known.shape and np.allclose(told, known, rtol=relative, atol=slack, equal_nan=True)
        kind = what.split(":")[0]
        self.agreed[kind] += agree
        if not agree:
            self.wrong.append(f"{what}: told {told}, found {known}")

    def of(self, problem: str, method: str) -> pd.DataFrame:
        """The blocks of a method on a problem, by their numbers."""
        rows = self.blocks[(self.blocks["problem"] == problem) & (self.blocks["method"] == method)]
        return rows[rows["confirm"].notna()].set_index("block").sort_index()

    def runs_of(self, problem: str, method: str) -> pd.DataFrame:
        """The confirm runs of a method on a problem; in the old protocol those of block winners."""
        return self._runs.get((problem, method), self.confirmations[:0])

    def _confirm_runs(self) -> pd.DataFrame:
        runs = self.confirmations
        return runs[runs["id"].isin(self.blocks["confirm"])] if self.protocol == 1 else runs

    def half_example(self, problem: str) -> float:
        """Half a test example where the metric is an error rate, in its unit; else 0."""
        about = self.problems[problem]
        return 50 / about["test_examples"] if about["unit"] == "%" and about["test_examples"] else 0.0

    def tried(self, problem: str, method: str, phase: str = "explore") -> pd.DataFrame:
        """The trials of a phase that are done."""
        return self._tried.get((problem, method, phase), self.trials[:0])

    def has_pruner(self, method: str) -> bool:
        """Whether a block's trials may be stopped: the method's own search counts in place of the study's."""
        own = (self.spec.get("method") or {}).get(method) or {}
        search = own.get("search") or self.spec.get("search") or {}
        return bool(search.get("pruner")) and own.get("arm") != "published"

    def worst(self, problem: str, column: str) -> float:
        """What a diverged run counts for, as stated; infinite where that is not."""
        about = self.problems[problem]
        key, scale = ("worst", 1) if column == "value" else ("worst_metric", about.get("metric_scale") or 1)
        return float(about[key]) * scale if about.get(key) is not None else np.inf

    def figure(self, *key: str) -> pd.DataFrame | None:
        """The data of a figure, where the page has it."""
        name = "-".join([key[0], *map(file_name, key[1:])])
        self.seen.add(name)
        return self.page.figures.get(name)


def file_name(text: str) -> str:
    """A name as a part of a figure's key: itself, or its safe characters and a hash."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")[:80]
    return safe if safe == text else f"{safe or 'name'}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def read(text: str) -> pd.DataFrame:
    """A table in which only an empty cell is no value. Words are plain objects, among which pandas chooses faster."""
    table = pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""])
    return table.astype(dict.fromkeys(table.select_dtypes("str"), object))
