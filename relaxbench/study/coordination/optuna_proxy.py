"""Reach Optuna's tables through its gRPC storage proxy, so that workers need no database connection for them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from optuna.exceptions import ExperimentalWarning
from optuna.storages import GrpcStorageProxy
from sqlalchemy.exc import OperationalError

from relaxbench.errors import UserError

READY_SECONDS = 10.0
"""How long to wait for a proxy's first answer."""


def reach(address: str) -> None:
    """Check that a proxy answers.

    Args:
        address: ``HOST:PORT``.

    Raises:
        UserError: if it does not, or gRPC is not installed.
    """
    storage = proxy(address)
    try:
        storage.wait_server_ready(READY_SECONDS)
    except ConnectionError:
        raise UserError(
            f"no gRPC storage proxy of Optuna answers at {address} within {READY_SECONDS:.0f} s: start it "
            "(docs/clusters.md), or leave it out",
            "optuna",
        ) from None
    finally:
        storage.close()


def proxy(address: str) -> GrpcStorageProxy:
    """A storage behind a proxy.

    Raises:
        UserError: if gRPC is not installed.
    """
    host, _, port = address.rpartition(":")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return GrpcStorageProxy(host=host, port=int(port))
    except ImportError:
        raise UserError(
            "Optuna's storage proxy needs gRPC, which is not installed: pip install 'relaxbench[grpc]'", "optuna"
        ) from None


@contextmanager
def open_proxy(address: str) -> Iterator[GrpcStorageProxy]:
    """A storage behind a proxy, closed afterwards.

    Raises:
        OperationalError: if the proxy is away; callers then wait for it as for a database.
    """
    import grpc

    storage = proxy(address)
    try:
        yield storage
    except grpc.RpcError as error:
        away = ConnectionError(f"Optuna's gRPC storage proxy at {address} cannot be reached")
        raise OperationalError(None, None, away) from error
    finally:
        storage.close()
