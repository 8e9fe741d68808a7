"""Properties of embeddings (levels, invariance, determinism, strips) and of the score."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gemmi
import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protemb_sdk import (
    Chain,
    ChainError,
    Embedder,
    Embedding,
    EmbeddingError,
    ModelError,
    StructureError,
    list_models,
)
from protemb_sdk._model.models import BUNDLED

Walk = Callable[..., tuple[np.ndarray, str]]
LEVELS = ("protein", "residue", "pair")


def deviation(a: np.ndarray | None, b: np.ndarray | None) -> float:
    """Return the largest difference relative to the largest absolute value."""
    assert a is not None and b is not None and a.shape == b.shape
    return float(np.abs(a - b).max() / np.abs(a).max())


def rotation(seed: int) -> np.ndarray:
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else q[:, [1, 0, 2]]


def as_tuple(chain: Chain, coords: np.ndarray | None = None) -> tuple[np.ndarray, str, np.ndarray]:
    return chain.ca_coords if coords is None else coords, chain.sequence, chain.residue_index


@pytest.fixture(scope="module")
def reference(embedder: Embedder, chain_1a8o: Chain) -> Embedding:
    return embedder.embed(chain_1a8o, pair=True)


# --- outputs --------------------------------------------------------------------------------------


def test_shapes_types_and_levels(embedder: Embedder, reference: Embedding) -> None:
    width = embedder.widths
    assert reference.pair is not None
    for name, shape in (("protein", ()), ("residue", (70,)), ("pair", (70, 70))):
        array = getattr(reference, name)
        assert array.shape == (*shape, width[name]) and array.dtype == np.float32
    assert abs(np.linalg.norm(reference.protein) - 1) < 1e-5
    assert reference.protein.std() > 0 and reference.residue.std(axis=0).max() > 0


def test_levels_of_contract_1_are_means_of_the_pair_embedding(chain_1a8o: Chain) -> None:
    found = Embedder("base-1", "cpu", threads=1).embed(chain_1a8o, pair=True)
    assert found.pair is not None and found.pair.shape == (70, 70, 64)
    assert deviation(found.residue, found.pair.mean(axis=1)) < 1e-5
    assert deviation(found.protein, found.residue.mean(axis=0)) < 1e-5


def test_embeddings_have_ids_and_provenance(embedder: Embedder, structures: Path) -> None:
    embedding = embedder.embed(structures / "1a8o.cif")
    assert (embedding.id, embedding.name, embedding.chain_id, embedding.label_chain) == (
        "1a8o_A", "1a8o", "A", "A",
    )  # fmt: skip
    assert embedding.pair is None and len(embedding) == 70 == len(embedding.sequence)
    provenance = embedding.provenance
    assert set(provenance) == {
        "model", "model_sha256", "contract", "noise_level", "device", "sdk_version", "options",
    }  # fmt: skip
    assert provenance["model"] == "base" and provenance["device"] == "cpu"
    assert len(provenance["model_sha256"]) == 64 and provenance["noise_level"] == embedder.noise_level > 0
    assert provenance["options"] == {"model": 1, "altloc": "highest", "min_residues": 3}


def test_every_kind_of_input_gives_the_same_vector(embedder: Embedder, structures: Path) -> None:
    path = structures / "1a8o.cif"
    expected = embedder.embed(path)
    with path.open() as text, path.open("rb") as binary:
        inputs: list[object] = [str(path), path.read_bytes(), text, binary, io.BytesIO(path.read_bytes())]
        inputs += [gemmi.read_structure(str(path)), as_tuple(expected.chain), expected.chain]
        inputs += [bytearray(path.read_bytes()), structures / "1a8o.pdb"]
        found = [embedder.embed(x) for x in inputs]
        text.seek(0), binary.seek(0), inputs[4].seek(0)  # type: ignore[attr-defined]
        found += list(embedder.embed_many(inputs))
    assert len(found) == 2 * len(inputs)
    for embedding in found:
        assert embedding.protein.tobytes() == expected.protein.tobytes()
        assert embedding.residue.tobytes() == expected.residue.tobytes()


def test_biotite_arrays_give_the_same_vector(embedder: Embedder, structures: Path) -> None:
    pdbx = pytest.importorskip("biotite.structure.io.pdbx")
    path = structures / "1a8o.cif"
    array = pdbx.get_structure(pdbx.CIFFile.read(path), model=1)
    expected = embedder.embed(path)
    for embedding in (embedder.embed(array), *embedder.embed_many(array)):
        assert deviation(expected.residue, embedding.residue) < 1e-6


def test_chains_of_one_or_two_residues_have_an_embedding(embedder: Embedder, random_walk: Walk) -> None:
    for length in (1, 2):
        embedding = embedder.embed(random_walk(length), pair=True)
        assert embedding.residue.shape == (length, embedder.widths["residue"])
        assert np.isfinite(embedding.residue).all() and embedding.windows(7).shape[1] == 7
        assert embedder.denoising_gradient(random_walk(length), sigma=1.0).shape == (length, 3)


# --- properties -----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**16),
    shift=st.tuples(*[st.floats(-1000, 1000)] * 3),
)
def test_embeddings_are_invariant_to_rotation_and_translation(
    embedder: Embedder, chain_1a8o: Chain, reference: Embedding, seed: int, shift: tuple[float, ...]
) -> None:
    moved = chain_1a8o.ca_coords @ rotation(seed).T + np.array(shift)
    found = embedder.embed(as_tuple(chain_1a8o, moved), pair=True)
    for level in LEVELS:
        assert deviation(getattr(reference, level), getattr(found, level)) < 1e-4, level


def test_float32_coordinates_far_from_the_origin(embedder: Embedder, chain_1a8o: Chain) -> None:
    """Float32 has a resolution of 6e-5 angstrom there; the bundled noise level tolerates it."""
    reference = embedder.embed(chain_1a8o, pair=True)
    far = (chain_1a8o.ca_coords + 1000.0).astype(np.float32)
    found = embedder.embed(as_tuple(chain_1a8o, far), pair=True)
    for level in LEVELS:
        assert deviation(getattr(reference, level), getattr(found, level)) < 1e-4, level


def test_the_mirror_image_has_another_embedding(embedder: Embedder, chain_1a8o: Chain) -> None:
    mirrored = embedder.embed(as_tuple(chain_1a8o, chain_1a8o.ca_coords * [-1, 1, 1]))
    assert deviation(embedder.embed(chain_1a8o).protein, mirrored.protein) > 1e-2


def test_embeddings_depend_on_the_sequence_and_the_gaps(embedder: Embedder, chain_1a8o: Chain) -> None:
    coords, sequence, index = as_tuple(chain_1a8o)
    one = embedder.embed(chain_1a8o)
    other = embedder.embed((coords, "A" * len(sequence), index))
    assert deviation(one.residue, other.residue) > 1e-3
    assert not np.array_equal(one.protein, embedder.embed((coords, sequence, index * 2)).protein)


def test_embeddings_do_not_depend_on_threads(
    embedder: Embedder, chain_1a8o: Chain, random_walk: Walk
) -> None:
    inputs = [as_tuple(chain_1a8o), *(random_walk(n, n) for n in (20, 90, 33))]
    expected = [embedder.embed(x).residue for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda x: embedder.embed(x).residue, inputs * 3))
    for a, b in zip(expected * 3, found, strict=True):
        assert a.tobytes() == b.tobytes()
    other = Embedder(device="cpu", threads=1)
    for x, a in zip(inputs, expected, strict=True):
        assert deviation(a, other.embed(x).residue) < 1e-5


def test_a_batch_of_the_graph_equals_single_runs(embedder: Embedder, random_walk: Walk) -> None:
    """A program in another language may run the ONNX file alone, in batches of chains of one length."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(embedder.model.path, options, providers=["CPUExecutionProvider"])
    singles = [embedder.embed(random_walk(45, seed), pair=True) for seed in range(4)]
    feeds = {
        "ca_coords": np.stack([e.chain.ca_coords for e in singles]).astype(np.float32),
        "residue_type": np.stack([e.chain.residue_type for e in singles]),
        "residue_index": np.stack([e.residue_index for e in singles]),
    }
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        outputs = session.run(["protein", "residue", "pair"], {k: v[order] for k, v in feeds.items()})
        for position, number in enumerate(order):
            single = singles[number]
            assert single.pair is not None
            # The coordinates are not centred here, so the bytes differ.
            assert deviation(single.protein, outputs[0][position]) < 1e-4
            assert deviation(single.residue, outputs[1][position]) < 1e-4
            assert deviation(single.pair, np.moveaxis(outputs[2][position], 0, 2)) < 1e-4
    centred = feeds["ca_coords"] - feeds["ca_coords"].mean(axis=1, keepdims=True)
    batch = session.run(["residue"], feeds | {"ca_coords": centred})[0]
    alone = [
        session.run(["residue"], {k: v[i : i + 1] for k, v in (feeds | {"ca_coords": centred}).items()})[0][0]
        for i in range(4)
    ]
    for one, in_batch in zip(alone, batch, strict=True):
        assert deviation(one, in_batch) < 1e-5


