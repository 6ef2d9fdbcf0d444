"""What is seen of a running study: lines where there is no terminal, a table where there is one, and Ctrl-C."""

from __future__ import annotations

import io
import os
import platform
import signal
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from relaxbench.cli import progress
from relaxbench.cli.progress import Display, interruptible, workers_table
from relaxbench.store.claims import worker_name
from relaxbench.study.coordination.progress import Progress, look_words
from tests.study import tiny

LOOK = "look 1 of 3: 10 blocks; nothing is decided before it is complete"


class Clock:
    """Seconds that pass when we say so."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def shown(terminal: bool, quiet: bool = False) -> tuple[Display, io.StringIO]:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100, highlight=False)
    return Display(console, tiny.spec(), quiet), file


def states(done: int, phase: str = "explore") -> list[Progress]:
    return [
        Progress("rosenbrock", "sgd", done, 1000, best=0.25, running={phase: 3}, looks=3, blocks=10),
        Progress("rosenbrock", "heat", 0, 1000, looks=3, blocks=10),
    ]


def test_without_a_terminal_a_phase_is_a_line_and_silence_ends_after_a_while(clock: Clock) -> None:
    view, file = shown(terminal=False)
    with view:
        for seconds in range(61):
            clock.now = 100.0 + seconds
            view.update(states(10 * seconds))
        view.update(states(700, "confirm"))
    assert file.getvalue().splitlines() == [
        "    0 s  rosenbrock sgd: explore, 0 of 1,000 done, best validation loss 0.25",
        "   30 s  300 of 2,000 trials; about 3 min left; look 1 of 3: 10 blocks; nothing",
        "         is decided before it is complete",
        "   60 s  600 of 2,000 trials; about 2 min left; look 1 of 3: 10 blocks; nothing",
        "         is decided before it is complete",
        "   60 s  rosenbrock sgd: confirm, 700 of 1,000 done, best validation loss 0.25",
    ]


def test_in_a_terminal_a_table_compares_with_the_baseline(clock: Clock) -> None:
    view, file = shown(terminal=True)
    with view:
        heat = Progress("rosenbrock", "heat", 3, 10, best=0.5, running={"explore": 2, "confirm": 1}, looks=3, blocks=10)
        view.update([Progress("rosenbrock", "sgd", 5, 10, best=0.25, look=2, looks=3, blocks=20), heat])
    text = file.getvalue()
    for part in ("5/10", "0.25", "3/10", "0.5", "+0.25", "explore, confirm", "8 of 20 trials", "2/3", "1/3", LOOK[1:]):
        assert part in text


def test_a_method_that_goes_on_is_a_line_of_its_own(clock: Clock) -> None:
    view, file = shown(terminal=False)
    with view:
        for look, blocks in ((1, 10), (2, 20), (2, 20), (4, 45)):
            view.update([Progress("rosenbrock", "sgd", 5, 10, look=look, looks=3, blocks=blocks)])
    assert file.getvalue().splitlines() == [
        "    0 s  rosenbrock sgd goes on, look 2 of 3: 20 blocks",
        "    0 s  rosenbrock sgd goes on, beyond the last look: 45 blocks",
    ]


def test_a_session_does_not_tell_again_how_far_an_earlier_one_went(clock: Clock) -> None:
    view, file = shown(terminal=False)
    with view:
        for done in (150, 154, 155):  # complete beyond the last look in the end; nothing runs
            view.update([Progress("rosenbrock", "sgd", done, 155, look=4, looks=3, blocks=45)])
        clock.now += 60
        view.update([Progress("rosenbrock", "sgd", 155, 155, look=4, looks=3, blocks=45)])
    assert file.getvalue() == ""


def test_phases_that_begin_at_once_are_one_line(clock: Clock) -> None:
    view, file = shown(terminal=False)
    with view:
        for _ in range(2):
            view.update([Progress("p", "sgd", 6, 22, running={"confirm": 2, "recommend": 1})])
    assert file.getvalue().splitlines() == ["    0 s  p sgd: confirm and recommend, 6 of 22 done"]


def test_the_earliest_look_is_named_until_all_is_done() -> None:
    early = Progress("p", "a", 3, 10, look=1, looks=3, blocks=10)
    late = Progress("p", "b", 3, 10, look=2, looks=3, blocks=20)
    beyond = Progress("p", "b", 3, 10, look=4, looks=3, blocks=45)
    done = Progress("p", "c", 10, 10, look=1, looks=3, blocks=10)
    assert look_words([done, late, early]) == LOOK
    assert look_words([done, late]).startswith("look 2 of 3: 20 blocks")
    assert look_words([done, beyond]) == "beyond the last look: 45 blocks; the guarantee of the verdicts is gone"
    assert look_words([done]) == ""


def member(name: str, silent: float = 3.0, ended_at: float | None = None, **changes: Any) -> SimpleNamespace:
    """A worker's row as `workers` gives it."""
    usual = {"device": "cuda:11", "doing": "wide-resnet entropy-sgd", "running": 64, "finished": 12345}
    return SimpleNamespace(name=name, silent=silent, ended_at=ended_at, **{**usual, **changes})


