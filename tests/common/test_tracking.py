"""Weights & Biases: the real client offline and against a local server, a stand-in for what it may do wrong; the key shows nowhere."""

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
    """What a W&B server says to a query: as much as one run, its files, one artifact and its download need."""
    time, project = "2026-01-01T00:00:00", {"id": "p", "internalId": "1", "name": "cirlib", "entity": {"id": "e", "name": "team"}}
    bucket = {"id": "B", "name": values.get("name"), "displayName": "d", "project": project}
    collection = {"__typename": "ArtifactSequence", "name": "demo-a-loss-seed0", "project": project}
    artifact = dict.fromkeys(["description", "metadata", "historyStep", "commitHash", "updatedAt"]) | {"__typename": "Artifact", "id": "A"}
    artifact |= {"artifactSequence": collection, "versionIndex": 0, "artifactType": {"name": "model"}, "state": "COMMITTED", "tags": []}
    artifact |= {"ttlDurationSeconds": -2, "ttlIsInherited": False, "size": 1, "digest": "d", "fileCount": 1, "createdAt": time}
    member = {"__typename": "ArtifactCollectionMembership", "id": "m", "versionIndex": 0, "aliases": [], "createdAt": time}

    def file(name):
        place = {"uploadUrl": f"{host}/file/{name}", "directUrl": f"{host}/file/{name}", "uploadHeaders": []}
        return {"__typename": "File", "id": name, "name": name, "displayName": name, "storagePath": "", "artifact": {"id": "A"}} | place

    page = {"pageInfo": {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}, "edges": [{"node": file("best.pt")}]}
    names = values.get("files") or [f["name"] for f in values.get("input", {}).get("artifactFiles", [])]
    replies = {
        "Viewer": {"viewer": {"id": "u", "entity": "team", "username": "me", "email": "", "flags": "{}", "teams": {"edges": []}}},
        "ServerFeaturesQuery": {"serverInfo": {"features": []}},
        "RunResumeStatus": {"model": project | {"bucket": None}},
        "UpsertBucket": {"upsertBucket": {"bucket": bucket, "inserted": True}},
        "CreateRunFiles": {"createRunFiles": {"runID": "B", "uploadHeaders": [], "files": [file(name) for name in names]}},
        "CreateArtifact": {"createArtifact": {"artifact": artifact | {"state": "PENDING", "artifactSequence": {"id": "S"}}}},
        "CreateArtifactManifest": {"createArtifactManifest": {"artifactManifest": {"id": "M", "file": file("manifest")}}},
        "CreateArtifactFiles": {"createArtifactFiles": {"files": {"edges": [{"node": file(name)} for name in names]}}},
        "CommitArtifact": {"commitArtifact": {"artifact": {"id": "A", "digest": "d"}}},
        "FetchArtifactManifest": {"artifact": {"currentManifest": {"file": file("manifest")}}},
        "GetArtifactMembershipFileUrls": {"project": {"artifactCollection": collection | {"artifactMembership": {"files": page}}}},
    }
    if name == "ArtifactMembershipByName" and values["name"] == "demo-a-loss-seed0:best":
        return {"project": {"artifactCollectionMembership": member | {"artifactCollection": collection, "artifact": artifact}}}
    return replies.get("Viewer" if name == "GetDefaultEntity" else name, {"project": None})


class Handler(BaseHTTPRequestHandler):
    """Answers queries, keeps what is uploaded; refuses everybody or hangs up in another mood than "good"."""

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
        server.handle_error = lambda *_: None  # a client that hangs up is no news
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
    """Runs a script with the real wandb, a home and a server of its own; returns what it printed."""

    def run(script, **env):
        head = "import os, pathlib, sys, urllib.request\nfrom cirlib import tracking\ntracking.ROOT = pathlib.Path.cwd()\n"
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
    """The key is neither in what was printed nor, plain or as it is sent, in a file of the run or of the user's home."""
    files = [p for folder in ("run", "home") for p in (tmp_path / folder).rglob("*") if p.is_file()]
    for text in (printed.encode(), *(p.read_bytes() for p in files)):
        assert KEY.encode() not in text and SENT.encode() not in text
    assert not (tmp_path / "home" / ".netrc").exists()


def history(server):
    """{step: {name: value}} of the metrics that arrived."""
    files = [
        json.loads(body).get("files", {}).get("wandb-history.jsonl", {"content": []}) for body in server.stream
    ]  # some only tell the end
    rows = [json.loads(line) for file in files for line in file["content"]]
    return {row["_step"]: {k: v for k, v in row.items() if not k.startswith("_")} for row in rows}


