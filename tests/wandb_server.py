"""A stand-in for W&B's server on loopback, just enough for the real client to register a run and send what it logs."""

import gzip
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_PROJECT = {"id": "p", "name": "lightning-231n", "entity": {"id": "e", "name": "us"}}


class WandbServer:
    """Keeps what the client sends.

    Attributes:
        url: where the client finds it.
        config: the run's configuration, as it was last sent.
        files: the names of the files sent.
        history: the rows of the run's metrics.
        streaming: set once the run has begun to send its logs.
    """

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}
        self.files: set[str] = set()
        self.history: list[dict[str, Any]] = []
        self.streaming = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def die(self) -> None:
        """Stops answering for good."""
        self._server.shutdown()
        self._server.server_close()

    def _query(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        if name == "UpsertBucket":
            self.config |= json.loads(variables.get("config") or "{}")
            run = variables.get("name") or "run"
            bucket = {"id": "r", "name": run, "displayName": run, "config": "{}", "historyLineCount": 0}
            return {"upsertBucket": {"bucket": {**bucket, "sweepName": None, "project": _PROJECT}, "inserted": True}}
        if name == "RunResumeStatus":
            return {"model": {**_PROJECT, "bucket": None}}
        if name == "Viewer":
            return {"viewer": {"id": "1", "entity": "us", "username": "me", "flags": "{}", "teams": {"edges": []}}}
        if name == "ServerFeaturesQuery":
            return {"serverInfo": {"features": []}}
        if name == "CreateRunFiles":
            self.files |= set(variables["files"])
            urls = [{"name": file, "uploadUrl": f"{self.url}/upload"} for file in variables["files"]]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": urls}}
        return {}

    def _file_stream(self, content: dict[str, Any]) -> None:
        self.streaming.set()
        for name, chunk in (content.get("files") or {}).items():
            if name == "wandb-history.jsonl":
                self.history += [json.loads(line) for line in chunk["content"]]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"  # a connection a request, so that nothing is answered after the death

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer: dict[str, Any] = {}
                if self.path.endswith(("/graphql", "/file_stream")):
                    content = json.loads(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
                    if self.path.endswith("/graphql"):
                        name = re.search(r"(?:query|mutation)\s+(\w+)", content["query"])
                        answer = {"data": server._query(name[1] if name else "", content.get("variables") or {})}
                    else:
                        server._file_stream(content)
                self._answer(answer)

            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self._answer({})

            def _answer(self, answer: dict[str, Any]) -> None:
                body = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        return Handler