def table_lines(present: list[Any], width: int = 80, **options: int) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=width, highlight=False)
    for part in workers_table(present, **options):
        console.print(part)
    return [line.rstrip() for line in file.getvalue().splitlines() if line.strip()]


def test_workers_are_a_table_that_fits_into_a_terminal_of_80_columns(clock: Clock) -> None:
    """Who works, at what, and who is gone: its process, or, of another machine, not heard of for a lease."""
    dead = f"{platform.node()}:{2**22 + 1}:1000"
    present = [member(worker_name()), member("far-away:12:1000"), member("silent:13:1000", 7300.0), member(dead, 9.0)]
    lines = table_lines(present)
    assert [line.split()[0] for line in lines] == ["worker", *(each.name.rpartition(":")[0] for each in present)]
    assert [line.split()[-3:] for line in lines[1:3]] == [["3", "s", "ago"]] * 2
    assert lines[3].endswith("gone, 2.0 h ago") and lines[4].endswith("gone, 9 s ago")
    assert all("64" in line and "12,345" in line for line in lines[1:])
    assert table_lines([]) == []
    view, file = shown(terminal=True)
    with view:
        view.update(states(3), present)
    assert "far-away:12" in file.getvalue()


def test_of_many_workers_some_are_shown(clock: Clock) -> None:
    present = [member(f"node:{i}:1000") for i in range(20)]
    lines = table_lines(present)
    assert len(lines) == 1 + 16 + 1 and lines[-1] == "and 4 more workers"
    assert table_lines(present[:17])[-1] == "and 1 more worker" and len(table_lines(present, shown=20)) == 21


def many(problems: int, methods: int, running: int = 0) -> list[Progress]:
    """Methods on problems; the last problem runs its last methods."""
    last = (f"p{problems - 1}", [f"m{m}" for m in range(methods - running, methods)])
    return [
        Progress(f"p{p}", f"m{m}", 1, 10, running={"explore": 1} if (f"p{p}", f"m{m}") in at_work(last) else {})
        for p in range(problems)
        for m in range(methods)
    ]


def at_work(last: tuple[str, list[str]]) -> set[tuple[str, str]]:
    return {(last[0], method) for method in last[1]}


