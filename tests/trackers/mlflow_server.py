"""As much of an MLflow server as relaxbench talks to, in this process; it can die, and come back with what it had."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

API = "/api/2.0/mlflow/"


class Server(ThreadingHTTPServer):
    """Experiments and runs, as REST requests left them.

    Attributes:
        runs: by id, as MLflow's client reads them.
        answers: requests that are still answered; None for all. After them connections are closed without a word.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.experiments: list[str] = []
        self.runs: dict[str, dict[str, Any]] = {}
        self.answers: int | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, what: str, given: dict[str, Any]) -> dict[str, Any] | None:
        """Return the answer to a request; None where there is no such thing."""
        run = self.runs.get(given.get("run_id", ""), {})
        match what:
            case "experiments/get-by-name":
                name = given["experiment_name"]
                known = name in self.experiments
                return {"experiment": {"experiment_id": str(self.experiments.index(name))}} if known else None
            case "experiments/create":
                self.experiments.append(given["name"])
                return {"experiment_id": str(len(self.experiments) - 1)}
            case "runs/create":
                info = {"run_id": f"run{len(self.runs)}", "run_name": given["run_name"], "status": "RUNNING"}
                run = {"info": info, "data": {"tags": given["tags"], "params": [], "metrics": []}}
                self.runs[info["run_id"]] = run
                return {"run": run}
            case "runs/search":
                return {"runs": [run for run in self.runs.values() if run["info"]["status"] != "DELETED"]}
            case "runs/log-batch":
                for key in ("params", "metrics"):
                    run["data"][key] += given.get(key, [])
            case "runs/update":
                run["info"]["status"] = given["status"]
                return {"run_info": run["info"]}
            case "runs/delete":
                run["info"]["status"] = "DELETED"
            case "runs/get":
                return {"run": run}
        return {}


class Handler(BaseHTTPRequestHandler):
    """One request: of JSON, answered in JSON."""

    server: Server

    def do_GET(self) -> None:
        self._answer({key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()})

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def log_message(self, *arguments: Any) -> None:
        """Print nothing."""

    def _answer(self, given: dict[str, Any]) -> None:
        if self.server.answers is not None:
            self.server.answers -= 1
            if self.server.answers < 0:
                self.close_connection = True
                return
        answer = self.server.answer(urlsplit(self.path).path.removeprefix(API), given)
        body = json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST"} if answer is None else answer).encode()
        self.send_response(404 if answer is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving() -> Iterator[Server]:
    """A server that listens until the end of the context."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
