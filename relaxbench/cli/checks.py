"""Checks of options before anything runs, each with an error that names the option."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from relaxbench.cli.options import MOST_RETRIES
from relaxbench.errors import UserError


def check_counts(population: int | None, retries: int) -> None:
    """Refuse numbers that mean nothing.

    Raises:
        UserError: naming the option.
    """
    if population is not None and population < 1:
        raise UserError(f"--population {population}: expected at least 1")
    if not 0 <= retries <= MOST_RETRIES:
        raise UserError(f"--retries {retries}: expected 0 to {MOST_RETRIES}")


def check_address(option: str, address: str, expected: str = "HOST:PORT") -> None:
    """Refuse what names no port of a host.

    Raises:
        UserError: naming the option.
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not (port.isdecimal() and 0 < int(port) < 65536):
        raise UserError(f"{option} {address!r}: expected {expected}")


def check_optuna(address: str | None) -> None:
    """Refuse what cannot be the address of Optuna's proxy.

    Raises:
        UserError: naming the option.
    """
    if address is not None:
        check_address("--optuna", address)


def use_data(folder: Path | None, download: bool = False) -> None:
    """Take data from this folder, in this process and those that it starts.

    Args:
        folder: as given, or None for the one of the environment.
        download: whether files will be put there, so that it need not exist yet.

    Raises:
        UserError: if it is not there, or could not be made or written into.
    """
    if folder is None:
        return
    if download:
        check_folder("--data-dir", folder)
    elif not folder.is_dir():
        raise UserError(f"--data-dir {str(folder)!r} is not a folder: name the one that holds the data sets")
    os.environ["RELAXBENCH_DATA"] = str(folder.absolute())


def check_folder(option: str, folder: Path) -> None:
    """Refuse, before anything is run, a folder that could not be made or written into at the end."""
    _check_place(f"{option} {str(folder)!r}", folder)


def check_file(option: str, file: Path) -> None:
    """Refuse, before anything is run, a file that could not be written at the end; its folder may be made then."""
    if file.is_dir():
        raise UserError(f"{option} {str(file)!r} is a folder: name a file in it")
    _check_place(f"{option} {str(file)!r}", file.parent)


def _check_place(given: str, folder: Path) -> None:
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise UserError(f"{given}: {str(nearest)!r} is not a folder: name another one")
    try:  # permissions do not say everything
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError:
        raise UserError(f"{given}: {str(nearest)!r} is not writable: name another folder") from None
