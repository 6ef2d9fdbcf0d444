"""The tab of a browser that all test files of a process share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.browser import Visit, artefacts, chromium


class SharedTab:
    """A browser and a tab that several test files use one after another.

    Between two files no event loop runs in this thread: `asyncio.run` would refuse.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        try:
            self._visit = self._stack.enter_context(Visit(self._stack.enter_context(chromium()), artefacts()))
        finally:
            self._loop = asyncio._get_running_loop()
            asyncio._set_running_loop(None)

    @contextmanager
    def lent(self) -> Iterator[Visit]:
        """The tab for one test file, which leaves it empty."""
        asyncio._set_running_loop(self._loop)
        try:
            yield self._visit
            self._visit.leave()
        finally:
            asyncio._set_running_loop(None)

    def close(self) -> None:
        """End the browser."""
        asyncio._set_running_loop(self._loop)
        self._stack.close()
