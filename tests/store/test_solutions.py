"""Solutions as stored: three digits of every number, and no damaged one is believed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from relaxbench.store.solutions import pack_solution, unpack_solution

EXACT = np.sin(np.linspace(0, 3, 48 * 48)).reshape(48, 48) * 1e-12
ERROR = np.cos(np.arange(48 * 48) ** 1.5).reshape(48, 48) * 1e9


def stored(**changes: Any) -> Any:
    packed = pack_solution("u", "xt", (0.0, -1.0), (1.0, 2.0), EXACT, ERROR)
    assert packed is not None
    return json.loads(json.dumps(packed)) | changes


def test_numbers_of_any_size_come_back_with_three_digits() -> None:
    found = unpack_solution(stored())
    for values, known in ((found.exact, EXACT), (found.error, ERROR)):
        assert values.shape == (48, 48) and np.abs(values - known).max() < 5e-4 * np.abs(known).max()
    assert list(found.axes) == ["x", "t"] and (found.axes["t"][0], found.axes["t"][-1]) == (-1, 2)
    assert len(json.dumps(stored())) < 13_000


def test_what_is_not_finite_is_not_stored() -> None:
    assert pack_solution("u", "x", (0.0,), (1.0,), np.array([0.0, np.nan]), np.zeros(2)) is None
    zero = pack_solution("u", "x", (0.0,), (1.0,), np.zeros(2), np.zeros(2))
    assert zero is not None and not unpack_solution(zero).error.any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"exact": None}, "not packed"),
        ({"exact": {"scale": 1.0, "values": "AAAA"}}, "3 bytes"),
        ({"exact": {"scale": float("nan"), "values": "AAA="}}, "not packed"),
        ({"exact": {"scale": 1.0, "values": "AAAAAAAAAAA="}}, "expected those of one grid"),
        ({"exact": {"scale": 1.0, "values": "AHw="}}, "not finite"),
        ({"coordinates": ["x", "y", "z"]}, "one or two names"),
        ({"low": [0.0]}, "no numbers"),
        ({"high": ["0", "1"]}, "no numbers"),
    ],
)
def test_damaged_ones_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        unpack_solution(stored(**changes))
    with pytest.raises(ValueError, match="lacks parts"):
        unpack_solution({"scale": 1.0})
