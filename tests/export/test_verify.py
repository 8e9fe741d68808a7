import numpy as np
import pytest

from protemb_export.errors import ExportError
from protemb_export.verify import chain_of, spread_over_lengths
from protemb_sdk._structure.chain import encode_sequence
from protemb_train.corpus.corpus import Trace


class Lengths:
    """The part of a corpus that the selection of chains uses."""

    def __init__(self, lengths):
        self.lengths, self.path = np.array(lengths), "made.arrow"

    def __getitem__(self, position):
        n = self.lengths[position]
        return Trace(
            str(position),
            np.arange(3 * n, dtype=np.float32).reshape(n, 3),
            np.zeros(n, np.int64),
            np.arange(n),
        )


def test_selected_chains_have_lengths_on_a_logarithmic_scale():
    lengths = [len(c) for c in spread_over_lengths(Lengths(range(1, 2000)), 60)]
    assert len(lengths) == 60 and lengths[0] == 30 and lengths[-1] == 1000
    assert lengths == sorted(set(lengths))
    assert np.median(lengths) == pytest.approx((30 * 1000) ** 0.5, rel=0.1)


@pytest.mark.parametrize("lengths", [[40] * 100, [30, 30, 1000], [35, 500, 20, 1001], list(range(990, 1100))])
def test_selected_chains_are_unique_and_within_the_range(lengths):
    chains = spread_over_lengths(Lengths(lengths), 60)
    fitting = sum(30 <= n <= 1000 for n in lengths)
    assert len(chains) == min(60, fitting)
    assert len({chain.name for chain in chains}) == len(chains)
    assert all(30 <= len(chain) <= 1000 for chain in chains)


def test_a_corpus_without_suitable_chains_is_refused():
    with pytest.raises(ExportError, match=r"made\.arrow: no chain of 30 to 1000 residues"):
        spread_over_lengths(Lengths([5, 2000]), 60)


def test_a_corpus_chain_is_converted_to_a_chain_of_the_sdk():
    trace = Trace("x", np.ones((3, 3), np.float32), encode_sequence("AXY"), np.array([0, 1, 5]))
    chain = chain_of(trace)
    assert chain.sequence == "AXY" and chain.id == "x"
    np.testing.assert_array_equal(chain.residue_type, trace.residue_type)
    np.testing.assert_array_equal(chain.residue_index, trace.residue_index)
