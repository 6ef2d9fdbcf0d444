"""A small web server for local pages: it only gives, and, on the loopback address, only to browsers of this machine."""

from __future__ import annotations

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
"""Names under which a page on the loopback address is asked for."""

Environ = dict[str, Any]


@contextmanager
def serving(app: WSGIApplication, host: str = LOOPBACK[0], port: int = 0) -> Iterator[str]:
    """Serve an application from threads for as long as the context lasts; gives its address.

    Args:
        app: any WSGI application.
        host: the address to listen on. On the loopback address, requests for other hosts are refused.
        port: 0 takes one that is free.

    Raises:
        UserError: if the port is taken, or the address is not one of this machine.
    """
    if not 0 <= port < 65536:
        raise UserError(f"--port {port}: expected 1 to 65535, or 0 for one that is free")
    guarded = only_reading(only_for(LOOPBACK, app) if host in LOOPBACK else app)
    try:
        server = make_server(host, port, guarded, server_class=_Server, handler_class=_Quiet)
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise UserError(f"cannot listen on {host}:{port} ({said}): choose another --port, or leave it out") from None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def only_for(names: Iterable[str], app: WSGIApplication) -> WSGIApplication:
    """An application for requests that name one of these hosts, whatever the port (a tunnel may have another one).

    A page of somebody else can make its own name point at this machine (DNS rebinding), but not name it as it is.
    """
    known = set(names)

    def guarded(environ: Environ, start: StartResponse) -> Iterable[bytes]:
        if str(environ.get("HTTP_HOST", "")).partition(":")[0] in known:
            return app(environ, start)
        return respond(start, HTTPStatus.FORBIDDEN, b"this page is for browsers of this machine")

    return guarded


def only_reading(app: WSGIApplication) -> WSGIApplication:
    """An application that is asked for nothing but pages: requests that would change something are refused."""

    def guarded(environ: Environ, start: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "GET":
            return app(environ, start)
        said = b'{"reason": "this server only reads"}'
        return respond(start, HTTPStatus.METHOD_NOT_ALLOWED, said, "application/json", ("Allow", "GET"))

    return guarded


def respond(
    start: StartResponse, status: HTTPStatus, body: bytes, kind: str = "text/plain", *more: tuple[str, str]
) -> list[bytes]:
    """A whole response, to be kept by nobody.

    Args:
        start: what WSGI gives an application.
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
        """Requests are nobody's business."""