def lines_of(progress: list[Progress], workers: int = 0, height: int = 24) -> list[str]:
    """What a terminal of 80 columns shows."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80, height=height, highlight=False)
    view = Display(console, tiny.spec())
    options = console.options.update(height=None)
    shown = view._view(progress, [member(f"node:{i}:1000") for i in range(workers)])
    return ["".join(part.text for part in line).rstrip() for line in console.render_lines(shown, options, pad=False)]


@pytest.mark.parametrize(("problems", "methods"), [(1, 7), (3, 7), (3, 2), (1, 40), (40, 1), (40, 7), (12, 30)])
@pytest.mark.parametrize("workers", [0, 2, 64])
@pytest.mark.parametrize("height", [24, 50])
def test_the_time_left_is_never_cut_off(problems: int, methods: int, workers: int, height: int, clock: Clock) -> None:
    lines = lines_of(many(problems, methods, running=1), workers, height)
    assert len(lines) < height
    count = problems * methods
    assert sum(line.startswith(f"{count} of {10 * count:,} trials · estimating") for line in lines) == 1
    at_work = {line.split()[0] for line in lines if line.endswith("explore")}
    assert at_work & {f"m{methods - 1}", f"p{problems - 1}"}


def test_what_does_not_fit_is_summed_up(clock: Clock) -> None:
    lines = lines_of(many(3, 7, running=2))
    heads = [line for line in lines if line.startswith("p")]
    assert [(line.split()[0], line.split()[2]) for line in heads] == [(f"p{p}", "7/70") for p in range(3)]
    shown = [line.split()[0] for line in lines[lines.index(heads[2]) + 1 :] if line.startswith("  ")]
    assert {"m5", "m6"} <= set(shown) and len(lines) == 23
    # Of 24 lines one stays free, two are below, two name the columns, and one says what is left out.
    assert [line for line in lines_of(many(1, 40)) if line == "and 22 more methods"]
    assert [line for line in lines_of(many(40, 1, running=1)) if line == "and 22 more problems"]
    everything = lines_of(many(3, 7), height=60)
    assert len([line for line in everything if line.startswith("  m")]) == 21


def test_no_number_is_cut_where_names_are_long(clock: Clock) -> None:
    """The bar gives way to the names, and what does not fit of these is cut, with what a method is at."""
    running = {"explore": 1, "spot-check": 1, "exploit": 1}
    for name in ("sgd", "entropy-sgd-no-scoping", "entropy-sgd-without-something-long"):
        own = Progress("p", name, 1000, 2000, best=123456.0, running=running)
        lines = lines_of([Progress("p", "tiny", 1000, 2000, best=0.0997123), own])
        assert max(map(len, lines)) <= 80
        row = next(line for line in lines if line.endswith("…"))
        assert row.split()[0].rstrip("…") == name[: len(row.split()[0].rstrip("…"))] and len(row.split()[0]) > 2
        assert "1000/2000" in row and "1.235e+05" in row and "explore, spot-check" in row
        assert ("━" in row) == (name == "sgd")
        assert "against" in lines[0] and "baseline" in lines[1]


def test_compiling_is_said_in_place_of_the_time_left(clock: Clock) -> None:
    view, file = shown(terminal=True)
    with view:
        view.update([Progress("p", "sgd", 0, 10, running={"compile": 1})])
        assert "0 of 10 trials · compiling sgd on p" in file.getvalue()
        clock.now += 1
        view.update([Progress("p", "sgd", 0, 10)], [member("node:1:1000", doing="compiling muon on p")])
        assert "0 of 10 trials · compiling muon on p" in file.getvalue()
        clock.now += 1
        view.update([Progress("p", "sgd", 0, 10)], [member("node:1:1000", doing="measuring the machine")])
        assert "0 of 10 trials · measuring the machine" in file.getvalue()


def test_quiet_shows_nothing(clock: Clock) -> None:
    view, file = shown(terminal=True, quiet=True)
    with view:
        view.say("a line")
        view.update(states(1))
    assert file.getvalue() == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_to_stop_and_the_second_one_ends_at_once(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with interruptible() as stopping:
        assert not stopping()
        os.kill(os.getpid(), number)
        assert stopping()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_in_another_thread_no_signal_is_touched() -> None:
    """Python lets the main thread alone do so: a notebook or a server may call a command in another one."""

    def entered() -> tuple[bool, object]:
        with interruptible() as stopping:
            return stopping(), signal.getsignal(signal.SIGINT)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(entered).result() == (False, signal.getsignal(signal.SIGINT))
