"""Language models out of folders: tiny ones filled at random, and our own after a few steps."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from protemb_sdk._errors import EmbeddingError, ModelError, OutputError, ProtembError
from protemb_train import cli
from protemb_train.corpus import Corpus, CorpusError
from protemb_train.downstream.language import train_language
from protemb_train.downstream.masking import MASK, RESIDUES, VOCABULARY, LanguageConfig, MaskedBatches, X
from protemb_train.downstream.sequence import SequenceEncoder, hugging_face, windows
from protemb_train.objective import TrainingError

from .conftest import CorpusMaker

SEQUENCE = "MKTAYIAKQRQISFVKSHFSRQ"
BERT_VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"LAGVESIKRDTPNQFYMHCWXUBZO"]
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
TINY = LanguageConfig(layers=1, channels=32, heads=2, crop=48, batch=8, learning_rate=1e-2, warmup_steps=5)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Whoever asks for the network is caught."""

    def refuse(*arguments, **options):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)


def save(folder, model, tokenizer_config, vocabulary):
    """Write a folder as the Hub has it: plain vocabulary, no tokenizer.json."""
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


def direct(folder, sequence):
    """What transformers itself says, with tokens looked up by hand."""
    vocabulary = (folder / "vocab.txt").read_text().split()
    first, last = ("<cls>", "<eos>") if "<cls>" in vocabulary else ("[CLS]", "[SEP]")
    ids = torch.tensor([[vocabulary.index(token) for token in (first, *sequence, last)]])
    with hugging_face() as hf, torch.no_grad():
        model = hf.AutoModel.from_pretrained(folder).eval()
        return model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0, 1:-1].numpy()


def test_a_row_a_residue_as_transformers_itself_has_it(make):
    folder = make()
    encoder = SequenceEncoder(folder, threads=1)
    rows = encoder.embed(SEQUENCE)
    assert rows.shape == (len(SEQUENCE), encoder.channels) == (22, 16) and rows.dtype == np.float32
    np.testing.assert_allclose(rows, direct(folder, SEQUENCE), atol=1e-5)
    assert encoder.name == folder.name
    assert rows.std(axis=0).min() > 0.01  # nothing here is constant


def test_other_letters_are_x_and_case_is_nothing(make):
    encoder = SequenceEncoder(make())
    want = encoder.embed("MKXXXAXX")
    np.testing.assert_array_equal(want, encoder.embed("mkBZ*a é"))
    assert not np.allclose(want[2], encoder.embed("MKAXXAXX")[2])


def test_what_was_embedded_before_changes_nothing(make):
    folder = make()
    encoder = SequenceEncoder(folder)
    others = ["G", SEQUENCE[::-1], SEQUENCE * 5]
    first = [encoder.embed(sequence) for sequence in (SEQUENCE, *others)]
    again = [SequenceEncoder(folder).embed(sequence) for sequence in (*others[::-1], SEQUENCE)][::-1]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_threads_are_set_back(make):
    encoder, before = SequenceEncoder(make(), threads=2), torch.get_num_threads()
    encoder.embed(SEQUENCE)
    assert torch.get_num_threads() == before


def test_the_hash_is_of_the_weights(make):
    folder = make()
    before = SequenceEncoder(folder).sha256
    assert SequenceEncoder(folder).sha256 == before and len(before) == 64
    weights = load_file(folder / "model.safetensors")
    next(iter(weights.values())).add_(1)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert SequenceEncoder(folder).sha256 != before


@pytest.mark.parametrize("size", [1, 2, 5, 8, 17])
def test_windows_cover_a_chain_once_with_a_quarter_on_either_side(size):
    for length in range(1, 80):
        covered = []
        for shown, taken in windows(length, size):
            assert 0 <= shown.start <= taken.start < taken.stop <= shown.stop <= length
            assert shown.stop - shown.start == min(size, length)
            assert taken.start == 0 or taken.start - shown.start >= size // 4
            assert taken.stop == length or shown.stop - taken.stop >= size // 4
            covered.extend(range(taken.start, taken.stop))
        assert covered == list(range(length))


