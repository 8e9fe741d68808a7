"""Peak rates of one thread of this machine: matrix products and copies, by the fastest library."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from threadpoolctl import threadpool_limits

MATRIX = 1536
COPIED = 256 * 2**20


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def median_seconds(run: Callable[[], object], rounds: int = 9) -> float:
    """Return the median time of some runs, after a warm-up."""
    run()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def compact_coords(length: int) -> np.ndarray:
    """Return a compact random walk of C-alphas, in angstrom; the speed does not depend on the structure."""
    rng = np.random.default_rng(length)
    steps = rng.normal(size=(length, 3))
    return np.cumsum(3.8 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0) * 0.5


def one_thread() -> onnxruntime.SessionOptions:
    """Return session options for one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def product(operator: str, a: np.ndarray, b: np.ndarray, out: int) -> Callable[[], object]:
    """Return a function that runs one of ONNX Runtime's matrix products, with a given ONNX type of result."""
    value = onnx.helper.make_tensor_value_info
    types = [onnx.helper.np_dtype_to_tensor_dtype(matrix.dtype) for matrix in (a, b)]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(operator, ["a", "b"], ["c"])],
        "product",
        [value("a", types[0], ["m", "k"]), value("b", types[1], ["k", "n"])],
        [value("c", out, ["m", "n"])],
    )
    return _runner(graph, {"a": a, "b": b})


def reduction(array: np.ndarray) -> Callable[[], np.ndarray]:
    """Return a function that runs ONNX Runtime's mean over the last axis of an array, without copying it."""
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("ReduceMean", ["a", "axes"], ["mean"], keepdims=0)],
        "mean",
        [value("a", onnx.TensorProto.FLOAT, list(array.shape))],
        [value("mean", onnx.TensorProto.FLOAT, list(array.shape[:-1]))],
        [onnx.numpy_helper.from_array(np.array([array.ndim - 1]), "axes")],
    )
    return _runner(graph, {"a": array})


def _runner(graph: onnx.GraphProto, feeds: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), one_thread(), providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, feeds)[0]


@dataclass(frozen=True)
class Machine:
    """Rates of one thread.

    Parameters
    ----------
    numpy_products, float_products, integer_products : float
        Multiplications and additions per second in a matrix product: NumPy's and ONNX Runtime's of float32,
        ONNX Runtime's of uint8 times int8.
    copied : float
        Bytes read and written per second, for arrays larger than the caches.
    """

    numpy_products: float
    float_products: float
    integer_products: float
    copied: float

    @property
    def products(self) -> float:
        """The faster of the two in float32: NumPy may only have kernels for older processors."""
        return max(self.numpy_products, self.float_products)

    @staticmethod
    def measured() -> Machine:
        """Measure them."""
        rng = np.random.default_rng(0)
        a, b = rng.standard_normal((2, MATRIX, MATRIX), dtype=np.float32)
        whole_a = rng.integers(0, 255, a.shape, dtype=np.uint8)
        whole_b = rng.integers(-127, 127, a.shape, dtype=np.int8)
        out = np.empty_like(a)
        source, target = np.ones(COPIED // 8), np.empty(COPIED // 8)
        runs: dict[str, Callable[[], Any]] = {
            "numpy": lambda: np.matmul(a, b, out=out),
            "float": product("MatMul", a, b, onnx.TensorProto.FLOAT),
            "integer": product("MatMulInteger", whole_a, whole_b, onnx.TensorProto.INT32),
        }
        with threadpool_limits(1):
            rates = {name: 2 * MATRIX**3 / median_seconds(run) for name, run in runs.items()}
        copied = 2 * COPIED / median_seconds(lambda: np.copyto(target, source))
        return Machine(rates["numpy"], rates["float"], rates["integer"], copied)

    def __str__(self) -> str:
        return (
            f"A matrix product of {MATRIX} x {MATRIX} in float32 runs at {self.numpy_products / 1e9:.0f} "
            f"GFLOP/s in NumPy and {self.float_products / 1e9:.0f} in ONNX Runtime, in uint8 times int8 at "
            f"{self.integer_products / 1e9:.0f}; a copy at {self.copied / 1e9:.1f} GB/s, reads and writes "
            "counted."
        )
