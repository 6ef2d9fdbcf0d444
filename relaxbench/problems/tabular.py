"""A fully connected network on a table: scikit-learn's, or a file of the user's own."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from relaxbench.problems.data.tables import DIABETES, NAMES, SUFFIXES, Table, table
from relaxbench.problems.supervised import StoredProblem

NAME, DEFAULT = "tabular-mlp", "breast-cancer"
WIDTH, BATCH = 64, 32


class TabularProblem(StoredProblem):
    """A network of two hidden layers that predicts one column of a table from the others.

    A column of texts, or of at most 50 different whole numbers, is a class: cross-entropy, and the metric is the error.
    Any other is a quantity: least squares, in variances of the training rows, so that 1 is as good as their mean.

    Args:
        source: name of a table of scikit-learn, or path of a file; see `data.tables.table`.

    Raises:
        UserError: for an unknown name or a file that cannot be used.
    """

    def __init__(self, source: str = DEFAULT) -> None:
        self.table_name = source
        short = Path(source).name
        for suffix in SUFFIXES:
            short = short.removesuffix(suffix)
        quantity = source == DIABETES if source in NAMES else not table(source).classes
        super().__init__(
            NAME if source == DEFAULT else f"{NAME}:{short}",
            self._network,
            lambda: self.table.splits,
            loss="least-squares" if quantity else "cross-entropy",
            batch_size=BATCH,
            budget=600,
            worst=100.0 if quantity else 10.0,
            margin=0.02 if quantity else 1.0,
            kind="fully-connected",
            title=f"network of two hidden layers on the table {short}",
            source=f"table {short}",
            caution="A small test split: the interval holds for these examples, not for others of their kind.",
        )

    @property
    def table(self) -> Table:
        """The table, read once per process."""
        return table(self.table_name)

    def _network(self) -> nn.Module:
        inputs = self.table.splits["train"][0].shape[1]
        layers = [nn.Linear(inputs, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(WIDTH, self.table.classes or 1))
