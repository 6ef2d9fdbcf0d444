"""A small read-only web server for local pages; on the loopback address it serves browsers of this machine only."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from relaxbench.errors import UserError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication

LOOPBACK = ("127.0.0.1", "localhost")
"""Host names of the loopback address."""

Environ = dict[str, Any]


@contextmanager
def serving(app: WSGIApplication, host: str = LOOPBACK[0], port: int = 0) -> Iterator[str]:
    """Serve an application from threads while the context lasts; yield its URL.

    Args:
        app: any WSGI application.
        host: the address to listen on. On the loopback address, requests for other hosts are refused.
        port: the port to listen on; 0 chooses a free one.

    Raises:
        UserError: if the port is in use, or the address is not of this machine.
    """
    if not 0 <= port < 65536:
        raise UserError(f"port {port}: expected 1 to 65535, or 0 for a free one", "port")
    guarded = only_reading(only_for(LOOPBACK, app) if host in LOOPBACK else app)
    try:
        server = make_server(host, port, guarded, server_class=_Server, handler_class=_Quiet)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        setting = "port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "host"
        raise UserError(f"cannot listen on {host}:{port} ({reason}): choose another {setting}", setting) from None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def only_for(names: Iterable[str], app: WSGIApplication) -> WSGIApplication:
    """Wrap an application: refuse requests for other hosts. Ports are ignored, because a tunnel may change them.

    This stops DNS rebinding: a foreign page can make its own host name resolve to this machine, but its requests then
    carry that name.

    Args:
        names: the host names that are served.
        app: the application.
    """
    known = set(names)

    def guarded(environ: Environ, start: StartResponse) -> Iterable[bytes]:
        if str(environ.get("HTTP_HOST", "")).partition(":")[0] in known:
            return app(environ, start)
        return respond(start, HTTPStatus.FORBIDDEN, b"this page is for browsers of this machine")

    return guarded


def only_reading(app: WSGIApplication) -> WSGIApplication:
    """Wrap an application: refuse every request but GET."""

    def guarded(environ: Environ, start: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "GET":
            return app(environ, start)
        body = b'{"reason": "this server only reads"}'
        return respond(start, HTTPStatus.METHOD_NOT_ALLOWED, body, "application/json", ("Allow", "GET"))

    return guarded


def respond(
    start: StartResponse, status: HTTPStatus, body: bytes, kind: str = "text/plain", *more: tuple[str, str]
) -> list[bytes]:
    """Send a whole response, marked as not to be cached.

    Args:
        start: WSGI's `start_response`.
        status: of the response.
        body: of the response.
        kind: its media type; text is UTF-8.
        more: further headers.
    """
    headers = [
        ("Content-Type", kind if "/json" in kind else f"{kind}; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    start(f"{status.value} {status.phrase}", [*headers, *more])
    return [body]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Do not log requests."""
