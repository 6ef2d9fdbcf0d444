"""Study files: found, read, and refused with the place of the mistake."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from relaxbench.errors import UserError
from relaxbench.problems import PROBLEMS
from relaxbench.study.definition.files import find, load, shipped, studies_folder


@pytest.mark.parametrize("text", ["name = ", "name = 'a'\nname = 'b'", "[[[", "x\x00", "[a]\n[a]"])
def test_a_broken_file_is_named_with_the_place(text: str, tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=r"broken\.toml' cannot be read: .*\(at ") as refused:
        load(file)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"name = 'a'\n name = 'b'", "\"name = 'b'\" (at line 2) gives a key or table that the file has given before"),
        (b"[space]\n[space]", "'[space]' (at line 2) gives a key or table that the file has given before: keep one"),
        (b"seed = " + b"9" * 5000, "it has a number of thousands of digits"),
        (b"looks = " + b"[" * 5000, "its lists or tables are nested too deeply"),
        ("name = 'ü'".encode("latin-1"), "byte 9 is not UTF-8; save it as UTF-8 text"),
    ],
)
def test_a_broken_file_is_explained_without_the_words_of_a_parser(content: bytes, told: str, tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(told)) as refused:
        load(file)
    assert len(str(refused.value)) < 300 and str(file) in str(refused.value)


def test_the_mark_that_windows_writes_first_is_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes("\ufeffname = 'mine'\nproblems = ['rosenbrock']\nmethods = ['sgd']".encode())
    assert load(file)[0].name == "mine"


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
        if name == "studies/optimizers.toml" and not find_spec("schedulefree"):
            continue  # it needs the extra "optimizers"
        s, text = load(find(name))
        assert s.name in text and s.baseline in s.methods
        scripts = {path for path in s.problems if s.script and (studies_folder().parent / path).is_file()}
        assert set(s.problems) <= {*PROBLEMS, *scripts}
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
    s, _ = load(studies_folder() / "digits.toml", {"looks": [6], "methods": ["sgd", "heat"], "budget": 60})
    assert (s.looks, s.methods, s.budget, s.trials) == ([6], ["sgd", "heat"], 60, 12)
    with pytest.raises(UserError, match=r"^--budget 0: expected at least 1$"):
        load(studies_folder() / "digits.toml", {"budget": 0}, {"budget": "--budget"})
