"""Scores follow their rules: rhythm, tempo, scale and pitches, measured on tones whose pitch, level and onset are known."""

from collections import Counter

import numpy as np
import pytest
from conftest import RATE, TONES, build_bank, hz, sound, tone
from played import Played, play

from cirlib.data.mixtures import MixtureDataset, fade_out
from cirlib.data.note_statistics import default_pitch
from cirlib.data.scores import SCALES, cumulative, draw, rhythm, slots
from cirlib.data.taxonomy import MIXTURE_FAMILIES, family

PERCUSSION, BASS, LEAD = range(3)
MELODIC = {2: 0.1, 1: 0.3, 0.5: 0.3, 0.25: 0.3}
RHYTHMS = {  # quarters: probability
    ("Chromatic Percussion", "strict"): {1: 0.8, 0.5: 0.2},
    ("Chromatic Percussion", "paper"): {1: 0.8, 0.5: 0.2},
    ("Bass", "strict"): {2: 0.45, 1: 0.4, 0.5: 0.1, 0.25: 0.05},
    **dict.fromkeys([("Bass", "paper"), ("Synth Lead", "strict"), ("Synth Lead", "paper"), ("Piano", "strict")], MELODIC),
}


@pytest.fixture(scope="module")
def played(tone_bank):
    """80 mixtures of 6 s."""
    return play(MixtureDataset(tone_bank, size=80, seconds=6), 80)


@pytest.fixture(scope="module")
def flat_bank(tmp_path_factory):
    """Constant sounds: a track is its envelope. Bass is longer than any slot, the others are shorter than any."""
    sounds = []
    for name, seconds in zip(MIXTURE_FAMILIES, (0.05, 3.0, 0.05), strict=True):
        audio = np.full(round(seconds * RATE), 0.5)
        sounds += [sound(f"flat/{name}", audio, family=name, pitch=float(p)) for p in range(48, 60)]
    return build_bank(tmp_path_factory.mktemp("flat") / "bank", sounds)


def tones_of(p: Played, track: int):
    """(slot, measured pitch or None for a rest) of a track; without the last slot, which may be too short."""
    low, seconds = TONES[MIXTURE_FAMILIES[track]]
    time = np.arange(RATE)
    waves = np.exp(-2j * np.pi * np.array([[hz(low + k)] for k in range(12)]) * time / RATE)
    jitter, (starts, ends) = 0.02 * p.quarters[track] + 1, p.slots[track]
    for k in range(len(starts) - 1):
        until = min(starts[k] + round(seconds * RATE), ends[k]) - jitter
        part = p.tracks[track, int(starts[k] + jitter) : int(until)]  # sounds whatever the jitter, if it sounds
        loud = np.abs(part).max() > 0.1 * np.abs(p.tracks[track]).max()
        yield k, low + np.abs(waves[:, : len(part)] @ part).argmax() if loud else None


# Rhythm


@pytest.mark.parametrize(("name", "protocol"), RHYTHMS)
def test_slots(name, protocol):
    """Lengths of the family's rhythm, with its probabilities, fill the track without a gap; the last one is cut."""
    rng, quarter, lengths = np.random.default_rng(0), 9600.7, []
    for samples in [100, 30000, *rng.integers(100_000, 200_000, 400)]:
        starts, ends = slots(rhythm(name, protocol), quarter=quarter, samples=samples, rng=rng)
        assert (starts[0], ends[-1]) == (0, samples)
        np.testing.assert_array_equal(starts[1:], ends[:-1])
        whole = np.round((ends - starts)[:-1] / quarter * 4) / 4
        exact = np.concatenate([[0], np.cumsum(whole)]) * quarter
        assert np.abs(starts - exact).max() <= 0.5  # rounding does not accumulate
        assert 0 < ends[-1] - starts[-1] <= 2 * quarter + 1
        lengths += list(whole)
    counts = Counter(lengths)
    expected = RHYTHMS[name, protocol]
    assert counts.keys() == expected.keys()
    for length, probability in expected.items():  # short ones come a little more often: longer ones are cut
        assert counts[length] / len(lengths) == pytest.approx(probability, abs=0.04)


def test_slots_that_fill_a_track_exactly():
    """No slot of no length follows."""
    starts, ends = slots(((1, 1.0),), quarter=100.0, samples=1000, rng=np.random.default_rng(0))
    assert starts.tolist() == list(range(0, 1000, 100)) and ends.tolist() == list(range(100, 1001, 100))


