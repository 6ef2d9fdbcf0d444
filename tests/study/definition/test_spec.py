"""Study files: every mistake gives one line that names what is wrong, and a stored study may only grow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from relaxbench.errors import UserError
from relaxbench.optim.registry import RULES
from relaxbench.problems import PROBLEMS, problem
from relaxbench.space import Choice, Float, Int
from relaxbench.study.definition.spec import (
    EXTENDABLE,
    FREE,
    StudySpec,
    changes,
    find,
    load,
    parse,
    shipped,
    studies_folder,
)

GOOD: dict[str, Any] = {"name": "good", "problems": ["rosenbrock"], "methods": ["sgd", "heat"]}


def refusal(**values: Any) -> str:
    """The one line with which a study is refused."""
    with pytest.raises(UserError) as refused:
        parse({**GOOD, **values}, "my.toml")
    line = str(refused.value)
    assert ("\n" not in line and line.startswith("my.toml")) or "in my.toml" in line
    return line


MISTAKES: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"methods": ["sgd", "haet"]}, ("haet", "did you mean 'heat'?")),
    ({"baseline": "sdg"}, ("sdg", "did you mean 'sgd'?")),
    ({"controls": ["lookahaed"]}, ("lookahaed", "'lookahead'")),
    ({"blocks": True}, ("blocks = True", "valid integer")),
    ({"seed": -1}, ("seed = -1", "greater than or equal to 0")),
    ({"seed": 2**63}, ("seed =", "less than")),
    ({"problems": []}, ("problems is empty: name at least one",)),
    ({"block": 3}, ("'block'", "did you mean 'blocks'?")),
    ({"method": {"mine": {"rule": "sgd", "fixd": {}}}}, ("'fixd'", "did you mean 'fixed'?")),
    ({"method": {"mine": {"rule": "sdg"}}, "methods": ["sgd", "mine"]}, ("sdg", "'sgd'")),
    ({"method": {"mine": {"rule": "sdg"}}}, ("sdg", "'sgd'")),
    ({"method": {"mine": {"title": "x"}}}, ("method.mine.rule", "missing")),
    ({"budget": 0}, ("budget", "0", "greater than or equal to 1")),
    ({"budget": -5}, ("budget", "-5", "greater than or equal to 1")),
    ({"blocks": 0}, ("blocks", "0")),
    ({"trials": -1}, ("trials", "-1")),
    ({"exploit": -1}, ("exploit", "-1")),
    ({"recommend": -2}, ("recommend", "-2")),
    ({"repetitions": 0}, ("repetitions", "0")),
    ({"margin": 0}, ("margin", "0", "greater than 0")),
    ({"blocks": "ten"}, ("blocks", "'ten'", "integer")),
    ({"blocks": 2.5}, ("blocks", "2.5")),
    ({"problems": "rosenbrock"}, ("problems", "'rosenbrock'", "list")),
    ({"methods": []}, ("methods is empty: name at least one",)),
    ({"name": ""}, ("name", "''")),
    ({"methods": ["sgd", "heat", "sgd"]}, ("method 'sgd'", "twice")),
    ({"problems": ["rosenbrock", "rosenbrock"]}, ("problem 'rosenbrock'", "twice")),
    ({"space": {"lr": [0.1, 0.01]}}, ("lr = [0.1, 0.01]", "turned around", "low < high")),
    ({"space": {"lr": [0.1, 0.1]}}, ("lr = [0.1, 0.1]",)),
    ({"space": {"lr": [0.0, 0.1]}}, ("lr", "log scale", "low > 0")),
    ({"space": {"lr": [0.1]}}, ("lr = [0.1]", "[low, high]")),
    ({"space": {"lr": ["a", "b"]}}, ("lr", "[low, high]")),
    ({"space": {"lr": 0.1}}, ("space.lr", "0.1")),
    ({"space": {"lr": [1e-3, float("inf")]}}, ("lr", "inf")),
    ({"space": {"lr": [float("nan"), 1.0]}}, ("lr", "nan")),
    ({"space": {"inner_steps": [6.5, 30]}}, ("inner_steps", "6.5", "integers")),
    ({"space": {"inner_steps": [0, 30]}}, ("inner_steps", "integers ≥ 1")),
    ({"space": {"inner_steps": [6, 29]}}, ("inner_steps", "steps of 2")),
    ({"space": {"inner_steps": [6, float("inf")]}}, ("inner_steps", "inf")),
    ({"space": {"learning_rate": [0.1, 1]}}, ("learning_rate",)),
    ({"space": {"momentun": [0.1, 0.2]}}, ("momentun", "did you mean 'momentum'?")),
    ({"space": {"schedule": ["cosin"]}}, ("schedule", "cosin", "did you mean 'cosine'?")),
    ({"space": {"schedule": []}}, ("schedule", "[]")),
    ({"space": {"schedule": [0.1, 0.2]}}, ("schedule", "0.1")),
    ({"method": {"mine": {"rule": "sgd", "space": {"gamma_start": [1, 2]}}}}, ("[method.mine]", "gamma_start")),
    ({"method": {"mine": {"rule": "sgd", "space": {"lr": [2, 1]}}}}, ("lr = [2, 1]", "turned around")),
    ({"method": {"mine": {"rule": "sgd", "fixed": {"momentm": 0}}}}, ("momentm", "'momentum'")),
    ({"method": {"mine": {"rule": "sgd", "fixed": {"lr": "fast"}}}}, ("method.mine.fixed.lr", "'fast'", "a number")),
    ({"method": {"mine": {"rule": "sgd", "fixed": {"momentum": 1.0}}}}, ("mine.fixed.momentum", "1.0", "below 1")),
    ({"method": {"mine": {"rule": "heat", "fixed": {"sigma_end": 0.0}}}}, ("mine.fixed.sigma_end", "positive")),
    ({"space": {"momentum": [0.5, 1.5]}}, ("momentum", "1.5", "below 1")),
    ({"method": {"mine": {"rule": "sgd", "fixed": {"schedule": "cos"}}}}, ("mine.fixed.schedule", "'cos'", "cosine")),
    ({"method": {"mine": {"rule": "sgd", "fixed": {"schedule": 1}}}}, ("mine.fixed.schedule", "cosine")),
    ({"method": {"mine": {"rule": "heat", "fixed": {"inner_steps": 0}}}}, ("mine.fixed.inner_steps", "0")),
    ({"method": {"mine": {"rule": "heat", "fixed": {"inner_steps": 2.5}}}}, ("mine.fixed.inner_steps", "2.5")),
    ({"method": {"mine": {"rule": "sgd", "fixed": {"lr": float("nan")}}}}, ("mine.fixed.lr", "nan")),
    ({"method": {"mine": {"rule": "sgd", "options": {"nestrov": False}}}}, ("mine.options", "nestrov")),
    ({"method": {"mine": {"rule": "sgd", "options": {"nesterov": "maybe"}}}}, ("mine.options.nesterov", "'maybe'")),
    ({"method": {"mine": {"rule": "parle", "options": {"replicas": 0}}}}, ("mine.options", "replicas = 0", "least 1")),
    ({"methods": ["heat"]}, ("baseline 'sgd' is not among the methods", "`methods`")),
    ({"blocks": 10**12}, ("blocks", "10000000")),
    ({"margin": float("nan")}, ("margin", "nan")),
    ({"flatness": "yes"}, ("flatness = 'yes'", "boolean")),
]


@pytest.mark.parametrize(("change", "parts"), MISTAKES, ids=lambda value: str(value) if isinstance(value, dict) else "")
def test_a_mistake_is_named_in_one_line(change: dict[str, Any], parts: tuple[str, ...]) -> None:
    line = refusal(**change)
    for part in parts:
        assert part in line


@pytest.mark.parametrize("key", ["name", "problems", "methods"])
def test_a_missing_key_is_named(key: str) -> None:
    values = {k: v for k, v in GOOD.items() if k != key}
    with pytest.raises(UserError, match=re.escape(f"my.toml: the key {key!r} is missing")):
        parse(values, "my.toml")


def test_an_unknown_problem_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown problem 'rosenbrok': did you mean 'rosenbrock'\?"):
        problem("rosenbrok")


@pytest.mark.parametrize("text", ["name = ", "name = 'a'\nname = 'b'", "[[[", "x\x00"])
def test_a_broken_file_is_named_with_the_place(text: str, tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=r"broken\.toml' cannot be read: .*\(at ") as refused:
        load(file)
    assert "\n" not in str(refused.value)


def test_files_that_are_no_text_missing_or_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00\x01")
    (tmp_path / "folder").mkdir()
    for name, words in (("binary.toml", "cannot be read"), ("none.toml", "does not exist"), ("folder", "folder")):
        with pytest.raises(UserError, match=words) as refused:
            load(tmp_path / name)
        assert "\n" not in str(refused.value) and str(tmp_path / name) in str(refused.value)


def test_shipped_studies_are_sound_and_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find(None) == find("studies/digits.toml") == studies_folder() / "digits.toml"
    assert {"studies/digits.toml", "studies/landscapes.toml", "studies/aa-digits.toml"} <= set(shipped())
    for name in shipped():
        s, text = load(find(name))
        assert s.name in text and s.baseline in s.methods
        assert set(s.problems) <= set(PROBLEMS)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "digits.toml").write_text("name = 'own'")
    assert find("studies/digits.toml") == Path("studies/digits.toml")  # a file of one's own goes first


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('controls = ["adamw"]', "controls names 'adamw', which is not among the methods"),
        ('[method.hot]\nrule = "heat"', "names 'hot', which is not among the methods"),
    ],
)
def test_what_a_file_defines_and_does_not_use_is_told(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f'name = "mine"\nproblems = ["rosenbrock"]\nmethods = ["sgd", "heat"]\n{text}\n')
    with pytest.raises(UserError, match=re.escape(told)):
        load(file)
    s, _ = load(file, {"methods": ["heat"]})  # on the command line, fewer are asked for
    assert s.methods == ["sgd", "heat"]


def test_overrides_replace_keys_of_the_file() -> None:
    s, _ = load(studies_folder() / "digits.toml", {"blocks": 3, "methods": ["sgd", "heat"], "budget": 60})
    assert (s.blocks, s.methods, s.budget, s.trials) == (3, ["sgd", "heat"], 60, 12)
    with pytest.raises(UserError, match=r"^--budget 0: input should be greater"):
        load(studies_folder() / "digits.toml", {"budget": 0})


def test_spaces_narrow_in_order_shared_problem_study_method() -> None:
    task = problem("rosenbrock")
    s = parse(GOOD, "x")
    lr = s.space_of("sgd", task)["lr"]
    assert isinstance(lr, Float) and (lr.low, lr.high) == task.space["lr"] and lr.log
    assert s.space_of("sgd", problem("rugged-1d"))["lr"] == RULES["sgd"].space["lr"]
    variant = {"rule": "sgd", "space": {"lr": [1, 2]}, "fixed": {"momentum": 0.0}, "options": {"nesterov": False}}
    s = parse({**GOOD, "space": {"lr": [1e-2, 1], "schedule": ["constant"]}, "method": {"mine": variant}}, "x")
    studied = s.space_of("sgd", task)
    assert (studied["lr"].low, studied["lr"].high) == (1e-2, 1)  # type: ignore[union-attr]
    assert studied["schedule"] == Choice(("constant",), "constant")
    mine = s.space_of("mine", task)
    assert (mine["lr"].low, mine["lr"].high) == (1, 2) and "momentum" not in mine  # type: ignore[union-attr]
    assert s.fixed_of("mine", task) == {"weight_decay": 0.0, "momentum": 0.0} and s.make_rule("mine").nesterov is False  # type: ignore[attr-defined]
    for name, declared in s.space_of("heat", task).items():
        if isinstance(declared, (Float, Int)):
            assert declared.low <= declared.default <= declared.high, name


def test_shared_ranges_are_the_same_for_all_methods() -> None:
    s = parse({**GOOD, "methods": list(RULES)}, "x")
    for name in PROBLEMS:
        ranges: dict[str, set[Any]] = {}
        for label in RULES:
            for key, declared in s.space_of(label, problem(name)).items():
                shown = declared.options if isinstance(declared, Choice) else (declared.low, declared.high)
                ranges.setdefault(key, set()).add(shown)
        assert all(len(found) == 1 for found in ranges.values()), ranges


def roles(s: StudySpec) -> list[str]:
    return [s.role_of(label) for label in s.methods]


def test_roles() -> None:
    s = parse({**GOOD, "methods": ["sgd", "lookahead", "heat"], "controls": ["lookahead"]}, "x")
    assert roles(s) == ["baseline", "control", "candidate"]


# --- changes ----------------------------------------------------------------------------------------------------------


def stored(**values: Any) -> dict[str, Any]:
    return parse({**GOOD, **values}, "x").model_dump()


def test_an_unchanged_study_goes_on() -> None:
    assert changes(stored(), stored()) == ([], stored())


@pytest.mark.parametrize("key", ["blocks", "trials", "exploit", "recommend"])
def test_numbers_may_grow_and_not_shrink(key: str) -> None:
    old = stored()
    more, less = {**old, key: old[key] + 1}, {**old, key: old[key] - 1}
    assert changes(old, more) == ([], more)
    refused, _ = changes(old, less)
    assert len(refused) == 1 and refused[0].startswith(f"{key}: {old[key]} → {old[key] - 1}")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 3}, "seed: 0 → 3"),
        ({"budget": 50}, "budget: None → 50"),
        ({"space": {"lr": [0.1, 1]}}, "space: {} → {'lr': [0.1, 1.0]}"),
    ],
)
def test_what_trials_depend_on_may_not_change(change: dict[str, Any], told: str) -> None:
    assert changes(stored(), stored(**change))[0] == [told]


def test_how_results_are_read_may_change() -> None:
    new = stored(description="new", controls=["heat"], margin=3.0, baseline="heat", flatness=False)
    assert changes(stored(), new) == ([], new)
    assert set(FREE) == {"description", "controls", "margin", "baseline", "flatness"}
    assert not set(FREE) & set(EXTENDABLE)


def test_names_are_joined_and_never_lost() -> None:
    refused, merged = changes(stored(), stored(methods=["hj", "sgd"], problems=["rugged-1d"]))
    assert not refused
    assert merged["methods"] == ["sgd", "heat", "hj"] and merged["problems"] == ["rosenbrock", "rugged-1d"]


def test_variants_may_be_added_and_not_changed() -> None:
    one, other = {"rule": "sgd", "fixed": {"lr": 0.1}}, {"rule": "sgd", "fixed": {"lr": 0.2}}
    old = stored(method={"a": one})
    assert changes(old, stored(method={"a": one, "b": other}))[0] == []
    assert set(changes(old, stored(method={"b": other}))[1]["method"]) == {"a", "b"}
    (line,) = changes(old, stored(method={"a": other}))[0]
    assert line.startswith("method.a:") and "0.1" in line and "0.2" in line


def test_blocks_are_fixed_in_a_study_with_repetitions() -> None:
    refused, _ = changes(stored(repetitions=3), stored(repetitions=3, blocks=11))
    assert refused == ["blocks: 10 → 11 (fixed in a study with repetitions)"]
    assert changes(stored(repetitions=3), stored(repetitions=4))[0] == []


def test_several_differences_are_all_told() -> None:
    assert len(changes(stored(), stored(seed=1, budget=5, blocks=9))[0]) == 3
