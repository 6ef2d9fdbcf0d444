"""The spaces of a rule in words, and the page of docs that is written from them."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

from relaxbench.optim.options import options_of
from relaxbench.optim.registry import RULES
from relaxbench.optim.spaces import in_words, rows
from relaxbench.problems import problem
from relaxbench.space import Choice, Float, Int
from relaxbench.study.definition.files import load

DOCS = Path(__file__).resolve().parents[2] / "docs"
ROWS = re.compile(r"^\| .*\| `(rule = .+?)`, `(options = .+?)`", re.MULTILINE)


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_spaces", DOCS / "extensions" / "spaces.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_rules_declare(writer: ModuleType) -> None:
    assert writer.PAGE == DOCS / "spaces.md"
    page = writer.PAGE.read_text(encoding="utf-8")
    assert page == writer.page(), "a space has changed: run python docs/extensions/spaces.py"
    for name, rule in RULES.items():
        section = page.split(f"(`{name}`)")[1].split("###")[0]
        table = re.findall(r"^\| `(\w+)` \|(.*)\|$", section, re.MULTILINE)
        assert [hyper for hyper, _ in table] == list(rule.wide)
        assert all(cell.strip() for _, cells in table for cell in cells.split("|")), "no cell is empty"
        assert all(publication.source in section for publication in rule.publications)
        assert all(reason in section for publication in rule.publications for reason in publication.assumed.values())


def test_the_page_has_the_numbers_of_the_specification() -> None:
    """A few cells by hand, so that the page does not only agree with itself."""
    page = (DOCS / "spaces.md").read_text(encoding="utf-8")
    for line in (
        "| `gamma_start` | 10,000 (fully-connected, mnist-conv); 33.33 (cifar-10) | 10 to 10,000 (log) |",
        "| `temperature` | 1e-8 | fixed: 1e-8 | 1e-7 to 0.001 (log) |",
        "| `inner_steps` | 5 | 5 or 10 | 6 to 30 in steps of 2 |",
        "| `radius` | 0.05 | 0.01 to 0.5 (log) | 0.001 to 1 (log) |",
    ):
        assert line in page


def test_the_variants_of_the_page_are_options_that_a_study_takes(tmp_path: Path) -> None:
    part = (DOCS / "spaces.md").read_text(encoding="utf-8").split("## Variants of")[1].split("\n## ")[0]
    (table,) = re.findall(r"```toml\n(.*?)```", part, re.DOTALL)
    tables = [f"[method.m{i}]\n{rule}\n{options}\n" for i, (rule, options) in enumerate(ROWS.findall(part))]
    file = tmp_path / "variants.toml"
    names = [*(f"m{i}" for i in range(len(tables))), "heat-research"]
    file.write_text(f'name = "v"\nproblems = ["digits-mlp"]\nmethods = {["sgd", *names]}\n{table}{"".join(tables)}')
    spec, _ = load(file)
    task = problem("digits-mlp")
    rules = [spec.make_rule(name, task) for name in names]
    assert [rule.name for rule in rules] == ["entropy-sgd", "parle", "parle", "entropy-sgd"]
    assert [{k for k, v in vars(rule).items() if v is True} for rule in rules] == [
        {"restart_momentum", "coupling_outside_momentum"},
        {"restart_average"},
        {"mpi_code"},
        {"uniform_average"},
    ]
    searched, fixed = spec.space_of("heat-research", task), spec.fixed_of("heat-research", task)
    assert {**spec.rule_of("heat-research").default_fixed, **fixed}["gamma_start"] == 0.1 and "outer_lr" in searched


def test_every_option_of_a_rule_is_on_the_page() -> None:
    page = (DOCS / "spaces.md").read_text(encoding="utf-8")
    for name, rule in RULES.items():
        options = set(inspect.signature(rule).parameters)
        section = page.split(f"(`{name}`)")[1].split("###")[0]
        listed = set(re.findall(r"^- `(\w+) = [^`]+`: \S", section, re.MULTILINE))
        assert options == set(options_of(rule)) == listed, name


def test_rows_say_what_is_searched_and_what_is_kept() -> None:
    by_name = {row.name: row for row in rows(RULES["hj-implicit"])}
    assert list(by_name) == list(RULES["hj-implicit"].wide)
    assert by_name["averaging"].default == "fixed: 0.75" and by_name["averaging"].wide == "0 to 0.95"
    assert by_name["gamma_start"].published == "0.1*"
    assert by_name["weight_decay"].published == "0 (fully-connected, mnist-conv); 0.001 (cifar-10)"
    assert "contracts" in by_name["gamma_start"].reason


def test_ranges_in_words() -> None:
    assert in_words(Float(1e-6, 1e4, 1.0, log=True)) == "1e-6 to 10,000 (log)"
    assert in_words(Float(0.9, 0.9999, 0.99)) == "0.9 to 0.9999"
    assert in_words(Int(1, 8, 2)) == "1 to 8" and in_words(Int(6, 30, 20, step=2)) == "6 to 30 in steps of 2"
    assert in_words(Int(5, 10, 5, step=5)) == "5 or 10"
    assert in_words(Choice(("a", "b"), "a")) == "a, b"
