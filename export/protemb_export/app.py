"""The command `protemb` with all its commands: those of the SDK and `finetune`, which trains and exports.

The SDK imports nothing from the training and export packages, so the commands are combined here.
"""

from __future__ import annotations

from protemb_export.cli import finetune
from protemb_sdk._base.console import run
from protemb_sdk.cli import app

app.command()(finetune)


def main() -> None:
    """Run the command line; a `ProtembError` is printed as one message, with exit status 1."""
    run(app)


if __name__ == "__main__":
    main()
