"""Tasks: what a batch holds, what the loss compares, and how each is validated; baselines that use an encoder for single sounds."""

import dataclasses

import numpy as np
import pytest
import torch

from cirlib.data.mixtures import load_sound
from cirlib.data.taxonomy import MIXTURE_FAMILIES
from cirlib.evaluation.protocol import Retriever, embed_mixtures, embed_test
from cirlib.evaluation.ranking import ranks
from cirlib.models.encoder import AudioEncoder
from cirlib.training import losses, tasks
from cirlib.training.loop import fit
from cirlib.training.tasks import make_task


@pytest.fixture
def single(config):
    """Return a trained encoder for single sounds, and the settings of a row that uses it."""
    row = dataclasses.replace(config, task="single", loss="infonce", experiment="single-infonce", steps=2)
    return fit(row, show=False), row


def task_of(row, bank, name, **changes):
    return make_task(dataclasses.replace(row, task=name, loss=losses.LOSSES[name][-1], experiment=name, **changes), bank)


def test_batch_of_mixtures_sums_up_and_names_its_families(config, tone_bank):
    task = make_task(dataclasses.replace(config), tone_bank)
    batch = task.batch(0)
    dataset, indices = task.steps.batch(0)
    for k, i in enumerate(indices):
        torch.testing.assert_close(batch["mixtures"][k], torch.from_numpy(dataset[i].mixture))
        torch.testing.assert_close(batch["references"][k], torch.from_numpy(dataset[i].references))
        assert [dataset.families[f] for f in batch["families"][k]] == dataset[i].families
    assert batch["mixtures"].shape == (3, 8000) and batch["references"].shape == (3, 3, 8000)