@pytest.mark.parametrize("pair", [False, True])
def test_strips_equal_the_whole_map(embedder: Embedder, random_walk: Walk, pair: bool) -> None:
    x = random_walk(260)
    tiled = Embedder(device="cpu", memory_limit=1)
    whole, strips = embedder.embed(x, pair=pair), tiled.embed(x, pair=pair)
    for level in LEVELS if pair else LEVELS[:2]:
        assert deviation(getattr(whole, level), getattr(strips, level)) < 1e-5, level


# --- the score ------------------------------------------------------------------------------------


def test_the_score_has_no_net_force_and_no_net_torque(embedder: Embedder, chain_1a8o: Chain) -> None:
    for sigma in (0.1, 1, np.float32(10)):
        score = embedder.denoising_gradient(chain_1a8o, sigma=sigma)
        assert score.shape == (70, 3) and score.dtype == np.float32
        force = np.abs(score.sum(axis=0, dtype=np.float64)).max()
        centred = chain_1a8o.ca_coords - chain_1a8o.ca_coords.mean(axis=0)
        torque = np.abs(np.cross(centred, score).sum(axis=0)).max()
        scale = np.abs(score).sum()
        assert force < 1e-5 * scale and torque < 1e-5 * scale * np.abs(centred).max()


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**16), shift=st.tuples(*[st.floats(-1000, 1000)] * 3))
def test_the_score_is_equivariant_to_rotation(
    embedder: Embedder, chain_1a8o: Chain, seed: int, shift: tuple[float, ...]
) -> None:
    turn = rotation(seed)
    here = embedder.denoising_gradient(chain_1a8o, sigma=0.5)
    there = embedder.denoising_gradient(
        as_tuple(chain_1a8o, chain_1a8o.ca_coords @ turn.T + np.array(shift)), sigma=0.5
    )
    assert deviation(here @ turn.T, there) < 1e-3


