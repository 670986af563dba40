"""Stand-in for surgepy, Surge's Python bindings: the functions of upstream's that cirlib calls, with known sounds.

A preset is a JSON file with differences from PLAIN. A note is a sine of its pitch, from note on to note off, at `level` times
velocity / 127, times tempo / 120, halved by full aftertouch; the right channel has `right` times the level. Every active effect
adds a third harmonic, and a tail of level `tail` at 3 kHz from the first note until another preset is loaded. As in Surge, a
change of effects takes effect after the next block, a preset without a tempo keeps the one before, one that does not load leaves
the one before, C's stdout and stderr are written to, a folder is made in the user's home, and there are no attributes but those of
upstream.
"""

import ctypes
import json
import os
import signal
import time
from pathlib import Path

import numpy as np

BLOCK = 32
TAIL_HZ = 3000.0
PLAIN = {
    "level": 0.5,
    "right": 0.5,
    "tempo": None,  # as of most presets
    "tail": 0.0,
    "fx": {},  # number of the slot (text): type
    "fx_disable": 0,
    "fx_bypass": 0,
    "scenemode": 0,
    "scene_active": 0,
    "send_level": [[0, 0], [0, 0]],  # upstream has these two; a preset of a test may have four, as a fork
    "loads": True,
    "sounds": True,  # or False, or "aftertouch"
    "on_load": "",  # one of ACTIONS
    "on_note": "",  # one of ACTIONS
}


def _raise():
    raise RuntimeError("out of patience")


ACTIONS = {
    "raise": _raise,
    "abort": os.abort,
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "sleep": lambda: time.sleep(1000),
    "hang": lambda: ctypes.PyDLL(None).sleep(1000),  # holds the interpreter: no signal handler of Python runs
}


class Parameter:
    """A named parameter."""

    def __init__(self, value):
        self.value = float(value)


class SurgeSynthesizer:
    """One synthesizer. Like upstream's, it refuses attributes that it does not have."""

    __slots__ = ("_aftertouch", "_notes", "_patch", "_preset", "_rate", "_running", "_tail", "_tempo")

    def __init__(self, sample_rate):
        self._rate, self._tempo, self._aftertouch = sample_rate, 120.0, 0
        self._load(PLAIN)

    def _load(self, preset):
        self._preset = preset
        self._patch = {
            "fx": [{"type": Parameter(preset["fx"].get(str(slot), 0))} for slot in range(16)],
            "scene": [{"send_level": [Parameter(level) for level in levels]} for levels in preset["send_level"]],
            **{name: Parameter(preset[name]) for name in ("scene_active", "scenemode", "fx_bypass", "fx_disable")},
        }
        self._notes, self._tail = {}, None  # pitch: (velocity, samples so far); samples of the tail so far
        self._running = self._types()

    def _types(self):
        return sum(slot["type"].value > 0 for slot in self._patch["fx"])

    def loadPatch(self, path):
        os.write(1, b"Loading a patch\n")
        if not Path(path).exists():
            raise ValueError("File not found")
        preset = {**PLAIN, **json.loads(Path(path).read_text())}
        ACTIONS.get(preset["on_load"], int)()
        if preset["loads"]:
            self._load(preset)
            self._tempo = float(preset["tempo"] or self._tempo)
        else:
            os.write(2, b"Error while loading patch!\n")
        return preset["loads"]

    def playNote(self, channel, note, velocity, detune=0):
        self._notes[note] = (velocity, 0)
        self._tail = self._tail or 0

    def releaseNote(self, channel, note, velocity=0):
        self._notes.pop(note, None)

    def allNotesOff(self):
        self._notes.clear()

    def channelAftertouch(self, channel, value):
        self._aftertouch = value

    def createMultiBlock(self, blocks):
        return np.zeros((2, blocks * BLOCK), np.float32)

    def processMultiBlock(self, audio, start=0, blocks=-1):
        os.write(1, b"Processing\n")
        blocks = blocks if blocks >= 0 else audio.shape[1] // BLOCK - start
        if self._notes:
            ACTIONS.get(self._preset["on_note"], int)()
        for block in range(start, start + blocks):
            audio[:, block * BLOCK : (block + 1) * BLOCK] = self._block() * np.array([[1.0], [self._preset["right"]]])
            self._running = self._types()

    def _block(self):
        step, gain = np.arange(BLOCK), self._preset["level"] * self._tempo / 120 * (1 - self._aftertouch / 254)
        sounds = self._preset["sounds"]
        out = np.zeros(BLOCK)
        for note, (velocity, age) in self._notes.items():
            phase = 2 * np.pi * 440 * 2 ** ((note - 69) / 12) * (age + step) / self._rate
            out += gain * velocity / 127 * (np.sin(phase) + 0.25 * self._running * np.sin(3 * phase))
            self._notes[note] = (velocity, age + BLOCK)
        if self._running and self._tail is not None:
            out += self._preset["tail"] * np.sin(2 * np.pi * TAIL_HZ * (self._tail + step) / self._rate)
            self._tail += BLOCK
        return out if sounds is True or (sounds == "aftertouch" and self._aftertouch) else out * 0

    def getBlockSize(self):
        return BLOCK

    def getSampleRate(self):
        return self._rate

    def getFactoryDataPath(self):
        return os.environ.get("SURGE_DATA_HOME", "/nowhere")

    def getPatch(self):
        return self._patch

    def getParamVal(self, parameter):
        return parameter.value

    def setParamVal(self, parameter, value):
        parameter.value = float(value)

    def getParamDisplay(self, parameter):
        return f"Type {parameter.value:.0f}"


class Fork(SurgeSynthesizer):
    """The synthesizer of a fork, whose tempo can be set."""

    @property
    def tempo(self):
        return self._tempo

    @tempo.setter
    def tempo(self, value):
        self._tempo = value


def createSurge(sample_rate):
    os.write(1, b"Surge XT\n")
    Path(os.environ["HOME"], ".Surge Synth Team", "Surge XT").mkdir(parents=True, exist_ok=True)
    return SurgeSynthesizer(sample_rate)


def getVersion():
    return "1.4 stand-in"
