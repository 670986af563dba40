"""Downloads from a local server with many faults: complete files, or one sentence and nothing wrong on the disk."""

import errno
import gzip
import io
import shutil
import tarfile
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
from source_files import pack, tones, write_release
from tones import contents

from cirlib.data.sources import download as module
from cirlib.data.sources import nsynth
from cirlib.data.sources.download import download, extract

DATA = gzip.compress(np.random.default_rng(0).bytes(20000))
PAGE = b"<html>Please log in to this network</html>"
PARTS = ("nsynth-train", "nsynth-valid", "nsynth-test")


class Handler(BaseHTTPRequestHandler):
    """Answers with the server's files, in its mood."""

    def do_GET(self):
        mood, data, asked = self.server.mood, self.server.files.get(self.path[1:]), self.headers.get("Range")
        self.server.asked.append(asked)
        if mood == "page":
            return self.answer(200, PAGE, "text/html")
        if data is None:
            return self.send_error(404)
        start = 0 if asked is None or mood == "no ranges" else int(asked.removeprefix("bytes=").removesuffix("-"))
        if start and start >= len(data):
            return self.answer(416, b"", "text/plain", f"bytes */{len(data)}")
        content_range = f"bytes {start}-{len(data) - 1}/{len(data)}" if asked and mood != "no ranges" else None
        self.answer(206 if content_range else 200, data[start:], "application/gzip", content_range)

    def answer(self, status, body, kind, content_range=None):
        mood = self.server.mood
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if mood != "no length":
            self.send_header("Content-Length", str(len(body)))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if mood == "closes early" else body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """Files by name; `mood` is how it behaves, `asked` the Range header of each request."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.mood, self.asked = {"data.gz": DATA}, "", []
        self.url = f"http://127.0.0.1:{self.server_port}/"


@pytest.fixture
def server(monkeypatch):
    """A running server; blocks are so small that a download has many."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(module, "BLOCK", 1000)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def names(folder):
    return sorted(f.name for f in folder.iterdir() if not f.name.endswith(".lock"))


# Downloads


@pytest.mark.parametrize("mood", ["", "no ranges", "no length"])
def test_file_comes_whole_and_once(tmp_path, server, mood):
    server.mood = mood
    path = tmp_path / "new" / "data.gz"
    for _ in range(2):
        assert download(server.url + "data.gz", path) == path
        assert path.read_bytes() == DATA
    assert names(path.parent) == ["data.gz"] and server.asked == [None]


def interrupted(server, path):
    """Size of what a download left whose connection ended half-way."""
    server.mood = "closes early"
    with pytest.raises(OSError, match="the partial download is kept, try again"):
        download(server.url + path.name, path)
    server.mood = ""
    assert names(path.parent) == [path.name + ".part"]
    part = path.with_name(path.name + ".part").read_bytes()
    assert 0 < len(part) < len(DATA) and DATA.startswith(part)
    return len(part)


@pytest.mark.parametrize("mood", ["", "no ranges"])
def test_interrupted_several_times(tmp_path, server, mood):
    """A whole answer, of a server without ranges, is not put behind the part."""
    sizes = [interrupted(server, tmp_path / "data.gz") for _ in range(3)]
    server.mood = mood
    assert download(server.url + "data.gz", tmp_path / "data.gz").read_bytes() == DATA
    assert server.asked == [None, *(f"bytes={size}-" for size in sizes)]
    assert sizes == sorted(set(sizes))


def test_part_that_is_whole_already(tmp_path, server):
    """As a process leaves it that is killed before it renames the file."""
    (tmp_path / "data.gz.part").write_bytes(DATA)
    assert download(server.url + "data.gz", tmp_path / "data.gz").read_bytes() == DATA
    assert server.asked == [f"bytes={len(DATA)}-"]


def test_part_that_is_longer_than_the_file(tmp_path, server):
    (tmp_path / "data.gz.part").write_bytes(DATA + b"more")
    with pytest.raises(OSError, match=r"data\.gz\.part did not match .* and was deleted: try again"):
        download(server.url + "data.gz", tmp_path / "data.gz")
    assert names(tmp_path) == []


