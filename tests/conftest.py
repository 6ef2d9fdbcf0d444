"""Shared by every test: one thread per process under pytest-xdist, and the same hypothesis examples on every run."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from relaxbench.util import remembered
from relaxbench.util.malloc import keep_freed_memory
from tests import browser, postgres, processes
from tests.mnist import REAL, small_mnist
from tests.shared_tab import SharedTab

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: the workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# torch.compile starts no pool of processes for the few kernels of a test, and does not compile programs to find out
# which vector instructions there are: what the processor reports is used.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")
# XLA optimizes nothing: its programs run for milliseconds here, and take seconds to optimize.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

# Images of the published sizes, a few of each class: real ones where they are at hand. Tests of commands and of other
# processes see them, too.
SMALL = small_mnist(Path(tempfile.mkdtemp(prefix="relaxbench-tests-")))
atexit.register(shutil.rmtree, SMALL.folder, ignore_errors=True)
os.environ.setdefault("RELAXBENCH_TESTS_DATA", str(REAL))
os.environ.pop("RELAXBENCH_STORAGE", None)
os.environ.update(RELAXBENCH_DATA=str(SMALL.folder / "data"), RELAXBENCH_CACHE=str(SMALL.folder / "cache"))
remembered.KEPT_DAYS = 0.0  # a test measures, or pretends to, whatever another one has measured


LONGEST = (
    "study/execution/test_ray_worker.py", "cli/test_supervise.py", "report/test_browser.py",
    "training/test_population.py", "testing/test_rules.py", "report/test_recompute.py",
    "testing/test_problems.py", "study/execution/test_extended.py", "cli/test_study.py", "test_examples.py",
    "cli/test_best.py", "reproduce/test_curveball_toys.py", "study/execution/test_continued.py",
    "bench/test_run.py", "study/execution/test_flatness.py", "report/test_states.py", "report/test_keyboard.py",
    "report/test_hostile.py", "problems/test_image_problems.py", "optim/rules/test_rules.py", "test_plugins.py",
    "bench/test_counts.py", "server/test_live.py", "report/test_compare_page.py", "optim/drop_in/test_ranks.py",
    "report/test_downloads.py", "optim/drop_in/test_base.py", "report/test_table_browser.py",
    "store/test_connections.py", "optim/test_forward_mode.py", "stress/test_faults.py",
    "theory/test_expectation.py", "theory/test_page.py", "training/test_compiled.py",
    "training/flatness/test_measure.py", "test_package.py", "study/execution/test_run.py",
    "report/test_study_page.py", "optim/rules/test_identities.py", "theory/test_two_scale.py",
    "testing/test_runner.py", "study/execution/test_out_of_memory.py", "cli/test_bad_inputs.py",
    "optim/rules/test_curveball.py", "optim/drop_in/test_flat.py", "analysis/test_frequent_failures.py",
    "store/test_claims.py", "store/test_transfer.py", "cli/test_plan.py", "study/definition/test_identity.py",
    "study/execution/test_scripts.py", "study/execution/test_steps.py", "cli/test_catalogue.py",
)  # fmt: skip
"""Files that take longer than the others, the longest first: pytest-xdist begins with them and ends with short ones."""


def pytest_configure(config: pytest.Config) -> None:
    """Prepare a process that runs tests, or the one that only hands them out to pytest-xdist's workers."""
    gc.disable()  # until all tests are collected: what is imported stays, and is not looked through again and again
    config.add_cleanup(_unfreeze)
    if not hasattr(config, "workerinput") and config.getoption("dist", "no") != "no":
        processes.share(str(SMALL.folder / "processes"))
    else:
        keep_freed_memory()  # as the commands do
        import pandas

        from tests import brief  # it imports PyTorch, which another process does not need

        brief.measure_briefly()
        brief.load_migrations_once()
        brief.make_tables_once()
        brief.compile_statements_once()
        # As for most people, who have no pyarrow. Processes that tests start use it; it takes an eighth longer here.
        pandas.set_option("mode.string_storage", "python")
        config.pluginmanager.import_plugin("tests.known_studies")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        order = {Path(__file__).parent / file: place for place, file in enumerate(LONGEST)}
        items.sort(key=lambda item: order.get(item.path, len(order)))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Do not look for garbage among modules and collected tests, not even once: a tenth of the suite's time."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Do not look for garbage a second time: pytest has just done so."""
    gc.freeze()


def _unfreeze() -> None:
    if "triton" in sys.modules:  # it would call objects that nobody has collected leaked
        gc.unfreeze()


def pytest_report_header() -> str:
    return f"MNIST in these tests: {SMALL.what}"


settings.register_profile("relaxbench", deadline=None, derandomize=True)
settings.load_profile("relaxbench")


@pytest.fixture
def at_length() -> Iterator[None]:
    """Times are measured for as long as by a study that a person runs."""
    from tests.brief import measure_briefly

    measure_briefly(False)
    yield
    measure_briefly()


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Server]:
    """A PostgreSQL server; take a database of your own with its `new_url`."""
    postgres.require()
    server = postgres.Server()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def shared_tab() -> Iterator[SharedTab]:
    """One browser and one tab of it per process: the first page in a new one takes longer than the next."""
    shared = SharedTab()
    try:
        yield shared
    finally:
        shared.close()


@pytest.fixture(scope="module")
def tab(shared_tab: SharedTab) -> Iterator[browser.Visit]:
    """The tab in which the pages of a test file are opened: empty at first, and at the end."""
    with shared_tab.lent() as visit:
        yield visit


@pytest.fixture
def visit(tab: browser.Visit) -> Iterator[browser.Visit]:
    """Opens pages in the browser; an error in a page fails the test."""
    yield tab
    tab.check()