def test_off_does_nothing_and_imports_no_wandb(python, tmp_path):
    script = """
tracker = tracking.start("off", name, {}, folder)
tracker.log({"loss": 1.0}, 1)
tracker.checkpoint(folder / "absent.pt", "best")
tracker.finish()
print("wandb" in sys.modules)"""
    assert python(script) == ("False\n", "")
    assert not (tmp_path / "run").exists()


def test_unknown_mode(tmp_path):
    with pytest.raises(ValueError, match=r"unknown wandb mode 'of' \(did you mean 'off'\?\); valid: off, offline, online"):
        tracking.start("of", NAME, {}, tmp_path)


def test_offline_run_goes_on_and_can_be_synced(python, tmp_path, server):
    """Two parts of one run, without a word to the server; `wandb sync` uploads metrics and checkpoints as they were at the time."""
    script = """
for part in (0, 1):
    tracker = tracking.start("offline", name, {"steps": 20}, folder)
    tracker.log({"loss": 0.5 - part / 8}, 10 + 10 * part)
    (folder / "best.pt").write_bytes(bytes([part]) * 5000)
    tracker.checkpoint(folder / "best.pt", "best")
    (folder / "best.pt").write_bytes(b"later")
    tracker.finish()
"""
    assert python(script, WANDB_API_KEY=KEY) == ("", "")
    assert not server.asked
    run = tmp_path / "run"
    identity = (run / "wandb" / "id.txt").read_text()
    assert [p.name for p in run.glob("wandb/offline-run-*/*.wandb")] == [f"run-{identity}.wandb"] * 2
    assert sorted(p.read_bytes() for p in run.glob("wandb/offline-run-*/checkpoints/*.pt")) == WEIGHTS[:2]
    python(SYNC, WANDB_API_KEY=KEY)
    assert history(server) == {10: {"loss": 0.5}, 20: {"loss": 0.375}}
    assert sorted(server.files["/file/best.pt"]) == WEIGHTS[:2]
    bucket = server.asked["UpsertBucket"]
    assert (bucket["project"], bucket["name"]) == ("cirlib", identity) and json.loads(bucket["config"])["steps"] == {"value": 20}


def test_online_run_uploads_and_downloads(python, tmp_path, server):
    """The real client: run, metrics and checkpoint arrive under the team; the checkpoint comes back, a changed one does not."""
    script = """
tracking.tempfile.tempdir = links = tracking.tempfile.mkdtemp()  # in no folder of the user's
tracker = tracking.start("online", name, {"steps": 40}, folder)
print("child:", os.environ.get("WANDB_API_KEY"))
tracker.log({"loss": 0.5}, 10)
(folder / "best.pt").write_bytes(bytes([2]) * 5000)
tracker.checkpoint(folder / "best.pt", "best")
print("links:", len(list(pathlib.Path(links).glob("wandb-*"))))
tracker.finish()
print("left:", [p.name for p in pathlib.Path(links).glob("wandb-*")])
tracking.shutil.rmtree(links)
for _ in range(2):  # the second time it is there
    print("file:", tracking.download("team/cirlib/demo-a-loss-seed0:best", folder / "got").relative_to(folder))
got = next((folder / "got").glob("*/best.pt"))
print("content:", got.read_bytes() == bytes([2]) * 5000)
got.unlink()
for wanted in ("team/cirlib/demo-a-loss-seed0:best", "team/cirlib/other:best"):
    urllib.request.urlopen(urllib.request.Request(os.environ["WANDB_BASE_URL"] + "/file/best.pt", b"changed", method="PUT"))
    try:
        tracking.download(wanted, folder / "got")
    except ValueError as error:
        print("error:", error)
"""
    out, err = python(script)
    (place,) = set(re.findall(r"file: got/(\w+)/best.pt", out))
    assert "links: 1\nleft: []\n" in out
    assert "child: None" in out and "content: True" in out and "failed" not in err and "Traceback" not in err
    changed, absent = re.findall(r"error: (.*)", out)
    assert changed.startswith("artifact team/cirlib/demo-a-loss-seed0:best") and "Digest mismatch" in changed
    assert absent.startswith("artifact team/cirlib/other:best (entity/project/name:alias) could not be fetched: ")
    assert [p.relative_to(tmp_path / "run" / "got").as_posix() for p in (tmp_path / "run" / "got").rglob("*")] == [place]
    assert server.files["/file/best.pt"][0] == WEIGHTS[2]
    assert {values.pop("Authorization") for values in server.asked.values()} == {f"Basic {SENT}"}
    artifact = server.asked["CreateArtifact"]["input"]
    identity = (tmp_path / "run" / "wandb" / "id.txt").read_text()
    assert server.asked["RunResumeStatus"] == {"project": "cirlib", "entity": "team", "name": identity}
    assert {a["alias"] for a in artifact["aliases"]} == {"best", "latest"} and artifact["artifactTypeName"] == "model"
    assert history(server) == {10: {"loss": 0.5}}
    sent = [json.dumps(server.asked).encode(), *server.stream, *(body for bodies in server.files.values() for body in bodies)]
    assert not any(place.encode() in body for body in sent for place in (str(tmp_path), str(tracking.ROOT), sys.prefix))