HARM = {  # what goes wrong: the message
    "page": r"answers with a page, not with an archive: nothing was stored",
    "not found": r"cannot be fetched; .*\(HTTPError: 404",
    "no server": r"cannot be fetched; .*\(ConnectionError",
    "no room": r"the download of data\.gz needs .* GB, .* are free in .*: make room or set CIRLIB_HOME",
}


@pytest.mark.parametrize("first", ["nothing", "half of it"])
@pytest.mark.parametrize("harm", HARM)
def test_failures_keep_what_arrived_before(tmp_path, server, monkeypatch, harm, first):
    """A login page between two halves does not cost the first; when the cause is gone, the download goes on."""
    have = interrupted(server, tmp_path / "data.gz") if first == "half of it" else 0
    server.mood = harm if harm == "page" else ""
    url = "http://127.0.0.1:1/data.gz" if harm == "no server" else server.url + ("other.gz" if harm == "not found" else "data.gz")
    with monkeypatch.context() as patch, pytest.raises(OSError, match=HARM[harm]):
        if harm == "no room":
            patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=len(DATA) - have - 1))
        download(url, tmp_path / "data.gz")
    server.mood = ""
    assert names(tmp_path) == (["data.gz.part"] if have else [])
    assert download(server.url + "data.gz", tmp_path / "data.gz").read_bytes() == DATA
    assert server.asked[-1] == (f"bytes={have}-" if have else None)


# Archives


def archive(members, top="nsynth-test/"):
    """Bytes of a .tar of {name: bytes}."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(top + name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


SOUND = np.random.default_rng(1).bytes(3000)
GOOD = archive({"examples.json": b"{}", **{f"audio/{i}.wav": SOUND for i in range(4)}})
END_OF_A_MEMBER = 512 + 512 + 2 * (512 + 3072)  # examples.json and two sounds
PACKED = gzip.compress(GOOD, 1)
LARGE, PACKER = archive({"examples.json": b"{}", "audio/0.wav": bytes(100000)}), zlib.compressobj(wbits=31)
FOREIGN = {
    "no tar": gzip.compress(b"hello " * 1000),
    "empty": gzip.compress(b""),
    "no gzip": GOOD,
    "nothing at all": b"",
    "another folder": gzip.compress(archive({"examples.json": b"{}"}, "nsynth-valid/")),
    "no examples.json": gzip.compress(archive({"audio/0.wav": SOUND})),
    "truncated": PACKED[: len(PACKED) // 2],
    "truncated between two files": gzip.compress(GOOD[:END_OF_A_MEMBER], 0)[:-8],
    "truncated at its end": PACKED[:-3],
    "one bit of a sound is wrong": gzip.compress(GOOD, 0).replace(SOUND, bytes([SOUND[0] ^ 1]) + SOUND[1:], 1),
    "one bit of a header is wrong": gzip.compress(GOOD, 0).replace(b"audio/0.wav", b"audio/0.wax", 1),
    "garbage in a sound": PACKER.compress(LARGE[:50000]) + PACKER.flush(zlib.Z_FULL_FLUSH) + b"\xff" * 50,
    "a file outside": gzip.compress(archive({"examples.json": b"{}", "../../evil": b"evil"})),
}


def test_unpacked(tmp_path):
    """The folder appears whole beside the archive; a second call does nothing."""
    (tmp_path / "a.tar.gz").write_bytes(PACKED)
    (tmp_path / "nsynth-test.unpacking" / "nsynth-test" / "audio").mkdir(parents=True)  # left by a killed process
    (tmp_path / "nsynth-test.unpacking" / "nsynth-test" / "audio" / "old.wav").write_bytes(b"old")
    folder = extract(tmp_path / "a.tar.gz", "nsynth-test", "examples.json")
    assert folder == tmp_path / "nsynth-test"
    assert names(tmp_path) == ["a.tar.gz", "nsynth-test"]
    assert {f.name: f.read_bytes() for f in (folder / "audio").iterdir()} == {f"{i}.wav": SOUND for i in range(4)}
    (folder / "mine").touch()
    assert extract(tmp_path / "a.tar.gz", "nsynth-test", "examples.json") == folder
    assert (folder / "mine").exists()


@pytest.mark.parametrize("what", FOREIGN)
def test_damaged_or_foreign_archive(tmp_path, what):
    """Nothing of it stays unpacked; the file itself is the user's to delete."""
    assert FOREIGN[what] != PACKED
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tar.gz").write_bytes(FOREIGN[what])
    with pytest.raises(OSError, match=r"a\.tar\.gz is damaged or another archive \(.+\): delete it and fetch it again"):
        extract(tmp_path / "in" / "a.tar.gz", "nsynth-test", "examples.json")
    assert names(tmp_path / "in") == ["a.tar.gz"]
    assert names(tmp_path) == ["in"]


