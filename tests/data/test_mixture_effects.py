"""Training mixtures with random effects: only the mixture changes, and it depends on seed and index only."""

import numpy as np
import pytest

from cirlib.data.mixtures import PEAK, MixtureDataset

OPTIONS = {"split": "train", "size": 40, "seed": 3, "seconds": 1.0}


def test_effects_change_that_share_of_the_mixtures(tone_bank):
    plain, half, all_of_them = (MixtureDataset(tone_bank, **OPTIONS, effects=share) for share in (0.0, 0.5, 1.0))
    changed = 0
    for a, b in zip(plain, half, strict=False):
        assert a.instruments == b.instruments
        np.testing.assert_array_equal(a.stems, b.stems)
        np.testing.assert_array_equal(a.references, b.references)
        assert np.abs(b.mixture).max() == pytest.approx(PEAK, abs=1e-4)
        changed += not np.array_equal(a.mixture, b.mixture)
    assert 8 <= changed <= 28  # half of them, but for those with no effect drawn
    assert sum(not np.array_equal(plain[i].mixture, all_of_them[i].mixture) for i in range(40)) > changed


def test_effects_depend_on_seed_and_index_only(tone_bank):
    one, other = (MixtureDataset(tone_bank, **OPTIONS, effects=1.0) for _ in range(2))
    got = one.batch([7, 2])[0]
    np.testing.assert_array_equal(other[2].mixture, got[1])
    np.testing.assert_array_equal(other[7].mixture, got[0])


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_effects_must_be_a_share(tone_bank, share):
    with pytest.raises(ValueError, match=rf"^effects must be a share, 0 to 1, got {share}$"):
        MixtureDataset(tone_bank, **OPTIONS, effects=share)
