"""Tables: those of scikit-learn, and files of the user's own, divided and turned into numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from relaxbench.errors import UserError, unknown
from relaxbench.problems.data.division import divide
from relaxbench.problems.data.images import first_line
from relaxbench.problems.data.published import data_dir

if TYPE_CHECKING:
    import pandas as pd

BUNDLED = {"breast-cancer": "breast_cancer.csv", "wine": "wine_data.csv", "iris": "iris.csv"}
"""Tables of scikit-learn: name → its file, read without importing scikit-learn, which takes longer than reading."""
DIABETES = "diabetes"
"""The table of scikit-learn that predicts a quantity; its target is a file of its own."""
NAMES = (*BUNDLED, DIABETES)
SUFFIXES = (".csv", ".csv.gz", ".csv.xz", ".csv.bz2", ".csv.zip", ".parquet", ".pq", ".arff")
TARGETS = ("target", "class", "label")
"""Names of the column that is predicted, in any case; without one of them it is the last column."""
MOST_CLASSES = 50
"""A column of whole numbers with more different values is a quantity, not a class."""
FEWEST_ROWS = 30


@dataclass(frozen=True)
class Table:
    """A table as numbers, divided into splits.

    Attributes:
        splits: ``"train"``, ``"validation"``, ``"test"`` → inputs float32 ``[N, F]`` and labels: int64 ``[N]`` of
            classes, or float32 ``[N, 1]`` of a quantity, in standard deviations of the training rows.
        classes: number of classes; 0 for a quantity.
        target: name of the column that is predicted.
    """

    splits: dict[str, tuple[Tensor, Tensor]]
    classes: int
    target: str


def table(name: str) -> Table:
    """Return a table of scikit-learn by its name, or that of a file (CSV, Parquet or ARFF; also in the data folder).

    The rows are divided by a hash of their numbers, the same on every machine; classes keep their shares. Numbers are
    standardized by the training rows, and missing ones become their mean. Texts become one column per value that the
    training rows have. Columns that are constant in training are left out.

    Raises:
        UserError: for an unknown name, and for a file that is missing, damaged, or has nothing to learn from.
    """
    return _table(name if name in NAMES else str(_path(name)))


@cache
def _table(name: str) -> Table:
    """Return the table of scikit-learn, or of the file, once per process."""
    frame = _bundled(name) if name in NAMES else _read(Path(name))
    frame.columns = [str(column) for column in frame.columns]
    if len(set(frame.columns)) != len(frame.columns) or len(frame.columns) < 2:
        raise UserError(f"table {name!r} has {len(frame.columns)} columns: expected two or more, with different names")
    target = next((column for column in frame.columns if column.lower() in TARGETS), frame.columns[-1])
    frame = frame[frame[target].notna()]
    if len(frame) < FEWEST_ROWS:
        raise UserError(f"table {name!r} has {len(frame)} rows with a {target!r}: expected {FEWEST_ROWS} or more")
    labels, classes = _labels(name, frame[target])
    divided = divide(labels.tolist() if classes else [0] * len(labels), "table")
    rows = {split: torch.tensor(part, dtype=torch.int64) for split, part in divided.items()}
    if classes and any(len(torch.unique(labels[part])) < classes for part in rows.values()):
        raise UserError(f"table {name!r}: a class of {target!r} has too few rows to be in every split: leave it out")
    inputs = _inputs(name, frame.drop(columns=target), rows["train"].tolist())
    if not inputs.shape[1]:
        raise UserError(f"table {name!r} has no column that varies, apart from {target!r}: expected one or more")
    if not classes:
        train = labels[rows["train"]]
        labels = ((labels - train.mean()) / train.std()).float()[:, None]
    return Table({split: (inputs[at], labels[at]) for split, at in rows.items()}, classes, target)


def _bundled(name: str) -> pd.DataFrame:
    """Read a table of scikit-learn."""
    import pandas as pd

    package = find_spec("sklearn")
    folder = Path((package.submodule_search_locations or ["."])[0] if package else ".") / "datasets" / "data"
    try:
        if name == DIABETES:
            frame = pd.read_csv(folder / "diabetes_data_raw.csv.gz", sep=r"\s+", header=None)
            return frame.assign(target=pd.read_csv(folder / "diabetes_target.csv.gz", header=None)[0])
        with (folder / BUNDLED[name]).open() as file:
            classes = file.readline().strip().split(",")[2:]
            frame = pd.read_csv(file, header=None)
    except OSError as error:
        reason = f"is not in this version of scikit-learn ({error.strerror})"
        raise UserError(f"table {name!r} {reason}: name a file") from None
    return frame.iloc[:, :-1].assign(target=frame.iloc[:, -1].map(dict(enumerate(classes))))


def _path(name: str) -> Path:
    """Return the file of a name, and check that there is one of a known kind."""
    path = Path(name) if Path(name).exists() else data_dir() / name
    if not path.name.lower().endswith(SUFFIXES):
        raise unknown("table", name, [*NAMES], f"a file ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise UserError(
            f"table {str(path)!r} does not exist: name a file, or set RELAXBENCH_DATA to its folder", "data_dir"
        )
    return path


def _read(path: Path) -> pd.DataFrame:
    """Read a file of the user's own."""
    import pandas as pd

    suffix = path.suffix.lower()
    try:
        if suffix == ".arff":
            return _arff(path)
        return pd.read_parquet(path) if suffix in (".parquet", ".pq") else pd.read_csv(path, skipinitialspace=True)
    except UserError:
        raise
    except Exception as error:  # each reader has its own kinds
        reason = first_line(error)
        raise UserError(f"table {str(path)!r} is damaged or cannot be read ({reason}): save it again") from error


