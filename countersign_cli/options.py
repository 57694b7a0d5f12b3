"""The options that commands share. `--json` also decides how errors are shown, see main.py."""

from typing import Annotated

import typer

JSON = "countersign.json"  # key of the context's `meta`: whether --json is on

WHERE = "Where"
Stack = Annotated[
    str,
    typer.Option(
        help="CloudFormation stack whose output ApiUrl names the API.",
        envvar="COUNTERSIGN_STACK",
        rich_help_panel=WHERE,
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        help="The API itself; no stack is looked up.",
        envvar="COUNTERSIGN_URL",
        rich_help_panel=WHERE,
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(help="Of the AWS configuration; else AWS_PROFILE.", rich_help_panel=WHERE),
]
Region = Annotated[
    str | None,
    typer.Option(
        help="Of the stack; else AWS_REGION, else the profile's.",
        rich_help_panel=WHERE,
    ),
]


def _remember(context: typer.Context, value: bool) -> bool:
    context.meta[JSON] = value  # for errors later on, see main.py
    return value


AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        callback=_remember,
        help="Print a document, for scripts; errors are JSON too, on standard error.",
    ),
]
