"""Tables: splits, standardization and columns of every kind, against pandas and scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import datasets

from relaxbench.errors import UserError
from relaxbench.problems import problem
from relaxbench.problems.data.tables import NAMES, table

ROWS = 100


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RELAXBENCH_DATA", str(tmp_path))
    return tmp_path


def frame() -> pd.DataFrame:
    """Numbers, some of them missing, texts, truths, a constant, and a class."""
    draw = np.random.default_rng(0)
    size = draw.normal(5, 2, ROWS).round(3)
    size[::9] = np.nan
    kinds = np.array(["low", "high", "rare"])
    return pd.DataFrame(
        {
            "size": size,
            "Class": kinds[np.arange(ROWS) % 3 % 2],
            "colour": np.array(["red", "green", None], dtype=object)[draw.integers(0, 3, ROWS)],
            "round": draw.random(ROWS) < 0.3,
            "same": 7,
        }
    )


@pytest.mark.parametrize("name", NAMES)
def test_bundled_tables_are_those_of_scikit_learn(name: str) -> None:
    expected = getattr(datasets, f"load_{name.replace('-', '_')}")
    x, y = expected(return_X_y=True, **({"scaled": False} if name == "diabetes" else {}))
    splits, classes, _ = (found := table(name)).splits, found.classes, found.target
    assert classes == (0 if name == "diabetes" else len(np.unique(y)))
    assert sum(len(part) for part, _ in splits.values()) == len(x) and splits["train"][0].shape[1] == x.shape[1]
    together = torch.cat([part for part, _ in splits.values()])
    train = splits["train"][0]
    assert torch.allclose(train.mean(0), torch.zeros(x.shape[1]), atol=1e-5)
    assert torch.allclose(train.std(0, correction=0), torch.ones(x.shape[1]), atol=1e-5)
    # Standardization is affine and rising: every column keeps the order of its values.
    for column in range(x.shape[1]):
        assert np.corrcoef(np.sort(x[:, column]), np.sort(together[:, column].numpy()))[0, 1] == pytest.approx(1)


def test_classes_keep_their_shares_and_no_row_is_in_two_splits() -> None:
    splits = table("breast-cancer").splits
    shares = [part.double().mean().item() for _, part in splits.values()]
    assert max(shares) - min(shares) < 0.02
    rows = [tuple(row) for part, _ in splits.values() for row in part.tolist()]
    assert len(set(rows)) == len(rows) == 569


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", ".arff"])
def test_files_give_the_same_numbers_in_every_format(folder: Path, suffix: str) -> None:
    own = frame()
    own.to_csv(folder / "reference.csv", index=False)
    path = folder / f"other{suffix}"
    if suffix == ".arff":
        arff = pytest.importorskip("arff", reason="liac-arff is not installed")
        kinds: dict[str, object] = {"size": "REAL", "round": "REAL", "same": "REAL"}
        columns = [(n, kinds.get(n, sorted(set(own[n].dropna())))) for n in own]
        numbers = own.assign(round=own["round"].astype(float)).astype(object)
        data = numbers.where(own.notna(), None).to_numpy().tolist()
        with path.open("w") as file:
            arff.dump({"relation": "r", "attributes": columns, "data": data}, file)
    elif suffix == ".parquet":
        own.to_parquet(path)
    else:
        own.to_csv(path, index=False)
    first, second = table("reference.csv"), table(path.name)
    assert first.target == second.target == "Class" and first.classes == second.classes == 2
    for split, (x, y) in first.splits.items():
        assert torch.equal(y, second.splits[split][1]) and torch.allclose(x, second.splits[split][0], atol=1e-6)


def test_missing_numbers_become_the_mean_texts_become_columns_and_constants_leave(folder: Path) -> None:
    own = frame()
    own.to_csv(folder / "own.csv", index=False)
    x = torch.cat([part for part, _ in table("own.csv").splits.values()])
    assert x.shape == (ROWS, 1 + 3 + 1)  # size, three colours (one of them: not given), round
    assert (x[:, 0] == 0).sum() == own["size"].isna().sum()
    counts = [len(torch.unique(x[:, column])) for column in range(1, 5)]
    assert counts == [2, 2, 2, 2]
    ones = [(x[:, column] > 0).sum().item() for column in range(1, 4)]
    assert ones == [own["colour"].isna().sum(), *(int((own["colour"] == c).sum()) for c in ("green", "red"))]


def test_a_quantity_is_predicted_in_standard_deviations(folder: Path) -> None:
    task, found = problem("tabular-mlp:diabetes"), table("diabetes")
    y = found.splits["train"][1]
    assert y.shape[1:] == (1,) and y.mean().item() == pytest.approx(0, abs=1e-5) and y.std().item() == pytest.approx(1)
    assert task.loss.name == "least-squares" and task.metric == "test mean square"
    for most, kind in ((50, 50), (51, 0)):  # whole numbers are classes as long as there are few of them
        pd.DataFrame({"a": range(1000), "b": [i % most for i in range(1000)]}).to_csv(
            folder / f"{most}.csv", index=False
        )
        assert table(f"{most}.csv").classes == kind


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n", "has 0 rows with a 'b': expected 30 or more"),
        ("a\n1\n", "has 1 columns: expected two or more"),
        ("a,b\n" + "1,2\n3,4\n" * 20, ""),
        ("a,b\n" + "7,2\n7,4\n" * 20, "has no column that varies, apart from 'b'"),
        ("a,b\n" + "1,x\n2,x\n" * 20, "'b' is always the same"),
        ("a,b\n" + "1,1.5\n2,1.5\n" * 20, "'b' is not finite, or always the same"),
        ("a,b\n" + "".join(f"{i},w{i}\n" for i in range(60)), "'b' has 60 different texts: expected at most 50"),
        ("a,b\n" + "1,x\n2,y\n" * 20 + "1,z\n", "a class of 'b' has too few rows to be in every split"),
        ("a,b\n" + "1,2\ninf,4\n" * 20, "column 'a' has an infinite number"),
        ("a,b\n1,2\n1,2,3\n", "is damaged or cannot be read"),
    ],
)
def test_unusable_tables_are_refused_in_one_line(folder: Path, content: str, said: str) -> None:
    (folder / "own.csv").write_text(content)
    if not said:
        assert table("own.csv").classes == 2
        return
    with pytest.raises(UserError, match=said) as caught:
        problem("tabular-mlp:own.csv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none.csv", "none.csv' does not exist: name a file, or set RELAXBENCH_DATA"),
        ("wien", "unknown table 'wien': did you mean 'wine'"),
        ("own.txt", "a file ends in .csv"),
    ],
)
def test_names_that_are_no_table_are_refused(folder: Path, name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        problem(f"tabular-mlp:{name}")