def test_network_that_fails_does_not_stop_the_training(python, server):
    """The server hangs up in the middle: finish() gives up in time, and `wandb sync` uploads what was logged."""
    script = """
tracking.FINISH_SECONDS = 1
tracker = tracking.start("online", name, {}, folder)
urllib.request.urlopen(os.environ["WANDB_BASE_URL"] + "/mood/down")
tracker.log({"loss": 0.5}, 10)
(folder / "best.pt").write_bytes(b"weights")
tracker.checkpoint(folder / "best.pt", "best")
tracker.log({"loss": 0.25}, 20)
tracker.finish()
print("trained")
"""
    out, err = python(script, WANDB_HTTP_TIMEOUT="1")
    assert "trained" in out and "Traceback" not in err and err.count("wandb checkpoint failed, training goes on") == 1
    assert "Timed out finishing run" in err and not history(server)
    server.mood = "good"
    python(SYNC, WANDB_API_KEY=KEY)
    assert history(server) == {10: {"loss": 0.5}, 20: {"loss": 0.25}}


def test_server_that_refuses_or_hangs_up_is_one_sentence(python):
    script = """
for mood, act in (("refuse", "download"), ("refuse", "start"), ("down", "start"), ("good", "start")):
    urllib.request.urlopen(os.environ["WANDB_BASE_URL"] + "/mood/" + mood)
    tracking.START_SECONDS = 1 if mood == "down" else 30
    try:
        getattr(tracking, act)(*{"download": ("a/b/c:d", folder), "start": ("online", name, {}, folder)}[act])
    except ValueError as error:
        print("error:", error)
"""
    download, refused, silent = re.findall(r"error: (.*)", python(script)[0])  # none in the end
    assert download.startswith("artifact a/b/c:d (entity/project/name:alias) could not be fetched") and "no such key" in download
    assert refused.startswith("wandb=online could not start, set wandb=offline or off: CommError") and "no such key" in refused
    assert silent.startswith("wandb=online could not start, set wandb=offline or off: ")


@pytest.fixture
def stand_in(monkeypatch):
    """A module wandb that records the calls of init; what else is called, and init on demand, raises `error`."""

    def say(*_, **__):
        raise wandb.error

    def init(**kwargs):
        wandb.calls.append(kwargs)
        return say() if wandb.error else wandb.run

    wandb = SimpleNamespace(calls=[], error=None, init=init, Settings=lambda **kwargs: SimpleNamespace(**kwargs), Artifact=say)
    wandb.run = SimpleNamespace(log=say, finish=say, dir="/absent/run/files", settings=SimpleNamespace(api_key=KEY))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    return wandb


