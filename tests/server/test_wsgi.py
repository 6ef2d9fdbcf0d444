"""The server of local pages: it answers, refuses and ends as it should."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from relaxbench.errors import UserError
from relaxbench.server.wsgi import respond, serving

if TYPE_CHECKING:
    from wsgiref.types import StartResponse


def hello(environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
    return respond(start, HTTPStatus.OK, "grüß Gott".encode(), "text/html")


def ask(address: str, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a response; the path is sent exactly as given."""
    connection = http.client.HTTPConnection(str(urlsplit(address).netloc), timeout=30)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_a_page_is_served_and_marked_as_not_to_be_cached() -> None:
    with serving(hello) as address:
        assert address.startswith("http://127.0.0.1:")
        status, headers, body = ask(address)
    assert (status, body.decode()) == (200, "grüß Gott")
    assert headers["Content-Type"] == "text/html; charset=utf-8" and headers["Cache-Control"] == "no-store"
    with pytest.raises(ConnectionRefusedError):
        ask(address)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:9999", 200),  # a tunnel from another port
        ("127.0.0.1", 200),
        ("evil.example", 403),
        ("evil.example:80", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
    ],
)
def test_requests_for_other_hosts_are_refused(host: str, status: int) -> None:
    with serving(hello) as address:
        answer, _, body = ask(address, Host=host)
    assert answer == status and (b"Gott" in body) == (status == 200)


def test_a_server_on_another_address_answers_under_any_host_name() -> None:
    with serving(hello, "0.0.0.0") as address:
        assert ask(address.replace("0.0.0.0", "127.0.0.1"), Host="node-7.cluster")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed(method: str) -> None:
    with serving(hello) as address:
        status, headers, body = ask(address, method=method)
    assert status == 405 and headers["Allow"] == "GET" and b"only reads" in body


def test_a_port_in_use_is_reported_in_one_line() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(UserError, match=rf"on 127\.0\.0\.1:{port} \(.*in use.*\): choose another port") as refusal:
            serving(hello, port=port).__enter__()
    assert refusal.value.settings == ("port",)


def test_a_wrong_port_or_a_foreign_address_is_refused() -> None:
    with pytest.raises(UserError, match="port 70000: expected 1 to 65535") as refusal:
        serving(hello, port=70000).__enter__()
    assert refusal.value.settings == ("port",)
    with pytest.raises(UserError, match=r"cannot listen on 192\.0\.2\.1:0 .*: choose another host") as refusal:
        serving(hello, "192.0.2.1").__enter__()
    assert refusal.value.settings == ("host",)
