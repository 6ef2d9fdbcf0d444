"""What is written as TOML is read by Python's own parser as it was."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaxbench.util.toml import toml_key, toml_lines, toml_value

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
PLAIN = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_what_is_written_is_read_as_it_was(table: dict[str, Any]) -> None:
    assert tomllib.loads("\n".join(toml_lines(table))) == table


def test_numbers_of_libraries_paths_and_tuples_are_plain_values() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    written = toml_lines(
        {"a": np.int64(3), "b": torch.tensor(0.5), "c": Path("x") / "y", "d": (1, 2), "e": np.bool_(1)}
    )
    assert tomllib.loads("\n".join(written)) == {"a": 3, "b": 0.5, "c": "x/y", "d": [1, 2], "e": True}


@pytest.mark.parametrize("value", [None, object(), {1, 2}, np.arange(3), b"x", 1j])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match="has no form in TOML"):
        toml_value(value)


def test_a_key_that_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="the key 1 is no text"):
        toml_key(1)  # type: ignore[arg-type]