@pytest.mark.parametrize("sigma", [0, -1.0, 1e6, float("nan"), float("inf"), "1", None])
def test_a_noise_level_outside_the_trained_range_is_refused(
    embedder: Embedder, chain_1a8o: Chain, sigma: float
) -> None:
    with pytest.raises(EmbeddingError, match=r"outside the trained noise levels, \S+ to \S+ angstrom"):
        embedder.denoising_gradient(chain_1a8o, sigma=sigma)


def test_the_first_score_can_be_computed_in_several_threads(chain_1a8o: Chain) -> None:
    fresh = Embedder(device="cpu")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: fresh.denoising_gradient(chain_1a8o, sigma=1.0).tobytes(), range(4)))
    assert len(set(found)) == 1


def test_the_score_of_a_model_without_score_graph_is_an_error(chain_1a8o: Chain, tmp_path: Path) -> None:
    path = tmp_path / "mine.onnx"
    path.write_bytes((BUNDLED / "base.onnx").read_bytes())
    alone = Embedder(path, device="cpu")
    with pytest.raises(ModelError, match="model=3: pass the name of a bundled model"):
        Embedder(3)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="'mine' has no score graph; export one beside it"):
        alone.denoising_gradient(chain_1a8o, sigma=1.0)
    (tmp_path / "mine-score.onnx").write_bytes((BUNDLED / "base-score.onnx").read_bytes())
    assert Embedder(path, device="cpu").denoising_gradient(chain_1a8o, sigma=1.0).shape == (70, 3)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["threads", "model_number", "min_residues"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True])