def test_mixture_loss_is_that_of_the_embeddings(config, tone_bank):
    task = make_task(dataclasses.replace(config), tone_bank)
    encoder, batch = task.model().eval(), task.batch(0)
    stems = torch.stack([encoder(group) for group in batch["references"]])
    mixtures, temperature = encoder(batch["mixtures"]), task.config.temperature
    expected = losses.mixture_loss("multi-infonce", stems, mixtures, batch["families"], temperature=temperature)
    torch.testing.assert_close(task.loss(encoder, batch), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("single_pairs", [0, 2])
def test_batch_of_a_family_run(config, tone_bank, single_pairs):
    """Mixtures, two notes of each of their instruments, and single_pairs of other families; the loss asks each part for its own."""
    row = dataclasses.replace(
        config,
        task="family",
        loss="family-infonce",
        families=MIXTURE_FAMILIES[:2],
        batch_size=14 + 2 * single_pairs,
        single_pairs=single_pairs,
    )
    task = make_task(row, tone_bank)
    batch, (dataset, indices, named, rows) = task.batch(1), task.steps.batch(1)
    assert task.sounds(batch).shape == (14 + 2 * single_pairs, 8000) and len(indices) == 6 and len(named) == 4
    uids = tone_bank.instruments.index
    for k, i in enumerate(indices):
        item = dataset[i]
        torch.testing.assert_close(batch["mixtures"][k], torch.from_numpy(item.mixture))
        assert [uids[int(n)] for n in batch["members"][k]] == item.instruments
    for k, (name, uid) in enumerate(named):
        assert uids[int(batch["instruments"][k])] == uid and dataset.families[batch["families"][k]] == name
        for side in (0, 1):
            np.testing.assert_array_equal(batch["references"][side, k], load_sound(tone_bank, rows[side, k], samples=8000))
    if single_pairs:
        others = task.pairs.batch(1)
        assert set(tone_bank.notes.family[others.ravel()]) == {MIXTURE_FAMILIES[2]}
        np.testing.assert_array_equal(batch["single_pairs"][1, 0], load_sound(tone_bank, others[0, 1], samples=8000))

    encoder = task.model().eval()
    first, second, mixtures = (encoder(x).reshape(len(x), 4, -1) for x in (*batch["references"], batch["mixtures"]))
    own = torch.cat([notes[torch.arange(4), 2 + batch["families"]] for notes in (first, second)])
    families, instruments = (batch[name].repeat(2) for name in ("families", "instruments"))
    found = losses.family_infonce(own, families, instruments, mixtures[:, 2:], members=batch["members"], temperature=row.temperature)
    sides, any_family = [first[:, 0], second[:, 0]], [first[:, 1], second[:, 1]]
    if single_pairs:
        others = [encoder(sounds).reshape(len(sounds), 4, -1) for sounds in batch["single_pairs"]]
        sides = [torch.cat([side, other[:, 0]]) for side, other in zip(sides, others, strict=True)]
        any_family += [other[:, 1] for other in others]
        instruments = torch.cat([instruments, torch.full((2 * len(others[0]),), -1)])
    notes = torch.cat(any_family)
    one_family, options = torch.zeros(len(notes), dtype=int), {"members": batch["members"], "temperature": row.temperature}
    mix = losses.family_infonce(notes, one_family, instruments, mixtures[:, 1:2], **options)
    expected = found + tasks.MIX_WEIGHT * mix + losses.pair_loss("infonce", *sides, row.temperature)
    torch.testing.assert_close(task.loss(encoder, batch), expected)


def test_effects_on_one_of_two_notes(config, tone_bank):
    """single_effects changes notes of the first side alone, in references and pairs, the same way each time."""
    changes = {"task": "family", "loss": "family-infonce", "families": MIXTURE_FAMILIES[:2], "batch_size": 18, "single_pairs": 2}
    row = dataclasses.replace(config, **changes)
    clean, changed, again = (make_task(dataclasses.replace(row, single_effects=share), tone_bank).batch(3) for share in (0, 1, 1))
    for name in ("references", "single_pairs"):
        assert (clean[name][0] != changed[name][0]).any(dim=1).sum() > len(clean[name][0]) / 2  # each effect is applied by chance
        torch.testing.assert_close(changed[name][1], clean[name][1], rtol=0, atol=0)
        torch.testing.assert_close(again[name], changed[name], rtol=0, atol=0)
    torch.testing.assert_close(changed["mixtures"], clean["mixtures"], rtol=0, atol=0)


def test_heads_of_absent_families_get_no_gradient(config, tone_bank):
    """With max_instruments, each step has mixtures of some of the families; the loss uses their heads only."""
    changes = {"batch_size": 14, "mixtures_per_instrument": 2, "max_instruments": 2}
    row = dataclasses.replace(config, task="family", loss="family-infonce", **changes)
    task, numbers = make_task(row, tone_bank), set()
    encoder = task.model().eval()
    for step in range(6):
        batch = task.batch(step)
        playing = set(batch["families"].tolist())
        numbers.add(len(playing))
        assert batch["members"].shape == (2 * len(batch["instruments"]) // len(playing), len(playing))
        vectors = encoder(task.sounds(batch)).detach().requires_grad_()
        task.objective(vectors, batch).backward()
        learned = vectors.grad.reshape(len(vectors), 5, -1).abs().amax(dim=(0, 2)) > 0  # heads: single, mix and three families
        assert learned.tolist() == [True, True, *(k in playing for k in range(3))]
    assert numbers == {1, 2}
    assert {len(row.mixtures(tone_bank, "valid", 4, 0).plan(i)) for i in range(4)} == {2}


@pytest.mark.parametrize(
    "values", [{"batch_size": 12}, {"batch_size": 16, "task": "family", "loss": "family-infonce", "mixtures_per_instrument": 2}]
)
def test_effects_change_training_mixtures_only(config, tone_bank, values):
    plain = dataclasses.replace(config, **values)
    row = dataclasses.replace(plain, effects=1.0)
    one, other = (make_task(c, tone_bank).batch(1) for c in (plain, row))
    assert {name for name, value in one.items() if not torch.equal(value, other[name])} == {"mixtures"}
    assert row.mixtures(tone_bank, "valid", 4, 0).effects == 0


def test_family_run_is_validated_by_its_family_heads(config, tone_bank):
    """A readout whose family parts know nothing ranks mixtures as chance does; single sounds are compared by the part for them."""
    task = make_task(dataclasses.replace(config, task="family", loss="family-infonce", batch_size=18, mixtures_per_instrument=3), tone_bank)
    retriever = task.retriever(task.model().eval())
    assert retriever.heads == embed_test(retriever, tone_bank, task.config).heads == MIXTURE_FAMILIES
    validation = task.validation()
    assert 0 < validation(retriever)["mrr"] <= 1
    items, metric = validation.items, task.config.metric
    gallery = retriever.notes(tone_bank, items.reference.to_numpy())
    vectors, truth = embed_mixtures(retriever, validation.dataset)
    size, by_part = gallery.shape[1] // 5, []
    for place, family in enumerate(MIXTURE_FAMILIES, 2):
        inside, asked = (items.family == family).to_numpy(), truth[truth.family == family]
        columns = slice(place * size, (place + 1) * size)
        position = items.index[inside].get_indexer(asked.instrument)
        by_part.append(ranks(vectors[asked["query"], columns], gallery[inside][:, columns], position, metric=metric))
    assert validation(retriever)["mrr"] == pytest.approx((1 / (1 + np.concatenate(by_part))).mean())


def test_pairs_are_two_sounds_of_one_instrument(single, tone_bank):
    _, row = single
    task = make_task(row, tone_bank)
    rows, sounds = task.steps.batch(0), task.batch(0)["sounds"]
    assert sounds.shape == (2, 6, 8000)
    for k, (a, b) in enumerate(rows):
        np.testing.assert_array_equal(sounds[0, k], load_sound(tone_bank, a, samples=8000))
        np.testing.assert_array_equal(sounds[1, k], load_sound(tone_bank, b, samples=8000))
    encoder = task.model().eval()
    expected = losses.pair_loss("infonce", encoder(sounds[0]), encoder(sounds[1]), task.config.temperature)
    torch.testing.assert_close(task.loss(encoder, {"sounds": sounds}), expected, rtol=1e-4, atol=1e-5)


def test_targets_of_a_classifier_match_its_sounds(single, tone_bank):
    _, row = single
    task = make_task(dataclasses.replace(row, task="classify", loss="instrument"), tone_bank)
    rows, batch = task.steps.batch(0), task.batch(0)
    for k, i in enumerate(rows):
        np.testing.assert_array_equal(batch["sounds"][k], load_sound(tone_bank, i, samples=8000))
        assert task.labels[batch["targets"][k]] == tone_bank.notes.instrument[i].removesuffix("_no_fx")


def test_twins_are_in_batches_only_if_augmented(single, tone_bank):
    _, row = single
    twins = set(tone_bank.notes.index[tone_bank.notes.augments.notna()])
    for name in ("single", "classify"):
        drawn = {True: set(), False: set()}
        for augmented, rows in drawn.items():
            task = task_of(row, tone_bank, name, augmented=augmented, batch_size=12)
            for step in range(60):
                rows |= set(np.ravel(task.steps.batch(step)))
        assert drawn[True] & twins and not drawn[False] & twins


def test_multi_encoder_predicts_single_embeddings(single, tone_bank):
    run, row = single
    task = task_of(row, tone_bank, "multi-encoder")
    model, batch = task.model().eval(), task.batch(0)
    teacher = AudioEncoder.load(run.checkpoint)
    targets = teacher(batch["references"].flatten(0, 1)).reshape(3, 3, -1)
    predicted = model(batch["mixtures"], outputs=True).reshape(3, 3, -1)
    expected = (1 - torch.nn.functional.cosine_similarity(predicted, targets, dim=2)).mean()
    torch.testing.assert_close(task.loss(model, batch), expected, rtol=1e-4, atol=1e-5)
    task.loss(model, batch).backward()
    assert all(p.grad is None for p in task.single.parameters()) and model.classifier.dense.weight.grad.abs().max() > 0
    vectors = task.retriever(model).mixtures(batch["mixtures"].numpy())
    np.testing.assert_allclose(vectors, predicted.detach(), atol=1e-4)
    np.testing.assert_allclose(task.retriever(model).notes(tone_bank, [0, 5]), Retriever(teacher).notes(tone_bank, [0, 5]), atol=1e-5)


@pytest.mark.parametrize("name", ["mfcc", "timbre-toolbox", "demucs"])
def test_untrained_baselines_name_their_notebook(single, tone_bank, name):
    _, row = single
    with pytest.raises(ValueError, match=rf"{name} is not trained: run notebooks/05_baselines.ipynb with method={name}"):
        task_of(row, tone_bank, name)


def test_loaded_models_are_on_the_best_device(single, tone_bank, monkeypatch):
    """Both the model and the encoder for single sounds; `meta` replaces a GPU."""
    _, row = single
    task = task_of(row, tone_bank, "multi-encoder")
    path = task.model().save(row.folder / "model.pt")
    monkeypatch.setattr(tasks, "best_device", lambda: "meta")
    model = task.load(path)
    assert {p.device.type for p in model.parameters()} == {task.retriever(model).encoder.device.type} == {"meta"}
