"""An approver's own configuration: where the TSB is, whose requests count, and which key decides.

One TOML file. It holds no secret: API key, passphrase and PIN are referred to, or asked for.
"""

import json
import os
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from countersign.models import sentence
from countersign_cli.exits import CommandError, Exit

FILE = Path("~/.config/countersign/approver.toml")
ENVIRONMENT = "COUNTERSIGN_APPROVER"
ASK, FROM_ENVIRONMENT, FROM_FILE = "ask", "env:", "file:"
OWNER_ONLY = 0o600
SETUP = "Run countersign approvals setup, which asks for everything and checks it."


class Part(BaseModel):
    """Strict: a name that nobody reads would be a setting that does not hold."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class TsbPart(Part):
    """The TSB: its URL without /v1, the CAs it is verified by, and the API key of role approver.

    `api_key` is a reference: `env:NAME`, `file:PATH` or `ask`. None: this TSB wants none.
    """

    url: str
    ca: str | None = None
    api_key: str | None = None


class StackPart(Part):
    """The stack whose requests count: its public signing key, in PEM."""

    signing_key: str


class TokenPart(Part):
    """A key on a PKCS #11 token: the module, the token's label, and what tells twins apart."""

    module: str
    label: str
    serial: str | None = None
    object: str | None = None


class ApproverPart(Part):
    """The approver's own key: a file (PEM or PKCS #12) or a token, and what a policy names."""

    key: str | None = None
    token: TokenPart | None = None
    certificate: str | None = None
    named_by: Literal["public key", "certificate"] = "public key"

    @model_validator(mode="after")
    def _one_key(self) -> "ApproverPart":
        if (self.key is None) == (self.token is None):
            raise ValueError("give either key or token")
        return self


class Settings(Part):
    """All of it."""

    tsb: TsbPart
    stack: StackPart
    approver: ApproverPart


def read(file: Path) -> Settings:
    """The settings; paths in them are made absolute: they are relative to the file.

    Raises:
        CommandError: there is no such file, or something in it is missing, unknown or wrong.
    """
    try:
        content = tomllib.loads(file.read_text())
        found = Settings.model_validate(content)
    except FileNotFoundError:
        raise _unusable(f"there is no {file}", SETUP) from None
    except OSError as error:
        raise _unusable(f"{file} cannot be read: {error.strerror}", "Check the path.") from None
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        path = ".".join(str(part) for part in first["loc"]) or "the file"
        raise _unusable(f"{file}: {path}: {sentence(first)}", SETUP) from None
    except ValueError as error:
        raise _unusable(f"{file} is no TOML: {error}", SETUP) from None
    return _absolute(found, file.parent)


def write(settings: Settings, file: Path) -> None:
    """Write the file, for its owner alone.

    Raises:
        CommandError: it cannot be written.
    """
    parts = settings.model_dump(exclude_none=True)
    token = parts["approver"].pop("token", None)
    tables = {**parts, **({"approver.token": token} if token else {})}
    lines = ["# Written by countersign approvals setup. It holds no secret."]
    for name, values in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {_quoted(value)}" for key, value in values.items())]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(OWNER_ONLY)
        file.chmod(OWNER_ONLY)
        file.write_text("\n".join([*lines, ""]))
    except OSError as error:
        raise _unusable(f"{file} cannot be written: {error.strerror}", "Check the path.") from None


def api_key(reference: str | None, ask: Any) -> str | None:
    """The API key that a reference means; `ask` is called with a prompt where it is to be asked.

    Raises:
        CommandError: there is none, or it is nothing that a header can carry.
    """
    if reference is None:
        return None
    if reference == ASK:
        found = ask("API key of the TSB, role approver")
    elif reference.startswith(FROM_ENVIRONMENT):
        found = os.environ.get(reference.removeprefix(FROM_ENVIRONMENT), "")
    elif reference.startswith(FROM_FILE):
        found = text(Path(reference.removeprefix(FROM_FILE)).expanduser())
    else:
        raise _unusable(
            "tsb.api_key is no reference", "Write env:NAME, file:PATH or ask; never the key itself."
        )
    found = found.strip()
    if not found or not found.isascii() or not found.isprintable() or " " in found:
        raise _unusable(
            f"the API key that {reference} means is missing, or no header can carry it",
            "Copy it again, on one line.",
        )
    return str(found)


def text(file: Path) -> str:
    """A file's text.

    Raises:
        CommandError: it cannot be read.
    """
    try:
        return file.read_text()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise _unusable(f"{file} cannot be read: {why}", "Check the path.") from None


def _absolute(settings: Settings, folder: Path) -> Settings:
    def path(given: str | None) -> str | None:
        return None if given is None else str(folder / Path(given).expanduser())

    tsb, approver = settings.tsb, settings.approver
    reference = tsb.api_key
    if reference is not None and reference.startswith(FROM_FILE):
        reference = f"{FROM_FILE}{path(reference.removeprefix(FROM_FILE))}"
    return Settings(
        tsb=tsb.model_copy(update={"ca": path(tsb.ca), "api_key": reference}),
        stack=StackPart(signing_key=path(settings.stack.signing_key) or ""),
        approver=approver.model_copy(
            update={"key": path(approver.key), "certificate": path(approver.certificate)}
        ),
    )


def _quoted(value: str) -> str:
    """A TOML basic string; JSON escapes the same, and DEL stands in no path of ours."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _unusable(what: str, action: str) -> CommandError:
    return CommandError(what, action=action, code=Exit.USAGE)
