"""The split of labelled chains: training and test set contain every class and share no sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protemb_sdk import Chain, read_chain
from protemb_train.downstream.labels.table import LabelError, Labelled, LabelTable
from protemb_train.downstream.labels.training import sides_of


@pytest.fixture(scope="module")
def model(structures: Path) -> Chain:
    return read_chain(structures / "1orc.pdb")


def table_of(model: Chain, sequences: Sequence[str], classes: Sequence[str]) -> LabelTable:
    """Sequences on parts of one structure, each with a class."""
    names = tuple(sorted(set(classes)))
    chains = []
    for n, (sequence, name) in enumerate(zip(sequences, classes, strict=True)):
        part = {
            field: getattr(model, field)[: len(sequence)]
            for field in (
                "ca_coords",
                "residue_index",
                "auth_seq",
                "insertion_code",
                "label_seq",
                "residue_name",
            )
        }
        chain = replace(model, name=str(n), sequence=sequence, **part)
        chains.append(Labelled(chain, np.array([float(names.index(name))])))
    return LabelTable("protein", names, chains, 0)


def strangers(count: int) -> list[str]:
    rng = np.random.default_rng(1)
    return ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 60)) for _ in range(count)]


@pytest.mark.parametrize("rare", [2, 3, 5])
def test_every_class_is_in_the_training_and_the_test_set(model: Chain, rare: int) -> None:
    sequences = strangers(20)
    for start in range(4):
        classes = ["ab"[n % 2] for n in range(20)]
        classes[start : start + rare] = ["rare"] * rare
        table = table_of(model, sequences, classes)
        sides = sides_of(table)
        assert sorted(n for side in sides for n in side) == list(range(20))
        for side in (sides[0], sides[2]):
            assert {classes[n] for n in side} == {"a", "b", "rare"}


def test_a_class_with_one_family_is_refused(model: Chain) -> None:
    sequences = strangers(20)
    sequences[1] = sequences[0]
    table = table_of(model, sequences, ["rare", "rare", *"ab" * 9])
    with pytest.raises(
        LabelError, match="the chains with label 'rare' form 1 families; at least 2 are required"
    ):
        sides_of(table)


def test_a_class_without_chains_is_refused(model: Chain) -> None:
    table = table_of(model, strangers(20), "ab" * 10)
    with pytest.raises(LabelError, match="label 'c' form 0 families"):
        sides_of(replace(table, classes=("a", "b", "c")))


def test_more_classes_than_test_families_are_refused(model: Chain) -> None:
    with pytest.raises(LabelError, match="no split of 10 families was found"):
        sides_of(table_of(model, strangers(10), "aabbccddee"))


@pytest.mark.parametrize("sequence", ["SAGTSAGTS", "SAGTSAGTSAGT", "X" * 40])
def test_equal_sequences_are_in_the_same_set(model: Chain, sequence: str) -> None:
    """The sequences are too short for an alignment, or consist of unknown residues."""
    table = table_of(model, [*strangers(14), *[sequence] * 6], "ab" * 10)
    assert sum(bool(set(side) & set(range(14, 20))) for side in sides_of(table)) == 1