def test_long_chains_are_read_in_windows(make):
    """Each row is the one of its window, and what fits is read whole."""
    folder = make(positions=24)
    encoder = SequenceEncoder(folder)
    size = 20 if folder.name == "esm" else 22  # two for the ends, and ESM leaves two free
    assert encoder.window == size
    sequence = (SEQUENCE + SEQUENCE[::-1]) * 2
    rows = encoder.embed(sequence)
    assert rows.shape == (len(sequence), 16)
    for shown, taken in windows(len(sequence), size):
        alone = direct(folder, sequence[shown])[taken.start - shown.start : taken.stop - shown.start]
        np.testing.assert_allclose(rows[taken], alone, atol=1e-5)
    fitting = sequence[:size]
    np.testing.assert_allclose(encoder.embed(fitting), direct(folder, fitting), atol=1e-5)
    # The first rows of a longer chain know what follows up to the end of their window and no further.
    changed = sequence[:size] + "W" * (len(sequence) - size)
    np.testing.assert_array_equal(encoder.embed(changed)[: size // 2], rows[: size // 2])


def test_an_old_checkpoint_of_the_hub_is_the_same_model(tmp_path):
    """ESM-2 as published keeps the rotary frequencies in every layer, and in pieces where it is large."""
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
    with pytest.raises(ModelError, match="does not say which files hold the weights"):
        SequenceEncoder(folder)


def test_half_precision_is_computed_in_single(make):
    folder = make()
    weights = {name: value.half() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float16"}))
    assert SequenceEncoder(folder).embed(SEQUENCE).dtype == np.float32


def test_a_folder_without_a_language_model_is_said(tmp_path, make):
    with pytest.raises(ModelError, match=r"none: no such folder; name one"):
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
    with pytest.raises(ModelError, match=r"no model\.safetensors in it; pickled weights are not opened"):
        SequenceEncoder(folder)


def test_weights_that_do_not_fill_the_model_are_refused(make):
    """transformers draws what is missing at random."""
    folder = make()
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if "layer.1.attention.self.query.weight" in name)
    save_file({n: w for n, w in weights.items() if n != lost}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"do not fill the model, .*query\.weight is missing"):
        SequenceEncoder(folder)
    save_file(weights | {lost: torch.zeros(3, 3)}, folder / "model.safetensors")
    with pytest.raises(ModelError, match="its weights cannot be read"):
        SequenceEncoder(folder)
    (folder / "model.safetensors").write_bytes(b"hello")
    with pytest.raises(ModelError, match="its weights cannot be read"):
        SequenceEncoder(folder)


def test_a_tokenizer_must_give_each_residue_a_token(tmp_path):
    lower_case = bert(tmp_path / "lower", do_lower_case=True)  # every residue is unknown to it
    with pytest.raises(ModelError, match="does not give each of the 20 residues a token of its own"):
        SequenceEncoder(lower_case)
    without_w = [token for token in BERT_VOCABULARY if token != "W"]
    with pytest.raises(ModelError, match="does not give each of the 20 residues a token of its own"):
        SequenceEncoder(bert(tmp_path / "19", vocabulary=without_w))
    (lower_case / "vocab.txt").unlink()
    with pytest.raises(ModelError, match="tokenizer"):
        SequenceEncoder(lower_case)


def test_rows_that_are_not_one_a_residue_are_refused(make, monkeypatch):
    encoder = SequenceEncoder(make())
    monkeypatch.setattr(encoder, "_between", " X ")
    with pytest.raises(EmbeddingError, match=r"3 tokens, 5 rows, 2 residues"):
        encoder.embed("MK")


def test_nothing_and_not_a_number_are_refused(make):
    folder = make()
    with pytest.raises(EmbeddingError, match="the sequence is empty"):
        SequenceEncoder(folder).embed("")
    weights = load_file(folder / "model.safetensors")
    next(w for name, w in weights.items() if "word_embeddings" in name).fill_(float("nan"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EmbeddingError, match="the embedding of 22 residues is not finite"):
        SequenceEncoder(folder).embed(SEQUENCE)
    with pytest.raises(ModelError, match="no room for a residue"):
        SequenceEncoder(make(positions=2))


def test_without_transformers_the_extra_is_named(make, monkeypatch):
    folder = make()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ProtembError, match=r"pip install 'protemb-sdk\[cpu,train,sequence\]'"):
        SequenceEncoder(folder)


@pytest.fixture
def repetitive(make_corpus: CorpusMaker) -> Corpus:
    """Forty clusters of chains that repeat three letters: a context says everything."""
    rng = np.random.default_rng(0)
    chains = ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 3)) * 20 for _ in range(40)]
    return make_corpus([(sequence, np.zeros((60, 3)), i) for i, sequence in enumerate(chains)])


def test_batches_are_a_function_of_seed_and_step(repetitive):
    def stream(seed=0):
        return MaskedBatches(repetitive, TINY, seed)

    for step, batch in zip((0, 1, 2), stream(), strict=False):
        for name, tensor in stream().batch(step).items():
            assert torch.equal(tensor, batch[name])
    assert not torch.equal(stream().batch(0)["input_ids"], stream(1).batch(0)["input_ids"])


def test_masking_is_the_one_of_esm(make_corpus):
    letters = "ACDEFGHIKLMNPQRSTVWY" * 10
    corpus = make_corpus(
        [(letters + "X" * 40 + "A" * (i % 2), np.zeros((240 + i % 2, 3)), i) for i in range(40)]
    )
    stream = MaskedBatches(corpus, LanguageConfig(batch=40), seed=0)
    masked = kept = chosen = known = 0
    for step in range(5):
        batch = {name: tensor.numpy() for name, tensor in stream.batch(step).items()}
        ids, labels = batch["input_ids"], batch["labels"]
        assert ids.shape == (40, 243)
        lengths = batch["attention_mask"].sum(axis=1)
        assert set(lengths) == {242, 243}
        assert (ids[:, 0] == 0).all() and (ids[np.arange(40), lengths - 1] == 2).all()
        named = labels >= 0
        assert np.isin(labels[named], RESIDUES).all()  # neither X nor an end
        chosen, known = chosen + named.sum(), known + np.isin(ids, RESIDUES).sum() + (ids == MASK).sum()
        masked, kept = masked + (ids[named] == MASK).sum(), kept + (ids[named] == labels[named]).sum()
        assert (ids[~named] != MASK).all() and (ids == X).sum() == 1600
    assert chosen / known == pytest.approx(0.15, abs=0.003)
    assert masked / chosen == pytest.approx(0.8, abs=0.02)
    assert kept / chosen == pytest.approx(0.1 + 0.1 / 20, abs=0.02)


