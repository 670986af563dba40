"""Weights & Biases: the real client, offline and with a local server, and a fake one for its failures; the API key appears nowhere."""

import base64
import json
import os
import re
import subprocess
import sys
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from cirlib.common import tracking

KEY = "marker" * 8
SENT = base64.b64encode(f"api:{KEY}".encode()).decode()
NAME = "demo/a loss/seed0"
SYNC = """
import runpy
sys.argv = ["wandb", "sync", "--yes", "--include-online", *map(str, folder.glob("wandb/*run-*"))]
runpy.run_module("wandb")"""
WEIGHTS = [bytes([i]) * 5000 for i in range(3)]  # contents of checkpoints


def reply(name, values, host):
    """Reply of a W&B server to a query: enough for one run and its files."""
    project = {"id": "p", "internalId": "1", "name": "cirlib", "entity": {"id": "e", "name": "team"}}
    bucket = {"id": "B", "name": values.get("name"), "displayName": "d", "project": project}
    files = [{"name": name, "uploadUrl": f"{host}/file/{name}"} for name in values.get("files") or []]
    replies = {
        "Viewer": {"viewer": {"id": "u", "entity": "team", "username": "me", "email": "", "flags": "{}", "teams": {"edges": []}}},
        "ServerFeaturesQuery": {"serverInfo": {"features": []}},
        "RunResumeStatus": {"model": project | {"bucket": None}},
        "UpsertBucket": {"upsertBucket": {"bucket": bucket, "inserted": True}},
        "CreateRunFiles": {"createRunFiles": {"runID": "B", "uploadHeaders": [], "files": files}},
    }
    return replies.get(name, {"project": None})


class Handler(BaseHTTPRequestHandler):
    """Answers queries and stores uploads in the mood "good"; rejects the key ("refuse") or hangs up ("down")."""

    def do_POST(self):
        server, body = self.server, self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, content = 200, b"{}"
        if self.path.startswith("/mood/"):
            server.mood = self.path.removeprefix("/mood/")
        elif server.mood == "down":
            return
        elif server.mood == "refuse":
            status, content = 401, b'{"errors": [{"message": "no such key"}]}'
        elif self.command == "PUT":
            server.files.setdefault(self.path, []).append(body)
        elif self.path in server.files:
            content = server.files[self.path][-1]
        elif self.path == "/graphql":
            query = json.loads(body)
            name, values = re.search(r"(?:query|mutation)\s+(\w+)", query["query"])[1], query.get("variables") or {}
            server.asked[name] = values | {"Authorization": self.headers["Authorization"]}
            content = json.dumps({"data": reply(name, values, f"http://127.0.0.1:{server.server_port}")}).encode()
        elif self.path.endswith("/file_stream"):
            server.stream.append(body)
        else:  # telemetry
            status = 404
        self.send_response(status)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.mood, server.files, server.stream, server.asked = "good", {}, [], {}
        server.handle_error = lambda *_: None  # ignore clients that hang up
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def secrets(tmp_path, monkeypatch):
    """secrets.yaml with the key, in tmp_path as the root of the repository."""
    monkeypatch.setattr(tracking, "ROOT", tmp_path)
    path = tmp_path / "secrets.yaml"
    path.write_text(f"wandb: {{api_key: {KEY}, team: team}}\n")
    return path


