from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from protemb_train.corpus.corpus import CorpusError
from protemb_train.network.presets import BASE_1, BASE_1_TRAINING, PAPER, PAPER_TRAINING
from protemb_train.pretrain.crops import CropBatches, WholeChains, sphere, two_windows, window

SMALL = replace(BASE_1_TRAINING, batch=16, crops=(8, 16))


def walk(length, seed):
    return np.cumsum(np.random.default_rng(seed).normal(size=(length, 3)), axis=0)


@pytest.fixture
def corpus(make_corpus):
    """Cluster 0 has 30 chains, clusters 1 to 9 have one. All residues of a cluster have the same type."""
    letters = "ACDEFGHIKL"
    clusters = [0] * 30 + list(range(1, 10))
    return make_corpus([(letters[c] * 40, walk(40, i), c) for i, c in enumerate(clusters)])


def test_a_batch_depends_only_on_seed_and_step(corpus):
    here, there = (
        CropBatches(corpus, BASE_1, SMALL, seed=3),
        CropBatches(corpus, BASE_1, SMALL, seed=3, start=5),
    )
    here.batch(2)
    for stream in (there, CropBatches(corpus, BASE_1, SMALL, seed=3, start=5)):
        first = next(iter(stream))
        for name, tensor in here.batch(5).items():
            assert torch.equal(tensor, first[name]), name
    assert not torch.equal(here.batch(5)["sigma"], here.batch(6)["sigma"])
    other = CropBatches(corpus, BASE_1, SMALL, seed=4).batch(5)
    assert not torch.equal(other["sigma"], here.batch(5)["sigma"])


def test_all_crop_sizes_give_batches_of_equal_cost(corpus):
    stream = CropBatches(corpus, BASE_1, SMALL, seed=0)
    shapes = {stream.batch(step)["types"].shape for step in range(20)}
    assert shapes == {(16, 8), (4, 16)}
    batch = stream.batch(0)
    length = batch["types"].shape[1]
    assert batch["coords"].shape == batch["noisy"].shape == (len(batch["sigma"]), length, 3)
    assert batch["coords"].dtype == torch.float32 and batch["index"].dtype == torch.int64
    assert batch["coords"].mean(dim=1).abs().max() < 1e-4


def test_a_batch_of_the_paper_has_32_crops_of_32_residues_at_all_levels(make_corpus):
    corpus = make_corpus([("A" * 40, walk(40, i), i) for i in range(40)])
    batch = CropBatches(corpus, PAPER, PAPER_TRAINING, seed=0).batch(0)
    assert batch["types"].shape == (32, 32)
    assert len(set(batch["sigma"].tolist())) == 32
    assert (batch["index"].diff(dim=1) == 1).all()


@given(size=st.integers(1, 60), extra=st.integers(0, 100), seed=st.integers(0, 1000))
def test_windows_are_within_the_chain(size, extra, seed):
    rng = np.random.default_rng(seed)
    one = window(size + extra, size, rng)
    assert len(one) == size and (np.diff(one) == 1).all() and one[0] >= 0 and one[-1] < size + extra
    two = two_windows(size + extra, size, rng)
    assert len(two) == size and (np.diff(two) >= 1).all() and two[0] >= 0 and two[-1] < size + extra
    assert (np.diff(two) > 1).sum() <= 1


def test_crops_cover_every_position_of_a_chain():
    rng = np.random.default_rng(0)
    for crop in (window, two_windows):
        assert set(np.concatenate([crop(20, 8, rng) for _ in range(300)])) == set(range(20))


def test_a_sphere_contains_the_nearest_residues_in_chain_order(traces):
    coords = traces[0].ca_coords
    rng = np.random.default_rng(0)
    kept = sphere(coords, 20, rng)
    assert len(set(kept)) == 20 and (np.diff(kept) > 0).all()
    distance = np.linalg.norm(coords[:, None] - coords[kept], axis=-1)
    outside = np.setdiff1d(np.arange(len(coords)), kept)
    # One of the residues kept is the centre: no residue outside is closer to it than a residue inside.
    assert any(distance[kept, c].max() <= distance[outside, c].min() for c in range(20))


