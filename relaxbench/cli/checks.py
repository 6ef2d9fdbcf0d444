"""Checks of options before anything runs, each with an error that names the option."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from relaxbench.cli.options import MOST_RETRIES
from relaxbench.errors import UserError

MOST_TRIALS = 100_000
"""That train in parallel; so many runs of two parameters fit into memory."""


def check_counts(population: int | None, retries: int) -> None:
    """Refuse counts out of range.

    Raises:
        UserError: naming the option.
    """
    if population is not None and not 1 <= population <= MOST_TRIALS:
        raise UserError(f"--population {population}: expected 1 to {MOST_TRIALS:,} trials at a time")
    if not 0 <= retries <= MOST_RETRIES:
        raise UserError(f"--retries {retries}: expected 0 to {MOST_RETRIES}")


def check_address(option: str, address: str, expected: str = "HOST:PORT") -> None:
    """Refuse an address that is not HOST:PORT.

    Raises:
        UserError: naming the option.
    """
    found = re.fullmatch(r"[^\s/\ud800-\udfff]+:([0-9]{1,5})", address)
    if not found or not 0 < int(found[1]) < 65536:
        raise UserError(f"{option} {address!r}: expected {expected}")


def check_port(port: int) -> None:
    """Refuse a number that is no port; 0 means a free one.

    Raises:
        UserError: naming the option.
    """
    if not 0 <= port < 65536:
        raise UserError(f"port {port}: expected 1 to 65535, or 0 for a free one", "port")


def check_seed(seed: int) -> None:
    """Refuse a seed out of range.

    Raises:
        UserError: naming the option.
    """
    if not 0 <= seed < 2**63:
        raise UserError(f"--seed {seed}: expected 0 or more, and less than 2⁶³")


def check_optuna(address: str | None) -> None:
    """Refuse a value that cannot be the address of Optuna's proxy.

    Raises:
        UserError: naming the option.
    """
    if address is not None:
        check_address("--optuna", address)


def use_data(folder: Path | None, download: bool = False) -> None:
    """Read data from this folder, in this process and in those that it starts.

    Args:
        folder: value of ``--data-dir``; None keeps the folder of the environment.
        download: whether files will be downloaded to it, so that it may be missing.

    Raises:
        UserError: if it is missing, cannot be created, or is not writable.
    """
    if folder is None:
        return
    if download:
        check_folder("--data-dir", folder)
    elif not folder.is_dir():
        raise UserError(f"--data-dir {str(folder)!r} is not a folder: name the one that holds the data sets")
    os.environ["RELAXBENCH_DATA"] = str(folder.absolute())


def check_storage(storage: str) -> None:
    """Refuse a storage that is no database; one that does not exist yet is fine.

    Raises:
        UserError: naming what is wrong.
    """
    from relaxbench.store.database import open_database, parse_url

    url = parse_url(storage)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        return
    open_database(storage, create=False, read_only=True).dispose()


def check_folder(option: str, folder: Path) -> None:
    """Refuse, before anything runs, a folder that cannot be created or written at the end."""
    _check_place(f"{option} {str(folder)!r}", folder)


def check_file(option: str, file: Path) -> None:
    """Refuse, before anything runs, a file that cannot be written at the end."""
    if file.is_dir():
        raise UserError(f"{option} {str(file)!r} is a folder: name a file in it")
    if file.is_symlink() and not file.exists():
        raise UserError(f"{option} {str(file)!r} is a link that leads to no file: name another file")
    if file.exists() and not file.is_file():
        raise UserError(f"{option} {str(file)!r} is not a regular file: name another one")
    if not file.parent.is_dir():
        raise UserError(f"{option} {str(file)!r}: the folder {str(file.parent)!r} does not exist: create it first")
    _check_place(f"{option} {str(file)!r}", file.parent)


def _check_place(given: str, folder: Path) -> None:
    if folder.is_symlink() and not folder.exists():
        raise UserError(f"{given} is a link that leads to no folder: name another one")
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise UserError(f"{given}: {str(nearest)!r} is not a folder: name another one")
    try:  # permission bits alone do not tell
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError:
        raise UserError(f"{given}: {str(nearest)!r} is not writable: name another folder") from None
