"""Speed on a GPU: ONNX Runtime, PyTorch, batches of mixed lengths, and the peak rates of the GPU.

    python -m pytest benchmarks/test_cuda.py --benchmark-only --benchmark-json=.benchmarks/cuda.json
    python benchmarks/record.py .benchmarks/cuda.json benchmarks/cuda.md

Runs unattended; skipped with a reason if there is no GPU. Measured from host arrays to protein vectors on the
host.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protemb_sdk import Chain, DeviceError, Embedder, read_chain
from protemb_sdk._model.models import find_model
from protemb_sdk._model.runtime import CUDA_OPTIONS

torch = pytest.importorskip("torch", reason="the other networks need torch")
runtime = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
    pytest.mark.skipif(
        "CUDAExecutionProvider" not in runtime.get_available_providers(),
        reason="this ONNX Runtime has no CUDA provider: pip install 'protemb-sdk[gpu]'",
    ),
    pytest.mark.filterwarnings("default"),  # warnings of compilers are allowed
]

CHECKPOINT = Path(__file__).parents[1] / "train" / "results" / "base.ckpt"
LENGTHS = (128, 256, 512)
BATCHES = (1, 8)
INPUTS = ("ca_coords", "residue_type", "residue_index")
Vectors = Callable[[], np.ndarray]
TOLERANCE = {True: 1e-4, False: 3e-2}
"""Largest difference of protein vectors from the CPU relative to their scale: in float32, and with narrower
numbers (float16, TF32)."""


@pytest.fixture(scope="session", autouse=True)
def compiled_for_a_while() -> None:
    """Set torch.compile to keep one program for each shape."""
    torch._dynamo.config.cache_size_limit = 64


@cache
def chains(length: int, count: int) -> dict[str, np.ndarray]:
    """Return compact random chains as inputs of the graph; speed does not depend on the structure."""
    rng = np.random.default_rng(length)
    steps = rng.normal(size=(count, length, 3))
    steps *= 3.8 / np.linalg.norm(steps, axis=2, keepdims=True)
    coords = np.cumsum(steps, axis=1) * 0.5
    coords -= coords.mean(axis=1, keepdims=True)
    index = np.tile(np.arange(length, dtype=np.int64), (count, 1))
    values = (coords.astype(np.float32), rng.integers(0, 20, size=(count, length)), index)
    return dict(zip(INPUTS, values, strict=True))


@cache
def on_the_cpu(length: int, count: int) -> np.ndarray:
    """Return protein vectors in float32 on the CPU, for comparison."""
    session = runtime.InferenceSession(find_model("base").path, providers=["CPUExecutionProvider"])
    return session.run(["protein"], chains(length, count))[0]


@cache
def network() -> tuple[Any, float, Any]:
    """Return the network of `base`, its noise level and the contents of its embeddings."""
    from protemb_export.storage import load_graph
    from protemb_export.vectors import vectors_of_graph
    from protemb_train.network.checkpoint import load_network

    loaded, _ = load_network(CHECKPOINT)
    card = Embedder("base", device="cpu").card
    return loaded, card["sigma"], vectors_of_graph(load_graph(find_model("base").path), card, loaded)


@cache
def graph(half: bool, convolutions: bool) -> bytes:
    """Return the bundled graphs with matrix products, or those of the same network with convolutions."""
    if not convolutions:
        model = find_model("base-fp16" if half else "base")
        return (model.gpu_path or model.path).read_bytes()
    if not half:
        return find_model("base").path.read_bytes()
    from protemb_export.states_graph import states_graph

    loaded, sigma, vectors = network()
    return bytes(states_graph(loaded, sigma, {}, vectors, half=True).SerializeToString())


@cache
def session(half: bool, convolutions: bool = False, **options: str) -> Any:
    chosen = {**CUDA_OPTIONS, **options}
    providers = [("CUDAExecutionProvider", chosen), "CPUExecutionProvider"]
    settings = runtime.SessionOptions()
    settings.log_severity_level = 3
    found = runtime.InferenceSession(graph(half, convolutions), settings, providers=providers)
    if found.get_providers()[0] != "CUDAExecutionProvider":
        pytest.skip("ONNX Runtime fell back to the CPU: its CUDA libraries do not load (protemb doctor)")
    return found


def onnx(
    half: bool = False, bound: bool = False, convolutions: bool = False, **options: str
) -> Callable[[dict[str, np.ndarray]], Vectors]:
    def make(feeds: dict[str, np.ndarray]) -> Vectors:
        runner = session(half, convolutions, **options)
        if not bound:
            return lambda: runner.run(["protein"], feeds)[0]
        binding = runner.io_binding()  # inputs and result stay on the GPU
        for name, value in feeds.items():
            binding.bind_ortvalue_input(name, runtime.OrtValue.ortvalue_from_numpy(value, "cuda", 0))
        binding.bind_output("protein", "cuda")

        def run() -> np.ndarray:
            runner.run_with_iobinding(binding)
            return binding.get_outputs()[0].numpy()

        return run

    return make


def pytorch(
    preset: str = "base", half: bool = False, tf32: bool = False, mode: str | None = None
) -> Callable[[dict[str, np.ndarray]], Vectors]:
    def make(feeds: dict[str, np.ndarray]) -> Vectors:
        from protemb_export.states import StatesNetwork
        from protemb_train.network.network import ScoreNetwork
        from protemb_train.network.presets import PRESETS

        # Not fp32_precision: torch.export uses the old setting, which conflicts with the new one.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        count, length = feeds["residue_type"].shape
        if preset == "base":
            loaded, level, vectors = network()
            module = StatesNetwork(loaded, level, vectors, half=half).cuda()
            rows = torch.arange(length, device="cuda")
            borders = torch.tensor([0], device="cuda"), torch.tensor([length], device="cuda")

            def protein(*tensors: Any) -> Any:
                return module(*tensors, rows, *borders)[-2]
        else:
            other = ScoreNetwork(PRESETS[preset][0]).eval().cuda()
            sigma = torch.ones(count, device="cuda")

            def protein(*tensors: Any) -> Any:
                return other.embed(*tensors, sigma).mean(dim=(2, 3), dtype=torch.float32)

        forward = torch.compile(protein, mode=mode, dynamic=False) if mode else protein
        host = [torch.from_numpy(feeds[name]) for name in INPUTS]

        @torch.inference_mode()
        def run() -> np.ndarray:
            found: np.ndarray = forward(*(value.cuda() for value in host)).cpu().numpy()
            return found

        return run

    return make


KINDS: dict[str, Callable[[dict[str, np.ndarray]], Vectors]] = {
    "ONNX Runtime, float32 (the SDK's)": onnx(),
    "ONNX Runtime, TF32": onnx(use_tf32="1"),
    "ONNX Runtime, float16 (base-fp16)": onnx(half=True),
    "ONNX Runtime, float32, bound": onnx(bound=True),
    "ONNX Runtime, float16, bound": onnx(half=True, bound=True),
    "ONNX Runtime, float32, convolutions": onnx(convolutions=True),
    "ONNX Runtime, float16, convolutions": onnx(half=True, convolutions=True),
    "ONNX Runtime, float32, convolutions by heuristic": onnx(
        convolutions=True, cudnn_conv_algo_search="HEURISTIC"
    ),
    "ONNX Runtime, float16, convolutions by heuristic": onnx(
        half=True, convolutions=True, cudnn_conv_algo_search="HEURISTIC"
    ),
    "torch eager, float32": pytorch(),
    "torch eager, TF32": pytorch(tf32=True),
    "torch eager, float16": pytorch(half=True),
    "torch.compile, float32": pytorch(mode="default"),
    "torch.compile, TF32": pytorch(tf32=True, mode="default"),
    "torch.compile, float16": pytorch(half=True, mode="default"),
    "torch.compile, float16, CUDA graphs": pytorch(half=True, mode="reduce-overhead"),
    "the paper's network, torch eager, TF32": pytorch("paper", tf32=True),
}


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_protein_vectors(benchmark, kind, length, batch):
    benchmark.group = f"{batch} x {length} residues, to protein vectors"
    benchmark.name = kind
    feeds = chains(length, batch)
    run = KINDS[kind](feeds)
    for _ in range(5):
        found = run()
    benchmark.pedantic(run, rounds=30, iterations=1)
    seconds = benchmark.stats.stats.median
    benchmark.extra_info |= {"chains/s": round(batch / seconds)}
    if not kind.startswith("the paper"):
        from protemb_train.network.network import ScoreNetwork
        from protemb_train.network.presets import BASE

        wanted = on_the_cpu(length, batch)
        error = np.abs(found - wanted).max() / np.abs(wanted).max()
        useful = 2 * batch * length**2 * ScoreNetwork(BASE).multiplications
        benchmark.extra_info |= {"TFLOP/s": round(useful / seconds / 1e12, 2), "error": f"{error:.0e}"}
        assert error < TOLERANCE["float32" in kind]


@pytest.mark.benchmark(group="Embedder, a chain at a time")
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("readouts", [(), ("contact",)], ids=["protein and residues", "and contacts"])
@pytest.mark.parametrize("model", ["base", "base-fp16"])
def test_embedder(benchmark, model, length, readouts):
    embedder = Embedder(model, device="cuda")
    coords = chains(length, 1)["ca_coords"][0]
    chain = read_chain((coords, "A" * length))
    for _ in range(3):
        embedder.embed_chain(chain, readouts=readouts)
    benchmark.pedantic(lambda: embedder.embed_chain(chain, readouts=readouts), rounds=15, iterations=1)


@pytest.mark.benchmark(group="Embedder, 400 chains of many lengths")
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("model", ["base", "base-fp16", "small"])
def test_many_lengths(benchmark, model, batch):
    rng = np.random.default_rng(0)
    lengths = np.clip(np.exp(rng.normal(5.2, 0.65, 400)), 30, 1000).astype(int)
    embedder = Embedder(model, device="cuda")
    tuples = [(chains(n, 1)["ca_coords"][0], "A" * n) for n in lengths]
    alone = embedder.embed(tuples[0]).protein

    def run() -> np.ndarray:
        first, *_ = [one.protein for one in embedder.embed_many(tuples, batch=batch)]
        return first

    run()
    found = benchmark.pedantic(run, rounds=3, iterations=1)
    assert np.abs(found - alone).max() <= 1e-3 * np.abs(alone).max()
    benchmark.extra_info |= {
        "chains/s": round(len(lengths) / benchmark.stats.stats.median),
        "mean residues": round(lengths.mean()),
        "lengths": len(set(lengths)),
    }


@cache
def mixed(mean: int) -> list[Chain]:
    """Return chains of about 100,000 residues together, of lengths from 0.7 to 1.3 times their mean."""
    lengths = np.random.default_rng(mean).integers(int(0.7 * mean), int(1.3 * mean) + 1, 100_000 // mean)
    return [read_chain((chains(int(n), 1)["ca_coords"][0], "A" * int(n))) for n in lengths]


@cache
def mixed_on_the_cpu(mean: int) -> dict[int, np.ndarray]:
    """Return protein vectors in float32 on the CPU of every 20th of these chains."""
    exact = Embedder("base", device="cpu")
    return {place: exact.embed_chain(mixed(mean)[place]).protein for place in range(0, len(mixed(mean)), 20)}


# Chains in a batch; whether those of different lengths share one; CUDA graphs.
PLANS = {
    "one at a time": (1, False, False),
    "batches of equal lengths": (64, False, False),
    "launch plan": (64, True, False),
    "launch plan, CUDA graphs": (64, True, True),
}


@pytest.mark.parametrize("mean", LENGTHS)
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("model", ["base", "base-fp16"])
def test_mixed_lengths(benchmark, model, plan, mean):
    benchmark.group = f"Embedder, chains of {mean} residues on average and mixed lengths"
    benchmark.name = f"{model}, {plan}"
    batch, padded, cuda_graphs = PLANS[plan]
    memory = torch.cuda.mem_get_info()[0] // 3
    try:
        embedder = Embedder(model, device="cuda", memory_limit=memory, cuda_graphs=cuda_graphs)
        if padded and not embedder._session.takes_lengths:
            pytest.skip(
                f"{model} takes no padded chains; make it again with protemb-export and its checkpoint"
            )
        embedder._session.takes_lengths &= padded
        mixed_run(benchmark, embedder, mean, batch, TOLERANCE[model == "base"])
    except DeviceError as error:
        if not cuda_graphs:
            raise
        pytest.skip(str(error))


def mixed_run(benchmark: Any, embedder: Embedder, mean: int, batch: int, tolerance: float) -> None:
    """Measure an `Embedder` over chains of mixed lengths, and compare it with the CPU after every run."""
    some, wanted = mixed(mean), mixed_on_the_cpu(mean)

    def run() -> None:
        _, found = embedder.embed_many(some, batch=batch).proteins()
        for place, vector in wanted.items():
            assert np.abs(found[place] - vector).max() <= tolerance * np.abs(vector).max()

    run()
    benchmark.pedantic(run, rounds=3, iterations=1)
    rate = len(some) / benchmark.stats.stats.median
    benchmark.extra_info |= {"chains/s": round(rate), "lengths": len({len(chain) for chain in some})}


@pytest.mark.benchmark(group="20 lengths in turn, in all")
@pytest.mark.parametrize(
    "kind",
    [
        "ONNX Runtime, float32 (the SDK's)",
        "ONNX Runtime, float16 (base-fp16)",
        "ONNX Runtime, float32, convolutions",
        "ONNX Runtime, float32, convolutions by heuristic",
        "torch eager, float32",
        "torch eager, float16",
    ],
)
def test_new_lengths(benchmark, kind):
    lengths = range(180, 300, 6)
    KINDS[kind](chains(100, 1))()
    runs = [KINDS[kind](chains(length, 1)) for length in lengths]
    start = time.perf_counter()
    for run in runs:
        run()
    benchmark.name = kind
    each = (time.perf_counter() - start) / len(runs)
    benchmark.extra_info["ms per length, first"] = round(each * 1e3, 1)
    benchmark.pedantic(lambda: [run() for run in runs], rounds=5, iterations=1)
    benchmark.extra_info["ms per length, later"] = round(benchmark.stats.stats.median / len(runs) * 1e3, 2)


@pytest.mark.benchmark(group="memory and matrix products of the GPU")
@pytest.mark.parametrize("kind", ["float32", "TF32", "float16", "copy"])
def test_ceilings(benchmark, kind):
    size = 8192
    torch.backends.cuda.matmul.allow_tf32 = kind == "TF32"
    dtype = torch.float16 if kind == "float16" else torch.float32
    a, b = (torch.randn(size, size, device="cuda", dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)

    def run() -> None:
        for _ in range(10):
            if kind == "copy":
                out.copy_(a)
            else:
                torch.mm(a, b, out=out)
        torch.cuda.synchronize()

    run()
    benchmark.pedantic(run, rounds=7, iterations=1)
    seconds = benchmark.stats.stats.median / 10
    moved, products = 2 * a.numel() * a.element_size(), 2 * size**3
    rate = (
        {"GB/s": round(moved / seconds / 1e9)}
        if kind == "copy"
        else {"TFLOP/s": round(products / seconds / 1e12, 1)}
    )
    benchmark.extra_info |= rate | {"card": torch.cuda.get_device_name(0)}
