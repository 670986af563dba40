"""Reading sound files: what is cut or damaged is refused at every door, and what other programs write is read completely."""

import struct

import numpy as np
import pytest
import soundfile
from conftest import tone
from sound_files import FORMATS, RATE, encode, mpeg_frames, ogg_flac, ogg_page, ogg_pages, rf64, wav, without_length

from cirlib.audio.io import Unusable, as_float, check_rate, check_whole, mix_down, read_audio, read_long

SOUND = tone(60, 0.8)
SECONDS = len(SOUND) / RATE
PCM = (SOUND * 32767).astype("<i2").tobytes()
FLAC, OGG = encode("flac PCM_16", SOUND), encode("ogg VORBIS", SOUND)
MP3 = list(mpeg_frames(encode("mp3 MPEG_LAYER_III", SOUND, bitrate_mode="VARIABLE")))
PAGES = ogg_pages(encode("ogg VORBIS", np.random.default_rng(0).normal(0, 0.1, 60_000)))
CAF = encode("caf PCM_24", SOUND)
TAG = b"TAG" + bytes(125)  # ID3v1
READERS = (read_audio, lambda path: read_audio(path, 0.1), read_long)


def refusals(path) -> set[str]:
    """Return why each reader refuses a file; "accepted" if one does not."""
    out = set()
    for read in READERS:
        try:
            read(path)
            out.add("accepted")
        except Unusable as error:
            out.add(str(error))
    return out