# NSynth, from the server to the bank


@pytest.fixture
def release(tmp_path, server, monkeypatch):
    """A release whose tarballs the server has."""
    notes = {"train": tones("bass_acoustic_000-040-100"), "test": tones("organ_acoustic_000-060-100")}
    folder = write_release(tmp_path / "release", **notes)
    server.files = {file.name: file.read_bytes() for file in pack(folder, tmp_path / "packed").iterdir()}
    monkeypatch.setattr(nsynth, "URL", server.url)
    return folder


def fetch(tmp_path, download=True):
    """The bank of what is downloaded to `in`."""
    return nsynth.build(tmp_path / "fetched", nsynth.NSynthConfig(str(tmp_path / "in"), download=download), n_jobs=1)


def is_the_bank_of(tmp_path, release):
    nsynth.build(tmp_path / "expected", nsynth.NSynthConfig(str(release)), n_jobs=1)
    return contents(tmp_path / "fetched") == contents(tmp_path / "expected")


def test_release_is_fetched(tmp_path, server, release):
    """Each tarball once, also after an interruption; the bank is that of the folders."""
    server.mood = "closes early"
    with pytest.raises(OSError, match="the partial download is kept, try again"):
        fetch(tmp_path)
    assert not (tmp_path / "fetched").exists()
    [part] = (tmp_path / "in").glob("*.part")
    have, server.mood = part.stat().st_size, ""
    for _ in range(2):
        fetch(tmp_path)
    assert server.asked == [None, f"bytes={have}-", None, None]
    assert is_the_bank_of(tmp_path, release)
    assert names(tmp_path / "in") == sorted([*PARTS, *server.files])


def test_only_what_is_missing_is_fetched(tmp_path, server, release):
    """A folder and a tarball that are there are used; without `download` nothing is fetched at all."""
    (tmp_path / "in").mkdir()
    shutil.copytree(release / "nsynth-train", tmp_path / "in" / "nsynth-train")
    shutil.copy(tmp_path / "packed" / "nsynth-valid.jsonwav.tar.gz", tmp_path / "in")
    with pytest.raises(FileNotFoundError, match=r"options: \{download: true\}"):
        fetch(tmp_path, download=False)
    assert server.asked == []
    fetch(tmp_path)
    assert len(server.asked) == 1
    assert is_the_bank_of(tmp_path, release)


def test_false_tarball_is_named(tmp_path, server, release):
    """Once it is deleted and the server has the right one, the same call works."""
    name = "nsynth-test.jsonwav.tar.gz"
    good, server.files[name] = server.files[name], FOREIGN["truncated"]
    with pytest.raises(OSError, match=rf"{name} is damaged or another archive .*: delete it and fetch it again"):
        fetch(tmp_path)
    assert not (tmp_path / "fetched").exists() and "nsynth-test" not in names(tmp_path / "in")
    server.files[name] = good
    (tmp_path / "in" / name).unlink()
    fetch(tmp_path)
    assert is_the_bank_of(tmp_path, release)


def test_full_disk_does_not_cost_the_download(tmp_path, server, release, monkeypatch):
    def full_disk(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left on device"):
        patch.setattr(tarfile.TarFile, "extract", full_disk)
        fetch(tmp_path)
    assert names(tmp_path / "in") == ["nsynth-train.jsonwav.tar.gz"]
    fetch(tmp_path)
    assert server.asked == [None] * 3
