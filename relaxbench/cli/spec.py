"""The study that a command line describes: its file, with the options in place of the file's values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from relaxbench.errors import UserError

if TYPE_CHECKING:
    from relaxbench.problems import Problem
    from relaxbench.store.facts import LenderFacts
    from relaxbench.study.definition.search import Search
    from relaxbench.study.definition.spec import StudySpec


FLAGS = {
    **{"methods": "--method", "problems": "--problem", "more_blocks": "--more-blocks"},
    **{"exploit": "--no-exploit", "recommend": "--no-recommend", "flatness": "--no-flatness"},
}
"""Options whose names are not those of the keys that they replace."""


@dataclass(frozen=True)
class Overrides:
    """Options that replace values of the study file; None where an option is not given."""

    name: str | None
    looks: str | None
    more_blocks: int | None
    trials: int | None
    budget: int | None
    methods: list[str] | None
    problems: list[str] | None
    seed: int | None
    exploit: int | None = None
    recommend: int | None = None
    flatness: bool | None = None

    def without(self, exploit: bool, recommend: bool, flatness: bool) -> Overrides:
        """Return the same without these phases, and without the measurement of flatness."""
        return replace(
            self,
            exploit=0 if exploit else None,
            recommend=0 if recommend else None,
            flatness=False if flatness else None,
        )

    @property
    def names(self) -> dict[str, str]:
        """How error messages name the keys that are replaced: by their options."""
        given = [key for key, value in asdict(self).items() if value not in (None, [])]
        return {key: FLAGS.get(key, f"--{key}") for key in given}

    def check(self) -> None:
        """Raise a UserError that names the first option out of range."""
        numbers = (("more-blocks", self.more_blocks), ("trials", self.trials), ("budget", self.budget))
        for option, value in numbers:
            if value is not None and value < 1:
                raise UserError(f"--{option} {value}: expected at least 1")
        if self.seed is not None and not 0 <= self.seed < 2**63:
            raise UserError(f"--seed {self.seed}: expected 0 or more, and less than 2⁶³")


def parse_looks(text: str) -> list[int]:
    """Parse the numbers of blocks of ``--looks``.

    Raises:
        UserError: for anything but whole numbers with commas between them.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise UserError(f"--looks {text!r}: expected numbers of blocks that rise, such as 10,20,40")
    too_long = next((part for part in parts if len(part) > 18), None)
    if too_long:
        raise UserError(f"--looks {too_long}: expected at most 10,000,000 blocks")
    return [int(part) for part in parts]


QUICK = "-quick"
"""End of the name of a quick study, which keeps it apart from the study itself."""
QUICK_BLOCKS, QUICK_TRIALS = 2, 2
"""Of a quick study. So few blocks make no claim, whatever their results."""
QUICK_LABEL = (
    f"A quick try, {QUICK_BLOCKS} blocks of {QUICK_TRIALS} trials: it shows whether all works, and decides nothing."
)
"""Said in the terminal and at the top of the page."""
UNPRUNED = "Its trials are not pruned."
"""Said beside it of a study with a pruner."""


def quicken(spec: StudySpec, overrides: Overrides) -> StudySpec:
    """Return a study that takes seconds and shows that all works: it decides nothing, and has a name of its own.

    Raises:
        UserError: for options that contradict it, and for a name that becomes too long.
    """
    from relaxbench.study.coordination.pruners import NONE
    from relaxbench.study.definition.written import LONGEST_NAME

    numbers = {"looks": overrides.looks, "more-blocks": overrides.more_blocks, "trials": overrides.trials}
    given = [f"--{option}" for option, value in numbers.items() if value is not None]
    if given:
        raise UserError(
            f"--quick with {given[0]}: a quick study has {QUICK_BLOCKS} blocks of {QUICK_TRIALS} trials; leave one out"
        )
    name = spec.name.removesuffix(QUICK) + QUICK
    if len(name) > LONGEST_NAME:
        raise UserError(f"--quick: {name!r} has more than {LONGEST_NAME} characters: give a shorter --name")
    size = {"looks": [QUICK_BLOCKS], "more_blocks": 0, "trials": QUICK_TRIALS, "exploit": 0, "recommend": 0}
    own = {label: {"search": _quickened(each.search)} for label, each in spec.method.items()}
    methods = {label: each.model_copy(update=own[label]) for label, each in spec.method.items()}
    searches = [spec.search, *(each.search for each in spec.method.values())]
    pruned = any(search is not None and search.pruner != NONE for search in searches)
    label = f"{QUICK_LABEL} {UNPRUNED}" if pruned else QUICK_LABEL
    return spec.model_copy(
        update={
            **size,
            "name": name,
            "search": _quickened(spec.search),
            "method": methods,
            "description": f"{label} {spec.description}".strip(),
            "repetitions": 1,
            "flatness": False,
        }
    )


def _quickened(search: Search | None) -> Search | None:
    """Return how a quick study chooses its trials: one after another, and without a pruner, which needs more."""
    from relaxbench.store.facts import RANDOM
    from relaxbench.study.definition.search import Search

    if search is None:
        return None
    if search.sampler == RANDOM:
        return Search()
    return Search(sampler=search.sampler, options=search.options, generation=1)


def read_spec(file: str | None, overrides: Overrides) -> tuple[StudySpec, str]:
    """Read a study file, with the options of the command line in place of its own values.

    Returns:
        The study, and the text of its file.

    Raises:
        UserError: naming the option or the entry of the file that is wrong.
    """
    from relaxbench.study.definition.files import find, load

    if file == "":
        raise UserError("study file '' names no file: give a TOML file, or leave it out for the default study")
    overrides.check()
    changes = {key: getattr(overrides, key) for key in overrides.names}
    if overrides.looks is not None:
        changes["looks"] = parse_looks(overrides.looks)
    changes = {**of_own_problems(overrides.problems or [] if file is None else []), **changes}
    return load(find(file), changes, {key: f"--{key}" for key in changes} | overrides.names)


def of_own_problems(problems: Sequence[str]) -> dict[str, str]:
    """Return the name and the description of the default study on these problems; nothing without any."""
    if not problems:
        return {}
    return {"name": "-".join(Path(problem).stem for problem in problems), "description": ""}


def prepare_spec(
    spec: StudySpec, where: str, names: Mapping[str, str], download: bool = False, skip_unfit: bool = False
) -> tuple[StudySpec, list[Problem], list[str]]:
    """Load the problems of a study; errors about a value of its file name the file and the key.

    Args:
        spec: the study.
        where: its file.
        names: how messages name keys whose values have another origin, such as an option.
        download: whether missing data sets are downloaded.
        skip_unfit: whether methods that cannot train a problem are left out.

    Returns:
        The study, without unfit methods if those are skipped; its problems; a line for each method that is left out.

    Raises:
        UserError: as `study.definition.prepare.prepare`.
    """
    from relaxbench.study.definition.prepare import prepare, prepare_fit
    from relaxbench.study.definition.validation import placed

    try:
        if not skip_unfit:
            return spec, prepare(spec, download), []
        fit, problems, unfit = prepare_fit(spec, download)
        return fit, problems, list(unfit.values())
    except UserError as error:
        if not str(error).startswith(("budget = ", "budgets = ", "margin = ")):
            raise
        raise placed(error, where, names) from None


def lender_notes(lenders: Mapping[str, LenderFacts]) -> list[str]:
    """Return a warning for every study whose search was too small to lend its best settings."""
    if not lenders:
        return []
    from relaxbench.analysis.caveats import small_search

    return [line for origin, each in lenders.items() if (line := small_search(origin, each["search"]))]
