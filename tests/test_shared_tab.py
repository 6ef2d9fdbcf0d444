"""The tab that test files share: each finds it empty, and between them an event loop can run."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.shared_tab import SharedTab


async def answer() -> int:
    await asyncio.sleep(0)
    return 42


def test_a_file_finds_the_tab_empty_and_no_event_loop_running_after_another(
    shared_tab: SharedTab, tmp_path: Path
) -> None:
    file = tmp_path / "page.html"
    file.write_text('<html data-drawn="yes"><title>A page</title></html>')
    for _ in range(2):
        with shared_tab.lent() as visit:
            page = visit.open(file)
            assert page.title() == "A page"
        assert asyncio.run(answer()) == 42
        with shared_tab.lent():
            assert page.url == "about:blank"