@pytest.mark.parametrize("kind", FORMATS)
def test_cut_files_are_refused(tmp_path, kind):
    """At 20 places and without the last byte, with the same sentence whether a part or all is read."""
    whole, path = encode(kind), tmp_path / f"x.{kind.split()[0]}"
    path.write_bytes(whole)
    assert len(read_audio(path)) == pytest.approx(len(read_long(path)), abs=1)
    check_whole(path)
    padding = whole.endswith(b"\0") and "ALAC" in kind
    for size in (*(len(whole) * k // 21 for k in range(1, 21)), len(whole) - 1 - padding, *range(1, 60, 3)):
        path.write_bytes(whole[:size])
        reasons = refusals(path)
        assert len(reasons) == 1 and min(reasons).startswith("truncated: "), (size, reasons)
        with pytest.raises(Unusable, match="truncated: "):
            check_whole(path)


UNKNOWN = (0, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFDB)
AS_WRITTEN = {  # name: file and its seconds
    **{f"{size:x}.wav": (wav(riff, size, PCM), SECONDS) for size, riff in zip(UNKNOWN, (0, 0x7FFFF024, *UNKNOWN[2:]), strict=True)},
    "header before the samples.wav": (wav(36, 0, PCM), SECONDS),
    "wrong size of the file.wav": (wav(5, len(PCM), PCM), SECONDS),
    "chunk after.wav": (wav(36 + len(PCM), len(PCM), PCM + b"LIST\4\0\0\0abcd"), SECONDS),
    "junk after.wav": (wav(36 + len(PCM), len(PCM), PCM + b"\1junk" * 99), SECONDS),
    "rf64.wav": (rf64(len(PCM), PCM), SECONDS),
    "rf64 to a pipe.wav": (rf64(0, PCM), SECONDS),
    "to a pipe.caf": (CAF.replace(struct.pack(">4sQ", b"data", 4 + 3 * len(SOUND)), b"data" + b"\xff" * 8), SECONDS),
    "to a pipe.au": (encode("au PCM_16", SOUND).replace(struct.pack(">I", len(PCM)), b"\xff" * 4), SECONDS),
    "to a pipe.aiff": (encode("aiff PCM_16", SOUND).replace(b"SSND" + struct.pack(">I", 8 + len(PCM)), b"SSND\0\0\0\0"), SECONDS),
    "to a pipe.flac": (without_length(FLAC), SECONDS),
    "to a pipe, with tags.flac": (b"ID3\3\0\0\0\0\0\5" + bytes(5) + without_length(FLAC) + TAG, SECONDS),
    "in Ogg.oga": (ogg_flac(FLAC), SECONDS),
    "in Ogg, to a pipe.oga": (ogg_flac(without_length(FLAC)), SECONDS),
    "chained.ogg": (OGG + encode("ogg VORBIS", SOUND, rate=16000), SECONDS + 0.8),
    "with a tag.ogg": (OGG + TAG, SECONDS),
    "no header.mp3": (b"".join(MP3[1:]), SECONDS),
    "no header, with tags.mp3": (b"ID3\3\0\0\0\0\0\5" + bytes(5) + b"".join(MP3[1:]) + b"APETAGEX" + bytes(50) + TAG, SECONDS),
    "header.mp3": (b"".join(MP3) + TAG, SECONDS),
    "two, one after the other.mp3": (b"".join(MP3) + TAG + b"".join(MP3), 2 * SECONDS),
    "zeros first.mp3": (bytes(999) + b"".join(MP3[1:]), SECONDS),
    "clip.mp3": (b"".join(MP3[3:]), SECONDS - 2 * 576 / RATE),
}


@pytest.mark.parametrize("name", AS_WRITTEN)
def test_odd_files_are_read_completely(tmp_path, name):
    path = tmp_path / name
    content, seconds = AS_WRITTEN[name]
    path.write_bytes(content)
    mp3 = name.endswith("mp3")  # whose encoder fills the last frame
    for audio in (read_audio(path), read_long(path)):
        assert len(audio) / 16000 == pytest.approx(seconds, abs=0.15 if mp3 else 0.001)
        middle = audio[len(audio) // 4 : -len(audio) // 4]
        assert np.abs(middle).max() == pytest.approx(0.5, abs=0.15 if mp3 else 0.03)
    assert len(read_audio(path, 0.3)) == 4800


def test_flac_of_unknown_length_has_the_same_samples(tmp_path):
    for name, content in (("a.flac", FLAC), ("b.flac", without_length(FLAC)), ("c.oga", ogg_flac(without_length(FLAC)))):
        (tmp_path / name).write_bytes(content)
    first, *others = (read_audio(tmp_path / name) for name in ("a.flac", "b.flac", "c.oga"))
    assert all(np.array_equal(first, other) for other in others)


DAMAGED = {
    "a page less.ogg": (b"".join(PAGES[:3] + PAGES[4:]), "damaged"),
    "one bit.ogg": (OGG[:-50] + bytes([OGG[-50] ^ 1]) + OGG[-49:], "damaged"),
    "something between.ogg": (OGG[: -len(ogg_pages(OGG)[-1])] + b"junk" + ogg_pages(OGG)[-1], "damaged"),
    "the second stream is cut.ogg": (OGG + OGG[:-10], "truncated"),
    "no last page.ogg": (OGG[: -len(ogg_pages(OGG)[-1])], "truncated"),
    "no sound.oga": (ogg_page(b"\x7fFLAC\1\0\0\1" + FLAC[:42].replace(b"\0\0\0\x22", b"\x80\0\0\x22", 1), 0, last=True), "truncated"),
    "one bit.flac": (FLAC[:-900] + bytes([FLAC[-900] ^ 1]) + FLAC[-899:], "not readable as sound (flac decoder lost sync)"),
    "to a pipe, cut.flac": (without_length(FLAC)[:-1], "truncated"),
    "a frame less.mp3": (b"".join(MP3[:-1]), "truncated"),
    "a hole.mp3": (b"".join([*MP3[:9], bytes(2000), *MP3[20:]]), "truncated"),
    "no header, cut.mp3": (b"".join(MP3[1:])[:-1], "truncated"),
    "no header, cut after a byte.mp3": (b"".join(MP3[1:]) + b"\xff", "truncated"),
    "free bitrate.mp3": (b"\xff\xfb\0\0" * 500, "not readable as sound (MPEG of free bitrate)"),
    "other kind.wav": (b"RIFF\xff\0\0\0AVI " + bytes(500), "not readable as sound ("),
    "speech.wav": (b"NIST_1A\n   1024\n" + bytes(5000), "not readable as sound ("),
    "page.mp3": (b"<!DOCTYPE html><html>404</html>", "not readable as sound (Format not recognised)"),
    "music.m4a": (b"\0\0\0 ftypM4A " + bytes(500), "a format that is not read: convert it to WAV or FLAC"),
    "constant.wav": (encode("wav FLOAT", 0 * SOUND + 0.3, rate=16000), "silent except for a constant offset"),
    "another format.wav": (b"", "its format (VOC) is not supported: convert it to WAV or FLAC"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_refused(tmp_path, name):
    content, reason = DAMAGED[name]
    path = tmp_path / name
    if content:
        path.write_bytes(content)
    else:
        soundfile.write(path, SOUND, RATE, format="VOC", subtype="PCM_16")
    reasons = refusals(path)
    assert all(found.startswith(reason) for found in reasons), reasons


def stereo(*channels) -> np.ndarray:
    return np.stack(channels, axis=1)


CANCELLING = {  # channels and the one that is read
    "antiphase": (stereo(SOUND, -SOUND), 0),
    "nearly": (stereo(0.98 * SOUND, -SOUND), 0),
    "silence first": (stereo(0 * SOUND, 0.9 * SOUND, -SOUND), 1),
}


@pytest.mark.parametrize("case", CANCELLING)
def test_channels_that_cancel_are_read_one_by_one(tmp_path, case):
    channels, index = CANCELLING[case]
    soundfile.write(path := tmp_path / "x.wav", channels, 16000, subtype="FLOAT")
    for read in READERS:
        audio = read(path)
        assert np.allclose(audio, channels[: len(audio), index], atol=1e-3)
    read_audio(path, remarks=(remarks := []))
    assert remarks == [f"its channels cancel each other: only channel {index + 1} is read"]
    assert np.array_equal(mix_down(channels.T), channels[:, index].astype(np.float32))


@pytest.mark.parametrize("right", [0, 1, 0.5, -0.5, "other"])
def test_other_channels_are_mixed(tmp_path, right):
    other = tone(64, 0.8) if right == "other" else right * SOUND
    soundfile.write(path := tmp_path / "x.wav", stereo(SOUND, other), 16000, subtype="FLOAT")
    read_audio(path, remarks=(remarks := []))
    assert np.allclose(read_audio(path), (SOUND + other) / 2, atol=1e-6) and not remarks


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", ">i2", "<i4", "uint16", "float32", ">f4", "float64", "float16"])
def test_samples_of_every_type_have_the_same_scale(dtype):
    kind = np.dtype(dtype)
    full = 1 if kind.kind == "f" else 2 ** (8 * kind.itemsize - 1)
    scaled = (SOUND * full + (full if kind.kind == "u" else 0)).astype(kind)
    for audio in (scaled, np.repeat(scaled, 2)[::2], scaled[::-1][::-1]):
        got = as_float(audio)
        assert got.dtype == np.float32 and got.dtype.isnative and got.flags.c_contiguous
        assert np.allclose(got, SOUND, atol=0.01 if kind.itemsize == 1 else 1e-3)


@pytest.mark.parametrize("samples", [[1, 2], np.array([True]), np.array([1j]), ["a"], [None]], ids=repr)
def test_samples_of_unknown_scale_are_refused(samples):
    with pytest.raises(Unusable, match="samples must be floats, or integers of 8 to 32 bits, not "):
        as_float(samples)


@pytest.mark.parametrize("rate", [None, "44100", 0, -1, np.nan, np.inf, 44100.5, 1e9])
def test_impossible_rates_are_refused(rate):
    with pytest.raises(Unusable, match="a sample rate must be a whole number of Hz from 1000 to 768000, got "):
        check_rate(rate)
    assert [check_rate(rate) for rate in (44100, 44100.0, np.int32(8000))] == [44100, 44100, 8000]