def _arff(path: Path) -> pd.DataFrame:
    """Read the format of Weka and OpenML."""
    import pandas as pd

    try:
        import arff
    except ImportError:
        raise UserError(
            f"table {str(path)!r} needs a reader of ARFF: pip install 'relaxbench[tables]', or save it as CSV"
        ) from None
    with path.open(encoding="utf-8-sig") as file:
        content = arff.load(file)
    return pd.DataFrame(content["data"], columns=[name for name, _ in content["attributes"]])


def _labels(name: str, column: pd.Series) -> tuple[Tensor, int]:
    """Return labels (int64 numbers of classes, or float64) and the number of classes, 0 for a quantity."""
    import pandas as pd

    numbers = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    whole = numbers and bool((column == column.round()).all()) and column.nunique() <= MOST_CLASSES
    if numbers and not whole:
        values = torch.tensor(column.to_numpy("float64"))
        if not values.isfinite().all() or values.std() == 0:
            raise UserError(f"table {name!r}: {column.name!r} is not finite, or always the same: nothing to learn")
        return values, 0
    codes, kinds = pd.factorize(column, sort=True)
    if len(kinds) < 2:
        raise UserError(f"table {name!r}: {column.name!r} is always the same: nothing to learn")
    if len(kinds) > MOST_CLASSES:
        raise UserError(
            f"table {name!r}: {column.name!r} has {len(kinds):,} different texts: expected at most {MOST_CLASSES} "
            f"classes; name the column that is predicted {TARGETS[0]!r}"
        )
    return torch.tensor(codes, dtype=torch.int64), len(kinds)


def _inputs(table_name: str, frame: pd.DataFrame, train: Sequence[int]) -> Tensor:
    """Turn columns into standardized numbers ``[N, F]``; what is measured is measured on the training rows."""
    import pandas as pd

    parts: list[Tensor] = []
    for name in frame.columns:
        column = frame[name]
        if pd.api.types.is_bool_dtype(column) or pd.api.types.is_numeric_dtype(column):
            columns = [torch.tensor(column.to_numpy("float64", na_value=float("nan")))]
            if columns[0].isinf().any():
                raise UserError(f"table {table_name!r}: column {name!r} has an infinite number: correct it")
        else:
            texts = column.astype(str).where(column.notna(), "")
            columns = [
                torch.tensor((texts == text).to_numpy("float64")) for text in sorted({texts.iloc[row] for row in train})
            ]
        for values in columns:
            seen = values[train]
            mean, deviation = seen.nanmean(), (seen - seen.nanmean()).square().nanmean().sqrt()
            if deviation > 1e-9 * (1 + mean.abs()):
                parts.append(((values - mean) / deviation).nan_to_num(0.0, 0.0, 0.0).float())
    return torch.stack(parts, dim=1) if parts else torch.empty(len(frame), 0)