def test_kinds_of_crops_are_sampled_with_the_given_fractions(make_corpus):
    corpus = make_corpus([("A" * 200, walk(200, i), i) for i in range(20)])
    config = replace(SMALL, crops=(16,), two_windows=0.3, sphere=0.2)
    stream = CropBatches(corpus, BASE_1, config, seed=0)
    index = torch.cat([stream.batch(step)["index"] for step in range(40)])
    gaps = (index.diff(dim=1) > 1).sum(dim=1)
    assert (gaps <= 1).float().mean().item() == pytest.approx(0.8, abs=0.06)
    assert (gaps == 0).float().mean().item() == pytest.approx(0.5, abs=0.06)


def test_chains_have_equal_weight_when_sampling_by_chain(corpus):
    config = replace(SMALL, batch=13, crops=(8,), mask_types=0.0, draw="chain")
    stream = CropBatches(corpus, BASE_1, config, seed=0)
    types = torch.cat([stream.batch(step)["types"][:, 0] for step in range(100)])
    assert (types == 0).float().mean().item() == pytest.approx(30 / 39, abs=0.03)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")  # with a single core
def test_batches_of_several_workers_and_ranks(corpus):
    """Workers produce the batches of one process in turn; ranks draw different batches."""
    stream = CropBatches(corpus, BASE_1, SMALL, seed=0, start=3)
    batches = iter(torch.utils.data.DataLoader(stream, batch_size=None, num_workers=2))
    for step in range(3, 8):
        assert torch.equal(next(batches)["noisy"], stream.batch(step)["noisy"])
    other = CropBatches(corpus, BASE_1, SMALL, seed=0, rank=1)
    assert not torch.equal(other.batch(3)["sigma"], stream.batch(3)["sigma"])


def test_validation_uses_every_level_on_whole_chains(make_corpus):
    corpus = make_corpus([("A" * (60 + i), walk(60 + i, i), i // 2) for i in range(20)])
    chains = WholeChains(corpus, BASE_1, lengths=(60, 76))
    assert len(chains) == 9  # one per cluster, within the lengths
    batches = [chains[i] for i in range(len(chains))]
    assert len({batch["types"].shape[1] for batch in batches}) == 9
    levels = torch.cat([batch["sigma"] for batch in batches[:4]])
    assert len(set(levels.tolist())) == BASE_1.noise_levels
    again = WholeChains(corpus, BASE_1, lengths=(60, 76))
    assert all(torch.equal(again[i]["noisy"], batches[i]["noisy"]) for i in range(9))


def test_clusters_have_equal_weight_when_sampling_by_cluster(corpus):
    config = replace(SMALL, batch=4, crops=(8,), mask_types=0.0)
    stream = CropBatches(corpus, BASE_1, config, seed=0)
    types = torch.cat([stream.batch(step)["types"][:, 0] for step in range(500)])
    share = torch.bincount(types, minlength=10)[:10] / len(types)
    assert ((share - 0.1).abs() < 0.03).all(), share


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_residue_types_are_masked_at_the_given_rate(corpus, rate):
    stream = CropBatches(corpus, BASE_1, replace(SMALL, mask_types=rate), seed=0)
    masked = torch.cat([(stream.batch(step)["types"] == 20).flatten() for step in range(40)]).float().mean()
    assert masked.item() == pytest.approx(rate, abs=0.03)


def test_unchanged_types_are_predicted_as_often_as_swapped_types(corpus):
    stream = CropBatches(corpus, BASE_1, replace(SMALL, mask_types=0.2, swap_types=0.1), seed=0)
    batches = [stream.batch(step) for step in range(60)]
    shown, true, asked = (
        torch.cat([b[k].flatten() for b in batches]) for k in ("types", "true_types", "asked")
    )
    hidden, wrong = shown == 20, (shown != 20) & (shown != true)
    assert asked[hidden | wrong].all()
    for part, share in ((hidden, 0.2), (wrong, 0.1), (asked & ~hidden & ~wrong, 0.1)):
        assert part.float().mean().item() == pytest.approx(share, abs=0.02)


def test_a_corpus_of_short_chains_is_refused(corpus):
    with pytest.raises(CorpusError, match=r"as long as a crop of 64 residues \(the longest has 40\)"):
        CropBatches(corpus, BASE_1, BASE_1_TRAINING, seed=0)
