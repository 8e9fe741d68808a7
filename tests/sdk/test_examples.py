"""The examples in the docstrings of public names run, beside a structure named 1a8o.cif."""

from __future__ import annotations

import doctest
import importlib
import inspect
import shutil
from pathlib import Path

import pytest

import protemb_sdk
from protemb_sdk._model.models import EXAMPLE


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(recurse=False)
    found = finder.find(protemb_sdk, "protemb_sdk")
    for name in protemb_sdk.__all__:
        value = getattr(protemb_sdk, name)
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        module = importlib.import_module(value.__module__)
        found += doctest.DocTestFinder().find(value, name, module=module)
    return [test for test in found if test.examples]


@pytest.mark.parametrize("example", examples(), ids=lambda test: test.name)
def test_an_example_gives_what_it_shows(
    example: doctest.DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(EXAMPLE, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert doctest.DocTestRunner().run(example).failed == 0


def test_there_are_examples() -> None:
    named = {test.name for test in examples()}
    assert named >= {"protemb_sdk", "ProtembError", "Embedder.embed", "Embedder.embed_batch"}
    assert named >= {"Embedder.denoising_gradient", "EmbeddingRun.proteins"}
