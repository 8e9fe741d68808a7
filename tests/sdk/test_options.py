"""Options that commands share: parsing of sizes, and equal options for commands of one kind."""

from __future__ import annotations

import inspect

import pytest
import typer

from protemb_sdk._cli.options import size
from protemb_sdk.cli import app


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1048576", 2**20),
        (2**31, 2**31),
        ("2GiB", 2 * 2**30),
        ("1.5 MiB", 3 * 2**19),
        ("500MB", 500_000_000),
        ("3k", 3000),
        ("7KiB", 7168),
        ("12B", 12),
    ],
)
def test_sizes_with_and_without_units_are_parsed(text: str | int, wanted: int) -> None:
    assert size(text) == wanted


@pytest.mark.parametrize("text", ["", "GiB", "2 apples", "-1", "1e9", "2GiBB", "2iB"])
def test_invalid_sizes_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a size"):
        size(text)


def options_of() -> dict[str, set[str]]:
    found = {}
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__
        found[name] = set(inspect.signature(command.callback).parameters)
    return found


def test_commands_that_embed_have_the_same_options() -> None:
    commands = options_of()
    for name in ("embed", "profile", "sites", "quality", "predict", "plot", "report", "search"):
        wanted = {"chain", "device", "threads", "altloc", "fetch", "timeout", "min_plddt"}
        assert wanted <= commands[name], name
    for name in ("verify", "doctor"):
        assert {"device", "threads"} <= commands[name], name
    for name in ("embed", "sites", "quality", "predict", "report"):
        assert {"files", "out", "workers", "quiet"} <= commands[name], name


def test_commands_select_devices_alike() -> None:
    defaults = {}
    for command in app.registered_commands:
        assert command.callback is not None
        device = inspect.signature(command.callback).parameters.get("device")
        if device is not None:
            defaults[command.callback.__name__] = device.default
    assert "verify" in defaults and set(defaults.values()) == {"auto"}, defaults