def test_clusters_are_drawn_and_not_chains(make_corpus):
    """A hundred chains of one cluster come no more often than one of its own."""
    rows = [("A" * 30, np.zeros((30, 3)), 0)] * 100 + [("C" * 30, np.zeros((30, 3)), 1)]
    stream = MaskedBatches(make_corpus(rows), LanguageConfig(batch=2), seed=0)
    for step in range(5):
        ids = stream.batch(step)["labels"]
        assert {int(row[row >= 0][0]) for row in ids} == {VOCABULARY.index("A"), VOCABULARY.index("C")}


def test_a_run_learns_repeats_itself_and_says_what_it_is(repetitive, tmp_path):
    def run(name, steps=60, seed=0):
        path = tmp_path / name
        return train_language(repetitive.path, path, steps=steps, seed=seed, config=TINY, progress=False)

    record = run("a")
    assert record["validation_perplexity"] < run("start", steps=1)["validation_perplexity"] - 2
    assert run("b")["sha256"] == record["sha256"] != run("other", seed=1)["sha256"]

    folder = tmp_path / "a"
    assert json.loads((folder / "protemb.json").read_text()) == record
    training = Corpus(repetitive.path, ["train"])
    assert record["what"] == (
        f"a small masked language model trained on {len(training)} sequences of corpus SHA-256 "
        f"{training.sha256}, 60 steps: not ESM-2, not TAPE"
    )
    assert record["seed"] == 0 and record["recipe"]["crop"] == 48 and record["origin"]["version"]
    assert 15 < record["unigram_perplexity"] < 25
    assert record["validation_residues"] == 48 * len(Corpus(repetitive.path, ["val"]))

    encoder = SequenceEncoder(folder)
    assert (encoder.window, encoder.channels, encoder.sha256) == (48, 32, record["sha256"])
    assert encoder.embed(SEQUENCE * 5).shape == (110, 32)
    np.testing.assert_allclose(encoder.embed(SEQUENCE), direct(folder, SEQUENCE), atol=1e-5)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "start", "other", "corpus.arrow"}


def test_a_corpus_without_validation_is_refused(make_corpus, tmp_path, monkeypatch):
    monkeypatch.delattr(MaskedBatches, "batch")  # before the first step
    corpus = make_corpus([("ACDEF" * 8, np.zeros((40, 3)), 0)])
    with pytest.raises(CorpusError, match="no chain of val to judge on"):
        train_language(corpus.path, tmp_path / "out", steps=1, config=TINY, progress=False)


def test_a_folder_that_cannot_be_written_is_said_first(repetitive, tmp_path, monkeypatch):
    monkeypatch.delattr(MaskedBatches, "batch")
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="out: is there already"):
        train_language(repetitive.path, tmp_path / "out", steps=1, config=TINY)
    with pytest.raises(OutputError, match="does not exist"):
        train_language(repetitive.path, tmp_path / "no" / "out", steps=1, config=TINY)


def test_a_run_that_fails_leaves_nothing(repetitive, tmp_path, monkeypatch):
    draw = MaskedBatches.batch

    def broken(self, step):
        batch = draw(self, step)
        return batch if step < 1 else batch | {"labels": torch.full_like(batch["labels"], -100)}

    monkeypatch.setattr(MaskedBatches, "batch", broken)
    with pytest.raises(TrainingError, match="step 1: the loss is nan"):
        train_language(repetitive.path, tmp_path / "run", steps=2, config=TINY, progress=False)
    monkeypatch.setattr(MaskedBatches, "batch", draw)
    monkeypatch.setattr("json.dumps", lambda *arguments, **options: 1 / 0)  # half of it is written
    with pytest.raises(ZeroDivisionError):
        train_language(repetitive.path, tmp_path / "run", steps=1, config=TINY, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.arrow"]


def test_the_command_line_trains(repetitive, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("protemb_train.downstream.language.LanguageConfig", lambda: TINY)
    out = tmp_path / "language"

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["protemb-train", "language", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            cli.main()
        return done.value.code, capsys.readouterr().err

    asked = ("--corpus", repetitive.path, "-o", out, "--steps", 2, "--threads", 1, "--no-progress")
    status, said = command(*asked)
    assert status == 0 and "validation perplexity" in said and "of frequencies alone" in said
    assert SequenceEncoder(out).channels == 32
    status, said = command(*asked)
    assert status == 1 and "is there already; name a new folder" in said
