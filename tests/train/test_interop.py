import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from protemb_sdk import Embedder, EmbeddingError
from protemb_train.interop import EmbeddingTransformer, to_torch_geometric

FILES = (("1a8o.cif", "A"), ("1orc.pdb", "A"), ("3jqh.cif", "A"), ("2beg.pdb.gz", "A"), ("2beg.pdb.gz", "B"))


@pytest.mark.parametrize("pair", [False, True])
def test_a_graph_has_edges_between_residues_within_the_radius(structures, pair):
    embedding = Embedder(device="cpu").embed(structures / "1orc.pdb", pair=pair)
    data = to_torch_geometric(embedding, radius=8.0)
    data.validate()
    assert data.num_nodes == len(embedding) and not data.has_self_loops()
    apart = np.linalg.norm(data.pos[:, None].numpy() - data.pos.numpy(), axis=-1)
    i, j = data.edge_index.numpy()
    assert (apart[i, j] <= 8.001).all() and len(i) == (apart <= 8.0).sum() - len(embedding)
    np.testing.assert_array_equal(data.x, embedding.residue)
    if pair:
        np.testing.assert_array_equal(data.edge_attr, embedding.pair[i, j])
    else:
        assert data.edge_attr is None and data.is_undirected()
    with pytest.raises(EmbeddingError, match="above 0"):
        to_torch_geometric(embedding, radius=0)


def test_a_pipeline_can_be_fitted_cloned_and_pickled(structures):
    x = [(str(structures / name), chain) for name, chain in FILES]
    y = [0, 0, 0, 1, 1]
    pipeline = make_pipeline(
        EmbeddingTransformer("base-1", readouts=("mean", "max"), device="cpu", threads=1),
        StandardScaler(),
        LogisticRegression(),
    )
    predicted = clone(pipeline).fit(x, y).predict_proba(x)
    pipeline.fit(x, y)
    copied = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_allclose(copied.predict_proba(x), predicted, atol=1e-6)
    assert (predicted.argmax(axis=1) == y).all()
    transformer = pipeline[0]
    assert len(transformer.get_feature_names_out()) == 128 and transformer.transform([]).shape == (0, 128)
    one = Embedder("base-1", device="cpu", threads=1).embed(structures / "1orc.pdb")
    np.testing.assert_allclose(
        transformer.transform([structures / "1orc.pdb"])[0, :64], one.protein, atol=1e-6
    )


def test_models_of_contract_2_return_their_protein_vector(structures, states_path):
    transformer = EmbeddingTransformer(model=str(states_path), device="cpu", threads=1)
    one = Embedder(states_path, device="cpu", threads=1).embed(structures / "1orc.pdb")
    np.testing.assert_array_equal(transformer.transform([structures / "1orc.pdb"])[0], one.protein)
    names = transformer.get_feature_names_out()
    assert names[0] == "protein_0" and len(names) == len(one.protein)
    both = clone(transformer).set_params(readouts=("residue", "max"))
    assert both.transform([structures / "1orc.pdb"]).shape == (1, len(both.get_feature_names_out()))
    assert len(both.get_feature_names_out()) == one.residue.shape[1] + 8
