"""A headless Chromium, driven through its DevTools protocol."""

import base64
import io
import json
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np

CHROMIUM = next(filter(None, map(shutil.which, ("google-chrome", "chromium", "chromium-browser"))), None)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--mute-audio", "--autoplay-policy=no-user-gesture-required", "--no-first-run")
PATIENCE = 240.0  # seconds, for a machine with much to do


class Browser:
    """A tab. `complaints`: errors and warnings of the console; `requests`: fetched addresses without data: URLs."""

    def __init__(self, folder: Path, *flags: str):
        port = Path(folder) / "DevToolsActivePort"
        port.unlink(missing_ok=True)  # of an earlier browser
        options = [*FLAGS, *flags, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
        self.process = subprocess.Popen([CHROMIUM, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self._connect(port)
        except BaseException:
            self.process.kill()
            raise

    def _connect(self, port: Path) -> None:
        from websocket import create_connection

        wait(lambda: port.exists() and port.read_text().count("\n") == 1)
        number, address = port.read_text().split("\n")
        self.socket = create_connection(f"ws://127.0.0.1:{number}{address}", suppress_origin=True, timeout=PATIENCE)
        self.complaints, self.fetched, self.number, self.session, self.chooser = [], {}, 0, None, None
        tab = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=tab["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters) -> dict:
        """Send a command and return its result; note events meanwhile."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters} | self._to()))
        while (message := json.loads(self.socket.recv())).get("id") != self.number:
            self._note(message.get("method"), message.get("params", {}))
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']['message']}")
        return message["result"]

    def _to(self) -> dict:
        return {"sessionId": self.session} if self.session else {}

    def _note(self, method: str, event: dict) -> None:
        if method == "Runtime.exceptionThrown":
            self.complaints.append(event["exceptionDetails"].get("exception", {}).get("description", "exception"))
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(a.get("value", a.get("description"))) for a in event["args"]))
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.complaints.append(event["entry"]["text"])
        elif method == "Network.requestWillBeSent" and not event["request"]["url"].startswith("data:"):
            self.fetched[event["requestId"]] = event["request"]["url"]
        elif method == "Page.fileChooserOpened":
            self.chooser = event["backendNodeId"]
        elif method == "Network.loadingFailed" and event.get("blockedReason"):
            self.fetched.pop(event["requestId"], None)  # refused by the page's policy

    @property
    def requests(self) -> list[str]:
        """Return the addresses fetched since the page was opened."""
        return list(self.fetched.values())

    def open(self, page: Path | str, width: int = 1200, height: int = 800, ready: str = "true") -> None:
        """Open a file or an address in a window of that size and wait for `ready`."""
        self.complaints, self.fetched = [], {}
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.ask("window.old = true")
        self.call("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        self.until(f"!window.old && document.readyState == 'complete' && ({ready})")

    def ask(self, expression: str):
        """Return the value of a JavaScript expression or promise."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", expression))
        return answer["result"].get("value")

    def until(self, expression: str):
        """Wait until an expression is true and return its value."""
        return wait(lambda: self.ask(expression), expression)

    def mouse(self, x: float, y: float, click: bool = False) -> None:
        """Move the mouse, and click."""
        for kind in ("mouseMoved", *(("mousePressed", "mouseReleased") if click else ())):
            button = {"button": "left", "clickCount": 1} if kind != "mouseMoved" else {}
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def click(self, element: str, x: float = 0.5) -> None:
        """Wait for an element (a JavaScript expression), scroll to it and click it, `x` of its width from the left."""
        self.until(f"!!({element})")
        self.ask(f"({element}).scrollIntoView({{block: 'center'}})")
        box = self.ask(f"({element}).getBoundingClientRect().toJSON()")
        self.mouse(box["x"] + x * box["width"], box["y"] + box["height"] / 2, click=True)

    def picture(self) -> np.ndarray:
        """Return a screenshot, (height, width, 3) uint8."""
        from PIL import Image

        png = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))

    def close(self) -> None:
        """Close the browser."""
        try:
            self.session = None
            self.call("Browser.close")
            self.process.wait(10)
        except Exception:
            self.process.kill()
            self.process.wait()
        self.socket.close()


def wait(condition, what: str = "the browser to start"):
    """Wait until a function returns a true value and return it. AssertionError after PATIENCE."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {PATIENCE:g} s for {what}"
        time.sleep(0.02)
    return value