def shown(act):
    """The message of the ValueError that `act` raises, after a look at its traceback: one line, without the key."""
    with pytest.raises(ValueError) as caught:
        act()
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_key_goes_to_wandb_alone(stand_in, secrets, tmp_path, monkeypatch):
    """Online takes key and team of secrets.yaml, once more with the same id; offline reads no secrets."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    before = dict(os.environ)
    for _ in range(2):
        tracking.start("online", NAME, {"steps": 40}, tmp_path / "run")
    secrets.unlink()
    tracking.start("offline", NAME, {"steps": 40}, tmp_path / "other")
    assert os.environ == before
    assert [c["settings"].api_key for c in stand_in.calls] == [KEY, KEY, None]
    assert [(c["mode"], c["entity"]) for c in stand_in.calls] == [("online", "team")] * 2 + [("offline", None)]
    assert [c["id"] == stand_in.calls[0]["id"] for c in stand_in.calls] == [True, True, False]
    assert {(c["name"], c["resume"], c["reinit"]) for c in stand_in.calls} == {(NAME, "allow", "create_new")}
    assert {(c["settings"].init_timeout, c["settings"].finish_timeout) for c in stand_in.calls} == {(30, 600)}
    assert KEY not in str([{k: v for k, v in c.items() if k != "settings"} for c in stand_in.calls])


def test_what_fails_is_told_without_the_key(stand_in, secrets, tmp_path):
    """Even where wandb shows it: an error at the start, a warning while training. Ctrl-C is no failure."""
    tracker = tracking.start("online", NAME, {}, tmp_path / "run")
    stand_in.error = ConnectionError(f"no such\nkey: {KEY}")
    message = shown(lambda: tracking.start("online", NAME, {}, tmp_path / "run"))
    assert message == "wandb=online could not start, set wandb=offline or off: ConnectionError: no such key: ***"
    for what, act in {"log": lambda: tracker.log({}, 1), "finish": tracker.finish}.items():
        with pytest.warns(RuntimeWarning, match=rf"^wandb {what} failed, training goes on: ConnectionError: no such key: \*\*\*$"):
            act()
    with pytest.warns(RuntimeWarning, match="checkpoint failed.*FileNotFoundError"):
        tracker.checkpoint(tmp_path / "absent.pt", "best")
    stand_in.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        tracker.log({}, 1)


@pytest.mark.parametrize("files", [{}, {"a.txt": None}, {"a.pt": None, "b.pt": None}, {"a.pt": "https://elsewhere/a.pt"}], ids=str)
def test_artifact_must_hold_one_checkpoint(stand_in, secrets, tmp_path, files):
    """One that W&B holds itself, not a reference to somewhere else."""
    artifact = SimpleNamespace(manifest=SimpleNamespace(entries={name: SimpleNamespace(ref=ref) for name, ref in files.items()}))
    stand_in.Api = lambda api_key: SimpleNamespace(artifact={"a/b/c:d": artifact}.get)
    count = sum(name.endswith(".pt") and ref is None for name, ref in files.items())
    assert shown(lambda: tracking.download("a/b/c:d", tmp_path / "got")).startswith(f"artifact a/b/c:d holds {count} .pt files, not one")
    assert not (tmp_path / "got").exists()


def test_versions_of_an_artifact_lie_side_by_side(stand_in, secrets, tmp_path):
    """They have the same file name, and a run may stand on either."""

    class Version:
        def __init__(self, digest):
            self.digest, self.manifest = digest, SimpleNamespace(entries={"best.pt": SimpleNamespace(ref=None)})

        def download(self, root, skip_cache):
            Path(root, "best.pt").write_text(self.digest)

        def verify(self, root):
            pass

    versions = {"a/b/c:v0": Version("first"), "a/b/c:v1": Version("second"), "a/b/c:best": Version("second")}
    stand_in.Api = lambda api_key: SimpleNamespace(artifact=versions.get)
    places = [tracking.download(name, tmp_path / "got") for name in versions]
    assert [p.read_text() for p in places] == ["first", "second", "second"] and places[1] == places[2] != places[0]


def test_without_the_package(secrets, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    for act in (lambda: tracking.start("offline", NAME, {}, tmp_path), lambda: tracking.download("a/b/c:d", tmp_path)):
        assert shown(act).endswith("needs the package wandb: pip install wandb")


@pytest.mark.parametrize(
    "text",
    [
        f"wandb: {{api_key: {KEY}", KEY, f"- {KEY}", f"wandb: {KEY}", f"wandb: [{KEY}]", f"wandb: {{key: {KEY}}}", "", None,
        f"wandb: {{api_key: [{KEY}]}}", "wandb: {api_key: 1234567890}", "wandb: {api_key: 2026-99-99}", "wandb: {api_key: ' '}", "\udcff",
        f"wandb: {{api_key: {KEY}, team: [{KEY}]}}", f"wandb: \0{KEY}", f"wandb: {{api_key: !!python/object/apply:str [{KEY}]}}",
    ],
)  # fmt: skip
def test_secrets_that_do_not_serve_are_not_shown(stand_in, secrets, tmp_path, text):
    secrets.unlink()
    if text is not None:
        secrets.write_bytes(text.encode(errors="surrogateescape"))
    state = "absent" if text is None else "malformed"
    for act in (lambda: tracking.start("online", NAME, {}, tmp_path), lambda: tracking.download("a/b/c:d", tmp_path)):
        assert shown(act).startswith(f"secrets.yaml at the root of the repository is {state}: it must hold wandb: {{api_key:")
    assert not stand_in.calls
