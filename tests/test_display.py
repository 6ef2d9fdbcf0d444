"""What is seen of a running study: lines where there is no terminal, a table where there is one, and Ctrl-C."""

from __future__ import annotations

import io
import os
import signal

import pytest
from rich.console import Console

from relaxbench import display
from relaxbench.display import Display, interruptible
from relaxbench.study.run import Progress
from tests.study import tiny


class Clock:
    """Seconds that pass when we say so."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(display, "time", clock)
    return clock


def shown(terminal: bool, quiet: bool = False) -> tuple[Display, io.StringIO]:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100, highlight=False)
    return Display(console, tiny.spec(), quiet), file


def states(done: int, phase: str = "explore") -> list[Progress]:
    return [
        Progress("rosenbrock", "sgd", done, 1000, 0.25, phase),
        Progress("rosenbrock", "heat", 0, 1000),
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
        "   30 s  300 of 2,000 trials; about 3 min left",
        "   60 s  600 of 2,000 trials; about 2 min left",
        "   60 s  rosenbrock sgd: confirm, 700 of 1,000 done, best validation loss 0.25",
    ]


def test_in_a_terminal_a_table_compares_with_the_baseline(clock: Clock) -> None:
    view, file = shown(terminal=True)
    with view:
        both = [Progress("rosenbrock", "sgd", 5, 10, 0.25), Progress("rosenbrock", "heat", 3, 10, 0.5, "explore")]
        view.update(both)
    text = file.getvalue()
    for part in ("5/10", "0.25", "3/10", "0.5", "+0.25", "explore", "8 of 20 trials"):
        assert part in text


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