@pytest.fixture
def python(tmp_path, secrets, server):
    """Run a script with the real wandb, its own home folder and server; return (stdout, stderr)."""

    def run(script, **env):
        head = "import os, pathlib, sys, urllib.request\nfrom cirlib.common import tracking\ntracking.ROOT = pathlib.Path.cwd()\n"
        script = head + f"folder, name = tracking.ROOT / 'run', {NAME!r}\n" + script
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "XDG_", "NETRC"))}
        own = {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(Path(__file__).parents[2]), "NO_PROXY": "127.0.0.1"}
        env = kept | own | {"WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}"} | env
        done = subprocess.run([sys.executable, "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert_hidden(tmp_path, done.stdout + done.stderr)
        return done.stdout, done.stderr

    (tmp_path / "home").mkdir()
    return run


def assert_hidden(tmp_path, printed):
    """Assert that the key, plain or encoded, is neither printed nor in a file of the run or of the home folder."""
    files = [p for folder in ("run", "home") for p in (tmp_path / folder).rglob("*") if p.is_file()]
    for text in (printed.encode(), *(p.read_bytes() for p in files)):
        assert KEY.encode() not in text and SENT.encode() not in text
    assert not (tmp_path / "home" / ".netrc").exists()


def history(server):
    """{step: {name: value}} of the metrics that arrived."""
    files = [json.loads(body).get("files", {}).get("wandb-history.jsonl", {"content": []}) for body in server.stream]
    rows = [json.loads(line) for file in files for line in file["content"]]
    return {row["_step"]: {k: v for k, v in row.items() if not k.startswith("_")} for row in rows}


def test_off_does_nothing_and_imports_no_wandb(python, tmp_path):
    script = """
tracker = tracking.start("off", name, config={}, folder=folder)
tracker.log({"loss": 1.0}, 1)
tracker.checkpoint(folder / "absent.pt")
tracker.finish()
print("wandb" in sys.modules)"""
    assert python(script) == ("False\n", "")
    assert not (tmp_path / "run").exists()


def test_unknown_mode_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"unknown wandb mode 'of' \(did you mean 'off'\?\); valid: off, offline, online"):
        tracking.start("of", NAME, config={}, folder=tmp_path)


def test_offline_run_is_continued_and_synced(python, tmp_path, server):
    """Nothing is sent before `wandb sync`, which uploads metrics and the checkpoints of that time."""
    script = """
for part in (0, 1):
    tracker = tracking.start("offline", name, config={"steps": 20}, folder=folder)
    tracker.log({"loss": 0.5 - part / 8}, 10 + 10 * part)
    (folder / "best.pt").write_bytes(bytes([part]) * 5000)
    tracker.checkpoint(folder / "best.pt")
    (folder / "best.pt").write_bytes(b"later")
    tracker.finish()
"""
    assert python(script, WANDB_API_KEY=KEY) == ("", "")
    assert not server.asked
    run = tmp_path / "run"
    identity = (run / "wandb" / "id.txt").read_text()
    assert [p.name for p in run.glob("wandb/offline-run-*/*.wandb")] == [f"run-{identity}.wandb"] * 2
    assert sorted(p.read_bytes() for p in run.glob("wandb/offline-run-*/files/*.pt")) == WEIGHTS[:2]
    python(SYNC, WANDB_API_KEY=KEY)
    assert history(server) == {10: {"loss": 0.5}, 20: {"loss": 0.375}}
    assert sorted(server.files["/file/best.pt"]) == WEIGHTS[:2]
    bucket = server.asked["UpsertBucket"]
    assert (bucket["project"], bucket["name"]) == ("cirlib", identity) and json.loads(bucket["config"])["steps"] == {"value": 20}


def test_online_run_arrives_at_the_team(python, tmp_path, server):
    """Settings, metrics and checkpoint, with the key of secrets.yaml and no path of this machine."""
    script = """
tracker = tracking.start("online", name, config={"steps": 40}, folder=folder)
print("child:", os.environ.get("WANDB_API_KEY"))
tracker.log({"loss": 0.5}, 10)
(folder / "best.pt").write_bytes(bytes([2]) * 5000)
tracker.checkpoint(folder / "best.pt")
tracker.finish()
"""
    out, err = python(script)
    assert "child: None" in out and "failed" not in err and "Traceback" not in err
    assert server.files["/file/best.pt"] == WEIGHTS[2:]
    assert {values.pop("Authorization") for values in server.asked.values()} == {f"Basic {SENT}"}
    identity = (tmp_path / "run" / "wandb" / "id.txt").read_text()
    assert server.asked["RunResumeStatus"] == {"project": "cirlib", "entity": "team", "name": identity}
    assert history(server) == {10: {"loss": 0.5}}
    sent = [json.dumps(server.asked).encode(), *server.stream, *(body for bodies in server.files.values() for body in bodies)]
    assert not any(place.encode() in body for body in sent for place in (str(tmp_path), str(tracking.ROOT), sys.prefix))


def test_network_failure_does_not_stop_training(python, server):
    """finish() returns after its timeout, and `wandb sync` uploads what was logged."""
    script = """
tracking.FINISH_SECONDS = 1
tracker = tracking.start("online", name, config={}, folder=folder)
urllib.request.urlopen(os.environ["WANDB_BASE_URL"] + "/mood/down")
tracker.log({"loss": 0.5}, 10)
tracker.log({"loss": 0.25}, 20)
tracker.finish()
print("trained")
"""
    out, err = python(script, WANDB_HTTP_TIMEOUT="1")
    assert "trained" in out and "Traceback" not in err
    assert "Timed out finishing run" in err and not history(server)
    server.mood = "good"
    python(SYNC, WANDB_API_KEY=KEY)
    assert history(server) == {10: {"loss": 0.5}, 20: {"loss": 0.25}}


def test_server_failure_at_the_start_is_one_line(python):
    """And a second attempt in the same process works."""
    script = """
for mood in ("refuse", "down", "good"):
    urllib.request.urlopen(os.environ["WANDB_BASE_URL"] + "/mood/" + mood)
    tracking.START_SECONDS = 1 if mood == "down" else 30
    try:
        tracking.start("online", name, config={}, folder=folder)
    except ValueError as error:
        print("error:", error)
"""
    refused, silent = re.findall(r"error: (.*)", python(script)[0])  # "good": no error
    assert refused.startswith("wandb=online could not start, set wandb=offline or off: CommError") and "no such key" in refused
    assert silent.startswith("wandb=online could not start, set wandb=offline or off: ")


@pytest.fixture
def fake_wandb(monkeypatch):
    """A fake module wandb that records calls of init; other functions, and init on demand, raise `error`."""

    def say(*_, **__):
        raise wandb.error

    def init(**kwargs):
        wandb.calls.append(kwargs)
        return say() if wandb.error else wandb.run

    wandb = SimpleNamespace(__spec__=True, calls=[], error=None, init=init, Settings=lambda **kwargs: SimpleNamespace(**kwargs))
    wandb.run = SimpleNamespace(log=say, save=say, finish=say, dir="/absent/run/files", settings=SimpleNamespace(api_key=KEY))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    return wandb


def test_key_is_passed_to_wandb_only(fake_wandb, secrets, tmp_path, monkeypatch):
    """Online reads secrets.yaml and continues with the same id; offline does not read it."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    before = dict(os.environ)
    for _ in range(2):
        tracking.start("online", NAME, config={"steps": 40}, folder=tmp_path / "run")
    secrets.unlink()
    tracking.start("offline", NAME, config={"steps": 40}, folder=tmp_path / "other")
    assert os.environ == before
    assert [c["settings"].api_key for c in fake_wandb.calls] == [KEY, KEY, None]
    assert [(c["mode"], c["entity"]) for c in fake_wandb.calls] == [("online", "team")] * 2 + [("offline", None)]
    assert [c["id"] == fake_wandb.calls[0]["id"] for c in fake_wandb.calls] == [True, True, False]
    assert {(c["name"], c["resume"], c["reinit"]) for c in fake_wandb.calls} == {(NAME, "allow", "create_new")}
    assert {(c["settings"].init_timeout, c["settings"].finish_timeout) for c in fake_wandb.calls} == {(30, 600)}
    assert KEY not in str([{k: v for k, v in c.items() if k != "settings"} for c in fake_wandb.calls])


def test_failures_do_not_show_the_key(fake_wandb, secrets, tmp_path):
    """An error at the start, a warning while training, even if wandb's message has the key. Ctrl-C is passed on."""
    tracker = tracking.start("online", NAME, config={}, folder=tmp_path / "run")
    fake_wandb.error = ConnectionError(f"no such\nkey: {KEY}")
    with pytest.raises(ValueError, match=r"^wandb=online could not start, set wandb=offline or off: ConnectionError: no such key: \*\*\*$"):
        tracking.start("online", NAME, config={}, folder=tmp_path / "run")
    for what, act in {"log": lambda: tracker.log({}, 1), "finish": tracker.finish}.items():
        with pytest.warns(RuntimeWarning, match=rf"^wandb {what} failed, training goes on: ConnectionError: no such key: \*\*\*$"):
            act()
    with pytest.warns(RuntimeWarning, match="checkpoint failed.*FileNotFoundError"):
        tracker.checkpoint(tmp_path / "absent.pt")
    fake_wandb.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        tracker.log({}, 1)


@pytest.mark.parametrize(
    "text",
    [
        f"wandb: {{api_key: {KEY}", KEY, f"- {KEY}", f"wandb: {KEY}", f"wandb: [{KEY}]", f"wandb: {{key: {KEY}}}", "", None,
        f"wandb: {{api_key: [{KEY}]}}", "wandb: {api_key: 1234567890}", "wandb: {api_key: 2026-99-99}", "wandb: {api_key: ' '}", "\udcff",
        f"wandb: {{api_key: {KEY}, team: [{KEY}]}}", f"wandb: \0{KEY}", f"wandb: {{api_key: !!python/object/apply:str [{KEY}]}}",
    ],
)  # fmt: skip
def test_malformed_secrets_are_not_shown(fake_wandb, secrets, tmp_path, text):
    secrets.unlink()
    if text is not None:
        secrets.write_bytes(text.encode(errors="surrogateescape"))
    state = "absent" if text is None else "malformed"
    with pytest.raises(ValueError) as caught:
        tracking.start("online", NAME, config={}, folder=tmp_path)
    assert KEY not in "".join(traceback.format_exception(caught.value)) and "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"secrets.yaml at the root of the repository is {state}: it must hold wandb: {{api_key:")
    assert not fake_wandb.calls
