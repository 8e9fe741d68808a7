import math

import numpy as np
from numpy.testing import assert_array_equal

from protemb_sdk._structure.chain import ALPHABET
from protemb_train.corpus.corpus import Trace
from protemb_train.probe.labels import (
    TASKS,
    half_sphere_exposure,
    labels,
    neighbour_count,
    secondary_structure,
)


def ideal_helix(length):
    i = np.arange(length)
    turn = np.deg2rad(100) * i
    return np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * i], axis=1)


def test_secondary_structure_of_a_known_fold(traces):
    """Cro repressor (1orc), compared with the HELIX and SHEET records of the entry."""
    cro = next(t for t in traces if t.id.startswith("1orc"))
    found = secondary_structure(cro.ca_coords, cro.residue_index)
    assert_array_equal(np.unique(found[:35]), [0, 2])
    for first, last in ((7, 14), (16, 23), (27, 35)):  # the chain starts at residue 3
        assert (found[first - 3 : last - 2] == 0).mean() > 0.8
    for first, last in ((39, 44), (50, 56)):
        assert (found[first - 3 : last - 2] == 1).mean() > 0.8


def test_secondary_structure_of_an_ideal_helix_and_strand():
    i = np.arange(14)
    assert (secondary_structure(ideal_helix(14), i)[1:-2] == 0).all()
    strand = np.stack([0.9 * (-1.0) ** i, 0.0 * i, 3.3 * i], axis=1)
    assert (secondary_structure(strand, i)[1:-2] == 1).all()


def test_secondary_structure_ends_at_a_chain_break():
    """The two halves of a broken helix keep their classes, for a break in numbering or in space."""
    i, helix = np.arange(24), ideal_helix(24)
    apart = helix + np.where(i < 12, 0.0, 30.0)[:, None]
    halves = np.concatenate([secondary_structure(helix[part], i[:12]) for part in (i[:12], i[12:])])
    assert (halves == 0).sum() >= 20
    for coords, index in ((apart, i), (apart, i + 5 * (i >= 12)), (helix, i + 5 * (i >= 12))):
        assert_array_equal(secondary_structure(coords, index), halves)


def test_exposure_and_neighbour_count_equal_a_simple_loop(traces):
    ca, index = traces[0].ca_coords.astype(np.float64), traces[0].residue_index
    exposure, neighbours = half_sphere_exposure(ca, index), neighbour_count(ca)
    assert np.isnan(exposure[[0, -1]]).all() and np.isfinite(exposure[1:-1]).all()
    for i in range(len(ca)):
        within = [j for j in range(len(ca)) if j != i and math.dist(ca[i], ca[j]) < 10]
        assert neighbours[i] == len(within)
        if 0 < i < len(ca) - 1:
            a, b = ca[i] - ca[i - 1], ca[i] - ca[i + 1]
            side_chain = a / math.hypot(*a) + b / math.hypot(*b)
            up = sum(
                math.dist(ca[i], ca[j]) < 13 and float(np.dot(ca[j] - ca[i], side_chain)) > 0
                for j in range(len(ca))
                if j != i
            )
            assert exposure[i] == up


def test_exposure_is_unknown_next_to_a_chain_break(traces):
    ca, index = traces[0].ca_coords, traces[0].residue_index.copy()
    index[20:] += 4
    assert_array_equal(np.flatnonzero(np.isnan(half_sphere_exposure(ca, index))), [0, 19, 20, len(ca) - 1])


def test_unknown_types_have_no_label(traces):
    types = traces[0].residue_type.copy()
    types[5] = ALPHABET.index("X")
    found = labels(Trace("x", traces[0].ca_coords, types, traces[0].residue_index))
    assert set(found) == {task.name for task in TASKS}
    assert_array_equal(np.flatnonzero(np.isnan(found["residue_type"])), [5])