def test_tempo(played):
    """60 to 140 beats per minute, one tempo for all tracks."""
    assert all(len(set(p.quarters)) == 1 for p in played)
    tempo = np.array([60 * RATE / p.quarters[0] for p in played])
    assert 60 <= tempo.min() < 70
    assert 130 < tempo.max() <= 140
    assert tempo.mean() == pytest.approx(100, abs=6)


def test_onsets_are_humanised(played):
    """Within 2% of a quarter of the grid, on either side of it, and not accumulating."""
    deviations = []
    for p in played:
        track, (starts, _) = np.abs(p.tracks[PERCUSSION]), p.slots[PERCUSSION]
        for start in starts[1:-1]:
            before = int(start - 0.03 * p.quarters[0])
            onset = before + np.argmax(track[before:] > 0.1 * track.max())
            deviations.append((onset - start) / p.quarters[0])
    assert np.abs(deviations).max() <= 0.02 + 1e-4
    assert np.quantile(deviations, [0.05, 0.95]) == pytest.approx([-0.018, 0.018], abs=0.002)


def test_percussion_never_rests(played):
    assert all(pitch is not None for p in played for _, pitch in tones_of(p, PERCUSSION))


@pytest.mark.parametrize("track", [BASS, LEAD])
def test_others_rest_in_a_quarter_of_their_slots(played, track):
    rests = [pitch is None for p in played for _, pitch in tones_of(p, track)]
    assert len(rests) > 400
    assert np.mean(rests) == pytest.approx(0.25, abs=0.05)


def test_notes_are_cut_to_their_slot_and_faded(flat_bank):
    """A note longer than its slot lasts as long as the slot, its last 10 ms going to 0: seen on notes between rests."""
    found = 0
    for p in play(MixtureDataset(flat_bank, size=30, seconds=6, protocol="paper"), 30):  # shorter bass slots
        jitter = int(0.02 * p.quarters[0]) + 1
        for start, end in zip(*(x[1:-2] for x in p.slots[BASS]), strict=True):
            around = p.tracks[BASS, start - 2 * jitter : end + 2 * jitter]
            if around[3 * jitter] and not around[0] and not around[-1]:
                loud = np.flatnonzero(around)
                note = around[loud[0] : loud[-1] + 2]  # the ramp ends with a 0
                expected = np.ones(end - start)
                expected[-160:] = np.linspace(1, 0, 160)
                np.testing.assert_allclose(note / note[0], expected, atol=1e-5)
                found += 1
    assert found >= 5


def test_short_notes_are_padded(flat_bank):
    """With silence, and they are not faded."""
    for p in play(MixtureDataset(flat_bank, size=10, seconds=6), 10):
        struck, (starts, _) = p.tracks[PERCUSSION], p.slots[PERCUSSION]
        before_last = struck[: int(starts[-1] - 0.02 * p.quarters[0])]  # the last slot may be too short for it
        assert set(np.unique(before_last)) == {0, struck.max()}
        assert np.count_nonzero(before_last) == round(0.05 * RATE) * (len(starts) - 1)


# Notes


def test_scales():
    """The modes are rotations of the major scale; the minors and the blues scale as music theory has them."""

    def mode(name, degree):
        notes = SCALES[name]
        return tuple(sorted((n - notes[degree]) % 12 for n in notes))

    assert SCALES["major"] == (0, 2, 4, 5, 7, 9, 11)
    modes = {"dorian": 1, "phrygian": 2, "lydian": 3, "mixolydian": 4, "natural minor": 5}
    assert all(SCALES[name] == mode("major", degree) for name, degree in modes.items())
    assert [SCALES[f"{name} minor"] for name in ("harmonic", "melodic")] == [(0, 2, 3, 5, 7, 8, 11), (0, 2, 3, 5, 7, 9, 11)]
    assert [SCALES[name] for name in ("blues", "major pentatonic")] == [(0, 3, 5, 6, 7, 10), (0, 2, 4, 7, 9)]
    assert SCALES["minor pentatonic"] == mode("major pentatonic", 4)
    assert len(SCALES) == 11


