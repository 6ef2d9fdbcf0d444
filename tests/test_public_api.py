"""The names that `import relaxbench` offers, and the libraries that it does not load."""

from __future__ import annotations

import subprocess
import sys

import pytest

import relaxbench


def test_public_names_are_listed_and_exist() -> None:
    functions = {"best", "load_study", "run_study", "trial", "verdicts", "write_report"}
    assert set(relaxbench.__all__) == {"UserError", "__version__", "optim", "problems", *functions}
    assert set(relaxbench.__all__) <= set(dir(relaxbench))
    assert all(getattr(relaxbench, name) is not None for name in relaxbench.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = relaxbench.nothing


def test_import_loads_neither_torch_nor_pandas() -> None:
    code = "import sys, relaxbench; dir(relaxbench); assert not {'torch', 'pandas', 'sqlalchemy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
