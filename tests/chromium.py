"""Headless Chromium without a network, for tests of pages."""

import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

_CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


class Browser:
    """Headless Chromium, controlled over a pipe by the DevTools protocol."""

    def __init__(self, profile: str) -> None:
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        flags = "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-dev-shm-usage "
        flags += "--disable-background-networking --host-resolver-rules='MAP * ~NOTFOUND' --remote-debugging-pipe"
        command = f"exec {_CHROMIUM} {flags} --user-data-dir={profile} --window-size=1400,1000 "
        command += f"3<&{theirs_in} 4>&{theirs_out} 2>/dev/null >/dev/null"  # the descriptors that it listens on
        self.process = subprocess.Popen(["bash", "-c", command], pass_fds=(theirs_in, theirs_out))
        os.close(theirs_in)
        os.close(theirs_out)
        self._read, self._write = os.fdopen(ours_in, "rb"), os.fdopen(ours_out, "wb")
        self._ids = itertools.count(1)
        self._rest = b""
        self._session: str | None = None
        self.errors: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        self._write.flush()
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            received = os.read(self._read.fileno(), 1 << 20)
            assert received, "Chromium ended"
            self._rest += received
        message, _, self._rest = self._rest.partition(b"\0")
        event: dict[str, Any] = json.loads(message)
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(event["params"]["request"]["url"][:200])
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(event["params"])[:2000])
            case "Runtime.consoleAPICalled" if event["params"]["type"] in ("error", "warning", "assert"):
                self.errors.append(json.dumps(event["params"])[:2000])
            case "Log.entryAdded" if event["params"]["entry"]["level"] in ("error", "warning"):
                self.errors.append(json.dumps(event["params"])[:2000])
        return event

    def open(self, page: Path, scheme: str = "light") -> None:
        """Opens a page and waits until its scripts have run."""
        self._navigate(page.resolve().as_uri(), scheme)
        self.until("document.body && document.body.dataset.ready !== undefined")

    def load(self, page: Path, scheme: str = "light", query: str = "") -> None:
        """Opens a page that does not say when it is ready, with a search query, and waits until all of it is loaded."""
        address = page.resolve().as_uri() + (f"?q={quote_plus(query)}" if query else "")
        self._navigate(address, scheme)
        self.until(f"document.readyState === 'complete' && location.href === {json.dumps(address)}")

    def _navigate(self, address: str, scheme: str) -> None:
        self.errors, self.requests = [], []
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Page.navigate", url=address)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited if it is a promise."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, condition: str) -> None:
        """Waits for a condition, a minute at most, also while the page reloads itself."""
        problem = ""
        for _ in range(1200):
            try:
                if self.run(condition):
                    return
            except AssertionError as error:  # the page was replaced meanwhile
                problem = f"; {error}"
            time.sleep(0.05)
        raise AssertionError(f"{condition} did not come true{problem}")

    def scroll_to(self, selector: str) -> None:
        self.run(f"document.querySelector('{selector}').scrollIntoView()")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._read.close()
        self._write.close()


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Runs Chromium with an empty profile during the `with` block."""
    assert _CHROMIUM, "There is no Chromium on the PATH; install it, on Debian with: apt-get install chromium"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        running = Browser(profile)
        yield running
        running.end()