def test_all_tracks_play_in_one_scale(played):
    """The pitches measured in a mixture all lie in one scale, transposed; scales and transpositions vary."""
    found, used, kinds = Counter(), Counter(), []
    for p in played:
        classes = {pitch % 12 for track in range(3) for _, pitch in tones_of(p, track) if pitch is not None}
        holding = [(name, root) for name, scale in SCALES.items() for root in range(12) if classes <= {(n + root) % 12 for n in scale}]
        assert holding
        found.update(holding)
        used.update(classes)
        kinds.append({name for name, _ in holding})
    assert len(used) == 12
    assert max(found.values()) < len(played) / 3
    assert min(used.values()) > len(played) / 4
    assert not set.intersection(*kinds)  # no one kind of scale explains all mixtures


def chosen(bank, uid, scale, count):
    """Bank rows of notes drawn for a bass."""
    composer = MixtureDataset(bank, families=["Bass"], size=1)._composer
    rows = composer.choose_notes("Bass", uid, scale=np.array(scale), count=count, rng=np.random.default_rng(0))
    assert set(bank.notes.instrument[rows]) == {uid}
    return rows


def shares(bank, uid, *scale, count=8000):
    """Relative frequency of the pitches that are drawn for a bass."""
    return {pitch: n / count for pitch, n in Counter(bank.pitches[chosen(bank, uid, scale, count)]).items()}


def test_pitches_follow_the_family(tmp_path):
    """Among its notes in the scale; all alike where the family has no mass; any note if none is in the scale."""
    low, _, top = family("Bass").pitch
    wide = [sound("wide", tone(p), pitch=float(p)) for p in range(low - 5, top + 6)]
    high = [sound("high", tone(p), pitch=float(p)) for p in (96, 98, 99, 101)]
    unknown = [sound("unknown", tone(60), pitch=None, velocity=None) for _ in range(3)]
    bank = build_bank(tmp_path / "bank", wide + high + unknown)
    mass = {p: default_pitch("Bass")[p] for p in range(low, top + 1) if p % 12 in (0, 4, 7)}
    expected = {p: m / sum(mass.values()) for p, m in mass.items()}
    assert shares(bank, "wide", 0, 4, 7) == pytest.approx(expected, abs=0.02)
    assert max(expected.values()) > 2 * min(expected.values())
    assert shares(bank, "high", 0, 3, 5) == pytest.approx({96: 1 / 3, 99: 1 / 3, 101: 1 / 3}, abs=0.02)
    assert shares(bank, "high", 6) == pytest.approx(dict.fromkeys((96, 98, 99, 101), 0.25), abs=0.02)
    assert set(chosen(bank, "unknown", range(12), 100)) == set(bank.notes.index[-3:])


def test_score_gives_the_stems(tone_bank):
    """Played by hand, note by note, it gives the stems; all notes lie in the track; references only where they are asked for."""
    data = MixtureDataset(tone_bank, size=12, seconds=1.5)
    for i in range(12):
        score, m = data.score(i), data[i]
        assert ([(t.family, t.instrument) for t in score.tracks], len(score.references)) == (data.plan(i), 3)
        assert data.score(i, references=False).references == []
        for track, stem in zip(score.tracks, m.stems, strict=True):
            assert set(tone_bank.notes.instrument[track.rows]) == {track.instrument}
            assert min(track.onsets) >= 0 and max(np.add(track.onsets, track.lengths)) <= data.samples
            rendered = np.zeros(data.samples, np.float32)
            for row, onset, length in track:
                note = tone_bank.audio(row, length)
                fade_out(note, 160 if length < tone_bank.lengths[row] else 0)
                rendered[onset : onset + len(note)] += note
            rendered = np.concatenate([np.zeros(score.delay), rendered])[: data.samples]
            scale = np.abs(stem).max() / np.abs(rendered).max()
            np.testing.assert_allclose(scale * rendered, stem, atol=1e-5)


@pytest.mark.parametrize("p", [[1.0], [0.25, 0.5, 0.25], [0.0, 0.3, 0.0, 0.7, 0.0], list(np.full(90, 1 / 90))])
def test_draws_equal_those_of_numpy(p):
    values = np.arange(len(p)) * 10
    drawn = draw(values, cumulative(7 * np.array(p)), 500, np.random.default_rng(5))
    np.testing.assert_array_equal(drawn, np.random.default_rng(5).choice(values, 500, p=p))
