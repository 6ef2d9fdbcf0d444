"""The digest of a Dataset's code is the same in every version of Python: a study goes on after an upgrade."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import Dataset

from relaxbench.problems.dataset_code import code_of


class Named(Dataset[Any]):
    """Has f-strings, which Python 3.12 unparses with other quotes than 3.11."""

    def __getitem__(self, row: int) -> Any:
        rows, width = {"it's": [row]}, 6
        return f"row '{rows['it' + chr(39) + 's'][0]!r:>{width}}'", f"{row=}", f"{Path('a')}" + "b"


def test_it_is_one_number_in_every_version() -> None:
    assert code_of(Named()) == "Named:bc2b829d"


@pytest.mark.parametrize("change", [("!r", "!s"), ("{width}", "{width + 1}"), ("row '", "row ’")])
def test_parts_of_f_strings_count(change: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    before, source = code_of(Named()), inspect.getsource(Named)
    assert change[0] in source
    monkeypatch.setattr(inspect, "getsource", lambda cls: source.replace(*change))
    assert code_of(Named()) != before
