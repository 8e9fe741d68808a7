"""The objective of the local geometry: its classes, and its gradient."""

from __future__ import annotations

from dataclasses import replace

import biotite.structure as struc
import numpy as np
import pytest
import torch

from protemb_train.network.presets import BASE, MESSAGES_TRAINING
from protemb_train.pretrain.auxiliary import StepBatches
from protemb_train.pretrain.local_geometry import (
    CLASSES,
    DISTANCES,
    NEAR,
    QUANTITIES,
    UNDEFINED,
    local_geometry,
)
from protemb_train.pretrain.objective import Pretraining


def as_batch(trace):
    return tuple(
        torch.from_numpy(np.array(values))[None] for values in (trace.ca_coords, trace.residue_index)
    )


def expected(coords, index, i):
    """The classes of residue i, by Biotite and by definition."""
    found = []
    for span, low, high in (*DISTANCES, (3, None, None)):
        for j in range(i - NEAR, i + NEAR - span + 1):
            inside = j >= 0 and j + span < len(index)
            if not inside or index[j + span] - index[j] != span:
                found.append(UNDEFINED)
                continue
            if low is None:
                share = struc.dihedral(*coords[j : j + 4]) / (2 * np.pi) + 0.5
            else:
                share = (np.linalg.norm(coords[j + span] - coords[j]) - low) / (high - low)
            found.append(int(np.clip(np.floor(share * CLASSES), 0, CLASSES - 1)))
    return found


def test_classes_are_those_of_distances_and_dihedral_angles(traces):
    for trace in traces[:3]:
        coords, index = as_batch(trace)
        classes = local_geometry(coords, index)[0].numpy()
        assert classes.shape == (len(trace.residue_index), QUANTITIES)
        for i in range(0, len(classes), 7):
            theirs = np.array(expected(trace.ca_coords.astype(np.float64), trace.residue_index, i))
            assert np.array_equal(classes[i] == UNDEFINED, theirs == UNDEFINED)
            assert (classes[i] == theirs).mean() > 0.95  # float32 at the border of two classes
        assert (classes[len(classes) // 2] != UNDEFINED).all()


def test_a_break_makes_what_crosses_it_undefined(traces):
    coords, index = as_batch(traces[0])
    index[:, 20:] += 5
    classes = local_geometry(coords, index)[0]
    assert (classes[19] == UNDEFINED).any() and (classes[26] != UNDEFINED).all()
    assert not (classes[:, 0] == UNDEFINED).all()


@pytest.mark.parametrize("length", range(1, 6))
def test_short_chains_have_classes_where_they_are_defined(traces, length):
    coords, index = as_batch(traces[0])
    classes = local_geometry(coords[:, :length], index[:, :length])
    assert classes.shape == (1, length, QUANTITIES)
    assert (classes != UNDEFINED).any() == (length > 2)


def test_the_objective_trains_the_states(real_corpus):
    """With random weights the loss is about that of a uniform prediction, and it has a gradient."""
    recipe = replace(MESSAGES_TRAINING, pieces=1, chains=1, longest=120, geometry_loss=1.0)
    module = Pretraining(real_corpus, real_corpus, BASE, recipe, 10, 0, {})
    logged = {}
    module.log = lambda name, value, **options: logged.update({name: float(value)})
    module.training_step(StepBatches(real_corpus, BASE, recipe, 0).batch(0), 0).backward()
    assert 0.9 < logged["geometry_loss"] < 1.3
    assert module.geometry_head.weight.grad.abs().sum() > 0
