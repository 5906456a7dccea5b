"""The stand-in itself: GraphQL, file stream, uploads and downloads over HTTP."""

import gzip
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote

from tests.wandb_server.artifacts import Artifact, Artifacts
from tests.wandb_server.names import REFUSED, VIEWER
from tests.wandb_server.runs import Run, Runs
from tests.wandb_server.sweeps import Sweep, Sweeps


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # the client uploads the images of a table all at once


class WandbServer:
    """Keeps what the client sends.

    Attributes:
        url: where the client finds it.
        artifacts: the artifacts.
        streaming: set once a run has begun to send its logs.
        away: while set, every request is answered with status 503, as by a service that has a bad hour.
    """

    def __init__(self) -> None:
        self.streaming, self.away = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._runs, self._sweeps, self.artifacts = Runs(), Sweeps(), Artifacts(self.url)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()  # dies within that time

    @property
    def runs(self) -> dict[str, Run]:
        """By id."""
        return self._runs.by_id

    @property
    def sweeps(self) -> dict[str, Sweep]:
        """By id."""
        return self._sweeps.by_id

    @property
    def config(self) -> dict[str, Any]:
        """Of the only run."""
        return self._only.config

    @property
    def files(self) -> dict[str, bytes]:
        """Of the only run."""
        return self._only.files

    @property
    def history(self) -> list[dict[str, Any]]:
        """Of the only run."""
        return self._only.history

    @property
    def _only(self) -> Run:
        assert len(self.runs) < 2, f"there are several: {list(self.runs)}"
        return next(iter(self.runs.values()), Run())

    def stop(self, run_id: str) -> None:
        """What the button on the dashboard does."""
        self._sweeps.stopped.add(run_id)

    def die(self) -> None:
        """Stops answering for good."""
        self._server.shutdown()
        self._server.server_close()

    def _query(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Returns the answer to a query or mutation; one with the key "errors" refuses it."""
        given = str(variables.get("project") or "")
        if name == "UpsertBucket" and any(character in REFUSED for character in given):
            return {"errors": [{"message": f"invalid project name: {given}", "path": ["upsertBucket"]}]}
        if name == "UseArtifact":
            use = variables.get("input") or variables
            self.runs[use["runName"]].used.append(use["artifactID"])
        for part in (self._runs, self._sweeps, self.artifacts):
            if (answer := part.answer(name, variables)) is not None:
                return answer
        if name == "Viewer":
            return {"viewer": VIEWER}
        if name == "GetDefaultEntity":
            return {"viewer": {"id": "1", "entity": "us"}}
        if name == "ServerFeaturesQuery":
            return {"serverInfo": {"features": []}}
        if name == "CreateRunFiles":
            urls = [
                {"name": file, "uploadUrl": f"{self.url}/upload/{variables['run']}/{quote(file)}"}
                for file in variables["files"]
            ]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": urls}}
        return {}

    def _file_stream(self, run_id: str, content: dict[str, Any]) -> dict[str, Any]:
        self.streaming.set()
        self._runs.stream(run_id, content)
        return {"stopped": True} if run_id in self._sweeps.stopped else {}

    def _take(self, path: str, content: bytes) -> None:
        """Keeps an upload."""
        _, kind, owner, *file = unquote(path).split("/", 3)
        if kind == "upload":
            self.runs[owner].files[file[0]] = content
        elif kind == "artifact":
            self.artifacts.by_id[owner].files[file[0]] = content
        elif kind == "artifact-manifest":
            self.artifacts.by_id[owner].manifest = content

    def _give(self, path: str) -> bytes | None:
        """Returns what was uploaded under a path; None if nothing was."""
        _, kind, owner, *file = unquote(path).split("/", 3)
        artifact: Artifact | None = self.artifacts.by_id.get(owner)
        if artifact is None or kind not in ("artifact", "artifact-manifest"):
            return None
        return artifact.manifest if kind == "artifact-manifest" else artifact.files.get(file[0])

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"  # a connection a request, so that nothing is answered after the death

            def do_POST(self) -> None:
                body = self._body()
                answer: dict[str, Any] = {}
                if server.away.is_set():
                    self._send(503, b"away")
                    return
                if self.path.endswith(("/graphql", "/file_stream")):
                    content = json.loads(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
                    with server._lock:
                        if self.path.endswith("/graphql"):
                            name = re.search(r"(?:query|mutation)\s+(\w+)", content["query"])
                            answer = server._query(name[1] if name else "", content.get("variables") or {})
                            answer = answer if "errors" in answer else {"data": answer}
                        else:
                            answer = server._file_stream(self.path.split("/")[-2], content)
                self._send(200, json.dumps(answer).encode())

            def do_PUT(self) -> None:
                body = self._body()
                if not server.away.is_set():
                    with server._lock:  # a query reads what others have uploaded
                        server._take(self.path, body)
                self._send(503 if server.away.is_set() else 200, b"{}")

            def do_GET(self) -> None:
                with server._lock:
                    found = None if server.away.is_set() else server._give(self.path)
                self._send(404 if found is None else 200, found or b"")

            def _body(self) -> bytes:
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        return Handler
