"""A real browser without a window, driven over its debugging pipe: JSON ended by NUL bytes."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--disable-dev-shm-usage --remote-debugging-pipe"
).split()
LIMIT_S = 60
OVERLAPS = """  // pairs of words in the drawings of a page that lie on each other
    [...document.querySelectorAll('figure > svg')].flatMap(svg => {
        const texts = [...svg.querySelectorAll('text')];
        const boxes = texts.map(t => t.getBoundingClientRect());
        return texts.flatMap((t, i) => texts.slice(i + 1).filter((u, k) => {
            const a = boxes[i], b = boxes[i + 1 + k];
            return a.left < b.right - 1 && b.left < a.right - 1
                && a.top < b.bottom - 3 && b.top < a.bottom - 3;
        }).map(u => t.textContent + ' / ' + u.textContent));
    })
"""


class Chromium:
    """One tab. Everything it said to the developer tools is in ``events``."""

    def __init__(self, profile: Path):
        (from_us, self._write), (self._read, to_us) = os.pipe(), os.pipe()
        ours = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (from_us, to_us)]  # not 3 or 4
        script = f'exec "$0" "$@" 3<&{ours[0]} 4>&{ours[1]}'
        command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(
            ["bash", "-c", script, *command],
            pass_fds=ours,
            stdin=quiet,
            stdout=quiet,
            stderr=quiet,
        )
        for fd in (from_us, to_us, *ours):
            os.close(fd)
        self._rest, self._number, self._session, self.events = b"", 0, None, []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.ask(f"{domain}.enable")

    def close(self):
        """End the browser."""
        with contextlib.suppress(OSError):
            self.ask("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def ask(self, method, **parameters):
        """The answer to one request; what else comes meanwhile is an event."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (found := self._next()).get("id") != self._number:
            self.events.append(found)
        assert "error" not in found, found
        return found["result"]

    def _next(self):
        until = time.monotonic() + LIMIT_S
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0.0, until - time.monotonic()))
            read = os.read(self._read, 1 << 20) if ready else b""
            if not read:
                raise OSError("the browser has ended or does not answer")
            self._rest += read
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def open(self, url, width, height, scheme="light"):
        """Open a page in a window of this size; returns when it is loaded."""
        self.events = []
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", features=features)
        self.ask("Page.navigate", url=url)
        self.await_page()

    def picture(self) -> bytes:
        """What the window shows, as PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])

    def pdf(self) -> bytes:
        """The page as it is printed."""
        return base64.b64decode(self.ask("Page.printToPDF", preferCSSPageSize=True)["data"])

    def value(self, expression):
        """The value of a JavaScript expression (developer tools pass the page's own policy)."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    def type(self, text):
        """Type into whatever has the focus."""
        self.ask("Input.insertText", text=text)

    def press(self, key, code):
        """Press and let go a key, such as Tab (9) and Enter (13)."""
        what = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        if key == "Enter":
            what["text"] = "\r"
        self.ask("Input.dispatchKeyEvent", type="keyDown", **what)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **what)

    def await_page(self):
        """Until a page that is on its way (a form was sent, a link followed) has been loaded."""
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self._next())

    def requested(self):
        """Addresses that the page asked for."""
        sent = [e for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [e["params"]["request"]["url"] for e in sent]

    def complaints(self):
        """What the console holds: errors, warnings, violations of the policy."""
        names = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        return [e["params"] for e in self.events if e.get("method") in names]
