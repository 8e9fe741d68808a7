"""Language models read from folders; the models are small and have random weights."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from protemb_sdk._base.errors import EmbeddingError, ModelError, ProtembError
from protemb_train.downstream.common.sequence import SequenceEncoder, hugging_face, windows
from protemb_train.experiments.masking import MASK, VOCABULARY

from .conftest import SEQUENCE, direct

pytestmark = pytest.mark.usefixtures("offline")
BERT_VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"LAGVESIKRDTPNQFYMHCWXUBZO"]
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


def save(folder, model, tokenizer_config, vocabulary):
    """Write a folder in the layout of the Hugging Face Hub, with a plain vocabulary and no tokenizer.json."""
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    with hugging_face():
        model.save_pretrained(folder, save_original_format=False)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    return folder


def esm(folder, positions=64, **options):
    with hugging_face() as hf:
        config = hf.EsmConfig(
            vocab_size=len(VOCABULARY),
            pad_token_id=1,
            mask_token_id=MASK,
            max_position_embeddings=positions,
            position_embedding_type="rotary",
            token_dropout=True,
            **SMALL | options,
        )
        return save(folder, hf.EsmForMaskedLM(config), {"tokenizer_class": "EsmTokenizer"}, VOCABULARY)


def bert(folder, positions=64, vocabulary=BERT_VOCABULARY, **options):
    with hugging_face() as hf:
        config = hf.BertConfig(vocab_size=len(vocabulary), max_position_embeddings=positions, **SMALL)
        tokenizer = {"tokenizer_class": "BertTokenizer", "do_lower_case": False} | options
        return save(folder, hf.BertModel(config), tokenizer, vocabulary)


MAKERS = {"esm": esm, "bert": bert}


@pytest.fixture(params=MAKERS)
def make(request, tmp_path):
    return lambda **options: MAKERS[request.param](tmp_path / request.param, **options)


def test_embeddings_have_one_row_per_residue_and_equal_transformers(make):
    folder = make()
    encoder = SequenceEncoder(folder, threads=1)
    rows = encoder.embed(SEQUENCE)
    assert rows.shape == (len(SEQUENCE), encoder.channels) == (22, 16) and rows.dtype == np.float32
    np.testing.assert_allclose(rows, direct(folder, SEQUENCE), atol=1e-5)
    assert encoder.name == folder.name
    assert rows.std(axis=0).min() > 0.01  # no column is constant


def test_unknown_letters_are_read_as_x_and_case_is_ignored(make):
    encoder = SequenceEncoder(make())
    want = encoder.embed("MKXXXAXX")
    np.testing.assert_array_equal(want, encoder.embed("mkBZ*a é"))
    assert not np.allclose(want[2], encoder.embed("MKAXXAXX")[2])


def test_embeddings_do_not_depend_on_earlier_calls(make):
    folder = make()
    encoder = SequenceEncoder(folder)
    others = ["G", SEQUENCE[::-1], SEQUENCE * 5]
    first = [encoder.embed(sequence) for sequence in (SEQUENCE, *others)]
    again = [SequenceEncoder(folder).embed(sequence) for sequence in (*others[::-1], SEQUENCE)][::-1]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_number_of_threads_is_restored(make):
    encoder, before = SequenceEncoder(make(), threads=2), torch.get_num_threads()
    encoder.embed(SEQUENCE)
    assert torch.get_num_threads() == before


def test_the_hash_depends_on_the_weights(make):
    folder = make()
    before = SequenceEncoder(folder).sha256
    assert SequenceEncoder(folder).sha256 == before and len(before) == 64
    weights = load_file(folder / "model.safetensors")
    next(iter(weights.values())).add_(1)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert SequenceEncoder(folder).sha256 != before


@pytest.mark.parametrize("size", [1, 2, 5, 8, 17])
def test_windows_cover_a_chain_once_with_a_margin_of_a_quarter(size):
    for length in range(1, 80):
        covered = []
        for shown, taken in windows(length, size):
            assert 0 <= shown.start <= taken.start < taken.stop <= shown.stop <= length
            assert shown.stop - shown.start == min(size, length)
            assert taken.start == 0 or taken.start - shown.start >= size // 4
            assert taken.stop == length or shown.stop - taken.stop >= size // 4
            covered.extend(range(taken.start, taken.stop))
        assert covered == list(range(length))


def test_long_chains_are_embedded_in_windows(make):
    """Each row equals that of its window; a chain within one window is embedded at once."""
    folder = make(positions=24)
    encoder = SequenceEncoder(folder)
    size = 20 if folder.name == "esm" else 22  # two tokens for the ends; ESM leaves two positions unused
    assert encoder.window == size
    sequence = (SEQUENCE + SEQUENCE[::-1]) * 2
    rows = encoder.embed(sequence)
    assert rows.shape == (len(sequence), 16)
    for shown, taken in windows(len(sequence), size):
        alone = direct(folder, sequence[shown])[taken.start - shown.start : taken.stop - shown.start]
        np.testing.assert_allclose(rows[taken], alone, atol=1e-5)
    fitting = sequence[:size]
    np.testing.assert_allclose(encoder.embed(fitting), direct(folder, fitting), atol=1e-5)
    # The first rows of a longer chain depend on the residues of their window only.
    changed = sequence[:size] + "W" * (len(sequence) - size)
    np.testing.assert_array_equal(encoder.embed(changed)[: size // 2], rows[: size // 2])


def test_old_and_sharded_checkpoints_give_the_same_embeddings(tmp_path):
    """Published ESM-2 files have rotary frequencies in each layer; files of large models are in parts."""
    folder = esm(tmp_path / "esm")
    want = SequenceEncoder(folder).embed(SEQUENCE)
    weights = load_file(folder / "model.safetensors")
    frequencies = weights.pop("esm.rotary_embeddings.inv_freq")
    for layer in range(2):
        weights[f"esm.encoder.layer.{layer}.attention.self.rotary_embeddings.inv_freq"] = frequencies.clone()
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    pieces = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, inside in pieces.items():
        save_file({name: weights[name] for name in inside}, folder / file, metadata={"format": "pt"})
    where = {name: file for file, inside in pieces.items() for name in inside}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    encoder = SequenceEncoder(folder)
    assert [path.name for path in encoder.weights] == list(pieces) and len(encoder.sha256) == 64
    np.testing.assert_array_equal(encoder.embed(SEQUENCE), want)
    index.write_text("{}")
    with pytest.raises(ModelError, match="does not list the files of the weights"):
        SequenceEncoder(folder)


def test_half_precision_weights_are_computed_in_single_precision(make):
    folder = make()
    weights = {name: value.half() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float16"}))
    assert SequenceEncoder(folder).embed(SEQUENCE).dtype == np.float32


def test_a_folder_without_a_language_model_is_refused(tmp_path, make):
    with pytest.raises(ModelError, match=r"none: the folder does not exist; pass a folder"):
        SequenceEncoder(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="not a language model in Hugging Face's layout"):
        SequenceEncoder(tmp_path / "empty")
    folder = make()
    (folder / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ModelError, match="type 'vit', not a masked language model"):
        SequenceEncoder(folder)
    (folder / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(ModelError, match="type 't5', not a masked language model"):
        SequenceEncoder(folder)


def test_pickled_weights_are_not_opened(make):
    folder = make()
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"contains no model\.safetensors; pickled weights are not opened"):
        SequenceEncoder(folder)


def test_incomplete_weights_are_refused(make):
    """transformers itself would fill missing weights with random numbers."""
    folder = make()
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if "layer.1.attention.self.query.weight" in name)
    save_file({n: w for n, w in weights.items() if n != lost}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"the weights are incomplete: .*query\.weight is missing"):
        SequenceEncoder(folder)
    save_file(weights | {lost: torch.zeros(3, 3)}, folder / "model.safetensors")
    with pytest.raises(ModelError, match="its weights cannot be read"):
        SequenceEncoder(folder)
    (folder / "model.safetensors").write_bytes(b"hello")
    with pytest.raises(ModelError, match="its weights cannot be read"):
        SequenceEncoder(folder)


def test_a_tokenizer_must_have_a_token_for_each_residue(tmp_path):
    lower_case = bert(tmp_path / "lower", do_lower_case=True)  # upper-case residues are unknown
    with pytest.raises(ModelError, match="does not have one token for each of the 20 residues"):
        SequenceEncoder(lower_case)
    without_w = [token for token in BERT_VOCABULARY if token != "W"]
    with pytest.raises(ModelError, match="does not have one token for each of the 20 residues"):
        SequenceEncoder(bert(tmp_path / "19", vocabulary=without_w))
    (lower_case / "vocab.txt").unlink()
    with pytest.raises(ModelError, match="tokenizer"):
        SequenceEncoder(lower_case)


def test_rows_that_do_not_match_the_residues_are_refused(make, monkeypatch):
    encoder = SequenceEncoder(make())
    monkeypatch.setattr(encoder, "_between", " X ")
    with pytest.raises(EmbeddingError, match=r"3 tokens, 5 rows, 2 residues"):
        encoder.embed("MK")


def test_empty_sequences_and_nan_are_refused(make):
    folder = make()
    with pytest.raises(EmbeddingError, match="the sequence is empty"):
        SequenceEncoder(folder).embed("")
    weights = load_file(folder / "model.safetensors")
    next(w for name, w in weights.items() if "word_embeddings" in name).fill_(float("nan"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EmbeddingError, match="the embedding of 22 residues is not finite"):
        SequenceEncoder(folder).embed(SEQUENCE)
    with pytest.raises(ModelError, match="has no positions for residues"):
        SequenceEncoder(make(positions=2))


def test_missing_transformers_is_reported_with_the_extra_to_install(make, monkeypatch):
    folder = make()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ProtembError, match=r"pip install 'protemb-sdk\[cpu,train,sequence\]'"):
        SequenceEncoder(folder)
