"""The table [ablation]: a method per part, tuned like the whole and compared with it; mistakes in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relaxbench.analysis.arms import family_of, opponents_of
from relaxbench.errors import UserError
from relaxbench.optim.registry import RULES
from relaxbench.problems import problem
from relaxbench.space import Int
from relaxbench.study.definition.ablation import expanded, parts_of
from relaxbench.study.definition.changes import merge
from relaxbench.study.definition.files import load
from relaxbench.study.definition.prepare import prepare
from relaxbench.study.definition.spec import StudySpec
from relaxbench.study.definition.validation import parse

BASE: dict[str, Any] = {"name": "mine", "problems": ["digits-mlp"], "looks": [6], "trials": 2}
TAKEN_APART = [name for name, rule in RULES.items() if rule.parts]


def study(*methods: str, parts: list[str] | None = None, **changes: Any) -> StudySpec:
    table = {"methods": list(methods), **({"parts": parts} if parts else {})}
    return parse(expanded({**BASE, **changes, "ablation": table}), "my.toml")


@pytest.mark.parametrize("name", TAKEN_APART)
def test_every_rule_can_be_taken_apart(name: str) -> None:
    """All variants fit into a study, can train its problem, and are searched like the whole but for their part."""
    spec = study(name)
    prepare(spec)
    assert spec.baseline == spec.methods[0] == name and len(spec.methods) == 1 + len(parts_of(name, BASE))
    assert {spec.role_of(label) for label in spec.methods[1:]} == {"candidate"}
    digits = problem("digits-mlp")
    whole, kept = spec.space_of(name, digits), spec.fixed_of(name, digits)
    for label, part in zip(spec.methods[1:], parts_of(name, BASE), strict=True):
        assert spec.variant(label).against == name and spec.arm_of(label) == "tuned"
        how = f"with {part.instead}" if part.half else f"without {part.title}"
        assert spec.title_of(label) == f"{RULES[name].title} {how}"
        space, fixed = spec.space_of(label, digits), spec.fixed_of(label, digits)
        if part.rule:
            assert spec.rule_of(label) is RULES[part.rule]
            assert all(fixed[key] == kept[key] for key in kept.keys() & RULES[part.rule].wide.keys())
            continue
        changed = {*part.fixed, *filter(None, [part.half])}
        assert all(fixed[key] == value for key, value in kept.items() if key not in changed)
        assert {key: value for key, value in space.items() if key not in changed} == {
            key: value for key, value in whole.items() if key not in changed
        }
        assert all(fixed[key] == value for key, value in part.fixed.items())


def test_what_a_study_says_of_the_whole_holds_without_a_part() -> None:
    own = {"rule": "entropy-sgd", "title": "Mine", "options": {"restart_momentum": True}}
    own |= {"space": {"inner_lr": [0.01, 0.1], "outer_momentum": [0.0, 0.5]}, "fixed": {"averaging": 0.5}}
    spec = study("mine", method={"mine": own}, space={"inner_steps": [6, 12]}, search={"sampler": "tpe"})
    digits = problem("digits-mlp")
    whole = spec.space_of("mine", digits)
    assert "mine-no-outer-momentum" in spec.methods and "mine-no-averaging" in spec.methods  # here it has one
    for label in spec.methods[1:]:
        variant, space = spec.variant(label), spec.space_of(label, digits)
        assert variant.rule == "entropy-sgd" and variant.options == {"restart_momentum": True}
        assert (
            variant.title.startswith(("Mine without ", "Mine with inner loops of half"))
            and spec.sampling_of(label)["sampler"] == "tpe"
        )
        assert space["inner_lr"] == whole["inner_lr"]
    assert spec.fixed_of("mine-no-averaging", digits)["averaging"] == 0.0
    assert spec.fixed_of("mine-no-noise", digits)["averaging"] == 0.5
    assert spec.space_of("mine-half-inner-steps", digits)["inner_steps"] == Int(3, 6, 6, 1)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, {5, 10}),
        ({"space": {"inner_steps": [10, 20]}}, {5, 6, 7, 8, 9, 10}),
        ({"space": {"inner_steps": [10, 20, 5]}}, {5, 7, 9}),
        ({"space": {"inner_steps": [6, 8]}}, {3, 4}),
        ({"space": "wide"}, 10),
        ({"fixed": {"inner_steps": 14}}, 7),
        ({"fixed": {"inner_steps": 1}}, None),
    ],
)
def test_inner_steps_are_halved(own: dict[str, Any], expected: set[int] | int | None) -> None:
    spec, label = study("hj", method={"hj": own}), "hj-half-inner-steps"
    assert (label in spec.methods) == (expected is not None)
    if expected is None:
        return
    steps = spec.space_of(label, problem("digits-mlp")).get("inner_steps")
    if isinstance(steps, Int):
        assert {*range(steps.low, steps.high + 1, steps.step)} == expected
    else:
        assert spec.fixed_of(label, problem("digits-mlp"))["inner_steps"] == expected


def test_several_methods_are_compared_with_sgd_and_each_part_with_its_own_whole() -> None:
    spec = study("hj", "heat", parts=["scoping"], problems=["digits-mlp", "rosenbrock"])
    assert spec.methods == ["sgd", "hj", "heat", "hj-no-scoping", "heat-no-scoping"] and spec.baseline == "sgd"
    stored: Any = spec.model_dump()
    opponents = {"hj": "sgd", "heat": "sgd", "hj-no-scoping": "hj", "heat-no-scoping": "heat"}
    assert opponents_of(stored) == opponents and family_of(stored).comparisons == 4 * 2
    named = study("hj", parts=["scoping"], methods=["lookahead"], baseline="lookahead")
    assert named.methods == ["lookahead", "hj", "hj-no-scoping"]


def test_a_study_file_says_it_and_a_command_may_choose_among_its_methods(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    lines = ['name = "s"', 'problems = ["rosenbrock"]', "looks = [6]", "[ablation]", 'methods = ["hj", "heat"]']
    file.write_text("\n".join(lines))
    spec, text = load(file)
    assert len(spec.methods) == 3 + 4 + 4 and text == file.read_text()
    chosen, _ = load(file, {"methods": ["heat-no-noise"]})
    assert chosen.methods == ["sgd", "heat", "heat-no-noise"]  # with what it is compared with
    refused, merged = merge(chosen.model_dump(), spec.model_dump())
    assert not refused and set(merged["methods"]) == set(spec.methods)  # it goes on as the whole file


def test_the_opponent_is_declared_before_a_study_begins() -> None:
    spec = study("hj", parts=["scoping"]).model_dump()
    other = {
        **spec,
        "method": {**spec["method"], "hj-no-scoping": {**spec["method"]["hj-no-scoping"], "against": None}},
    }
    (line,) = merge(spec, other)[0]
    assert line == "method.hj-no-scoping.against: hj → none (declared before the study began)"
    older = {key: value for key, value in other["method"]["hj-no-scoping"].items() if key != "against"}
    assert (
        merge(
            {**spec, "method": {"hj-no-scoping": older}},
            {**spec, "method": {"hj-no-scoping": other["method"]["hj-no-scoping"]}},
        )[0]
        == []
    )


TABLES: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"methods": ["sgd"]}, ("method 'sgd' has no parts", "its rule declares none", "`against` = 'sgd'", "entropy-sgd")),
    ({"methods": ["entropy-sdg"]}, ("unknown method 'entropy-sdg'", "did you mean 'entropy-sgd'?")),
    ({"methods": ["hj"], "parts": ["scopin"]}, ("unknown part of hj 'scopin'", "did you mean 'scoping'?")),
    ({"methods": ["hj"], "parts": ["noise"]}, ("unknown part of hj 'noise'", "known: coupling, inner-momentum")),
    ({"methods": ["hj"], "parts": ["outer-momentum"]}, ("hj has no outer-momentum here",)),
    ({"methods": ["hj", "hj"]}, ("methods: 'hj' stands there twice",)),
    ({"methods": []}, ("methods is empty",)),
    ({"methods": "hj"}, ("[ablation] methods: expected",)),
    ({"method": ["hj"]}, ("key in table [ablation]: 'method'", "did you mean 'methods'?")),
    ({}, ("[ablation] methods: expected",)),
]


@pytest.mark.parametrize(("table", "parts"), TABLES)
def test_a_wrong_table_is_refused_in_one_line(table: dict[str, Any], parts: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        parse(expanded({**BASE, "ablation": table}), "my.toml")
    assert all(part in str(refused.value) for part in parts) and "\n" not in str(refused.value), refused.value


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"script": {"file": "x.py"}}, ("training script", "`against`")),
        ({"method": {"hj": {"arm": "published"}}}, ("'hj' is run as published", "needs tuning")),
        ({"method": {"hj": {"fixed": {"sigma": 1.0}}}}, ("hyperparameter of [method.hj] 'sigma'",)),
        ({"method": {"hj-no-scoping": {"rule": "hj"}}}, ("method.hj-no-scoping", "makes a method of this name")),
    ],
)
def test_a_study_that_cannot_be_taken_apart_is_refused(changes: dict[str, Any], parts: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as refused:
        study("hj", **changes)
    assert all(part in str(refused.value) for part in parts), refused.value


def test_a_part_that_an_option_overrules_is_not_there() -> None:
    whole = {"rule": "entropy-sgd", "options": {"uniform_average": True}}
    made = expanded({**BASE, "method": {"mine": whole}, "ablation": {"methods": ["mine"]}})["methods"]
    assert "mine-no-noise" in made and "mine-no-averaging" not in made
    with pytest.raises(UserError, match="mine has no averaging here"):
        expanded({**BASE, "method": {"mine": whole}, "ablation": {"methods": ["mine"], "parts": ["averaging"]}})


OPPONENTS: list[tuple[dict[str, Any], str]] = [
    ({"heat": {"against": "hj"}}, "method.heat.against = 'hj': it is not among the methods"),
    ({"heat": {"against": "heat"}}, "'heat' is this method itself"),
    ({"sgd": {"against": "heat"}}, "'sgd' is the baseline, which is compared with nothing"),
    ({"heat": {"against": "mine"}, "mine": {"rule": "hj", "against": "heat"}}, "is compared with"),
    ({"heat": {"against": "mine"}, "mine": {"rule": "hj", "arm": "published"}}, "it is run as published"),
    ({"heat": {"against": " "}}, "method.heat.against = ' '"),
]


@pytest.mark.parametrize(("tables", "part"), OPPONENTS)
def test_an_opponent_must_be_one_that_a_method_can_be_compared_with(tables: dict[str, Any], part: str) -> None:
    methods = ["sgd", "heat", *(["mine"] if "mine" in tables else [])]
    with pytest.raises(UserError) as refused:
        parse({**BASE, "methods": methods, "method": tables}, "my.toml")
    assert part in str(refused.value), refused.value


def test_the_shipped_study_asks_about_every_scope() -> None:
    spec, _ = load(Path(__file__).parents[3] / "studies" / "scoping.toml")
    scoped = {name for name, rule in RULES.items() if any(part.name == "scoping" for part in rule.parts)}
    assert set(spec.methods) == {"sgd", *scoped, *(f"{name}-no-scoping" for name in scoped)}
    assert all(spec.variant(f"{name}-no-scoping").fixed == {"scoping": "mean"} for name in scoped)