def test_numbers_are_checked_when_the_embedder_is_made(name: str, value: object) -> None:
    with pytest.raises(EmbeddingError, match=f"{name} must be a whole number, at least 1, not"):
        Embedder(device="cpu", **{name: value})  # type: ignore[arg-type]


def test_reading_options_are_checked_when_the_embedder_is_made(embedder: Embedder, structures: Path) -> None:
    with pytest.raises(StructureError, match="altloc='often': pass 'highest', 'first' or one letter"):
        Embedder(device="cpu", altloc="often")
    with pytest.raises(ChainError, match="chain_id=1: pass the name of a chain"):
        embedder.embed(structures / "1a8o.cif", 1)  # type: ignore[arg-type]


def test_coordinates_in_another_unit_are_refused(embedder: Embedder, chain_1a8o: Chain) -> None:
    with pytest.raises(StructureError, match="are they in angstrom"):
        embedder.embed(as_tuple(chain_1a8o, chain_1a8o.ca_coords * 1e5))


def test_content_passed_as_text_gives_a_clear_error(embedder: Embedder, structures: Path) -> None:
    with pytest.raises(StructureError, match="pass the content of a file as bytes"):
        embedder.embed((structures / "1a8o.pdb").read_text())


def test_memory_errors_become_embedding_errors(
    embedder: Embedder, chain_1a8o: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*arguments: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr("protemb_sdk._model.batches.run_passes", none_left)
    with pytest.raises(EmbeddingError, match="1a8o_A: 70 residues need more memory than there is"):
        embedder.embed(chain_1a8o)


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork on this system")
def test_an_embedder_cannot_be_used_after_a_fork(structures: Path) -> None:
    code = (
        "import os, sys, warnings; warnings.simplefilter('ignore')\n"
        "from protemb_sdk import Embedder, EmbeddingError\n"
        "embedder = Embedder(device='cpu'); embedder.embed(sys.argv[1])\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    try: embedder.embed(sys.argv[1])\n"
        "    except EmbeddingError as error: os._exit(0 if 'before a fork' in str(error) else 2)\n"
        "    os._exit(1)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    subprocess.run([sys.executable, "-c", code, str(structures / "1a8o.cif")], check=True, timeout=120)


def test_a_score_graph_of_another_network_is_refused(tmp_path: Path, chain_1a8o: Chain) -> None:
    onnx = pytest.importorskip("onnx")
    bundled = list_models()[0]
    assert bundled.score_path is not None
    shutil.copy(bundled.path, tmp_path / "mine.onnx")
    graph = onnx.load(bundled.score_path)
    for field in graph.metadata_props:
        if field.key == "protemb.card":
            field.value = json.dumps(json.loads(field.value) | {"weights_sha256": "0" * 64})
    onnx.save(graph, tmp_path / "mine-score.onnx")
    with pytest.raises(ModelError, match="another network's; export both again"):
        Embedder(tmp_path / "mine.onnx", "cpu").denoising_gradient(chain_1a8o, sigma=1.0)


@pytest.mark.parametrize("limit", [None, "x", 0, -5])
def test_invalid_memory_limits_are_refused(limit: object) -> None:
    with pytest.raises(EmbeddingError, match="memory_limit"):
        Embedder(memory_limit=limit)  # type: ignore[arg-type]
