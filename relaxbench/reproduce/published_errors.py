"""The tables of the papers that report errors: what they state, and how their protocol differs from a study's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedError:
    """One cell of a published table.

    Attributes:
        error: in percent.
        spread: standard deviation over its runs, in percent; None if it is not stated.
        epochs: effective epochs, gradients included that the method's inner loop takes; None if not stated.
    """

    error: float
    spread: float | None = None
    epochs: int | None = None

    def __str__(self) -> str:
        text = f"{self.error:.2f}" if self.spread is None else f"{self.error:.2f} ± {self.spread:.2f}"
        return f"{text} %" if self.epochs is None else f"{text} % @ {self.epochs}"


@dataclass(frozen=True)
class PublishedTable:
    """A table of errors.

    Attributes:
        title: what it is, one line.
        source: where it stands.
        rows: problem → rule → cell; the names are those of `relaxbench list`.
        baseline: the rule with which the others are compared.
        differences: how the experiments differ from a study's protocol, one sentence each.
        study: the study file that runs the rows.
    """

    title: str
    source: str
    rows: dict[str, dict[str, PublishedError]]
    baseline: str
    differences: tuple[str, ...]
    study: str


def _cells(columns: tuple[str, ...], *cells: tuple[float, float | None, int | None]) -> dict[str, PublishedError]:
    return {rule: PublishedError(*cell) for rule, cell in zip(columns, cells, strict=True)}


_RELAXATION = ("sgd", "entropy-sgd", "hj-implicit", "hj", "heat")

DEEP_RELAXATION = PublishedTable(
    title="Test error, mean ± standard deviation @ effective epochs",
    source="Chaudhari et al., Deep Relaxation (arXiv 1704.04932), the authors' record of 2017-04-11",
    rows={
        "mnistfc": _cells(
            _RELAXATION, (1.10, 0.01, 194), (1.08, 0.02, 120), (1.17, 0.04, 200), (1.15, 0.03, 160), (1.15, 0.03, 70)
        ),
        "lenet": _cells(
            _RELAXATION, (0.50, 0.02, 67), (0.50, 0.01, 80), (0.50, 0.01, 70), (0.51, 0.02, 60), (0.59, 0.01, 100)
        ),
        "allcnn-bn-zca": _cells(
            _RELAXATION, (7.94, 0.06, 195), (7.96, 0.05, 200), (7.89, 0.07, 145), (7.82, 0.04, 200), (9.05, 0.04, 150)
        ),
    },
    baseline="sgd",
    differences=(
        "Published: the test set was the validation set, and each run's best epoch was quoted. "
        "A study selects by validation loss and reads the test set once, at the end.",
        "Published: every method ran for another number of epochs. A study gives every method the same gradients.",
        "Published: dropout differed between SGD and Entropy-SGD, and gradients that a method computed and did not "
        "use were not counted. A study trains one model and bills every gradient.",
        "Published: mean and standard deviation over the authors' runs. A study's figure is a geometric mean over "
        "fresh seeds, and its interval holds for all of its comparisons together.",
    ),
    study="studies/deep-relaxation.toml",
)

_MINIMAL = ("sgd", "curveball")

CURVEBALL = PublishedTable(
    title="Validation error, one figure per cell",
    source="Henriques et al., Small Steps and Giant Leaps (arXiv 1805.08095)",
    rows={
        "cifar-basic": _cells(_MINIMAL, (21.1, None, None), (19.9, None, None)),
        "cifar-basic-bn": _cells(_MINIMAL, (16.1, None, None), (16.3, None, None)),
        "resnet18-imagenet-stem": _cells(_MINIMAL, (12.8, None, None), (15.3, None, None)),
    },
    baseline="sgd",
    differences=(
        "The published figures are second-hand here: look them up before you quote them.",
        "Published: equal epochs, in which CurveBall computes Hessian products beside its gradients. "
        "A study gives equal gradients and bills every product.",
        "Published: no solver has weight decay, SGD included. A study tunes the weight decay of all.",
        "Published: the validation set is the one that settings were chosen on. A study's test set is read once.",
    ),
    study="studies/curveball.toml",
)

TABLES = {"deep-relaxation": DEEP_RELAXATION, "curveball": CURVEBALL}
"""The tables by the names of the command."""
