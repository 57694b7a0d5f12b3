"""A TSB simulator in another process, on the network, over TLS."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests

SECONDS = 60
ROLES = {"management": "keyManagement", "operation": "keyOperation", "service": "service",
         "approver": "approver"}  # fmt: skip

type Json = dict[str, Any]


@dataclass(frozen=True)
class Tsb:
    """The simulator: its URL, its control side, the file of its CA, its API keys by role."""

    url: str
    control_url: str
    ca: str
    tokens: dict[str, str]

    def control(self, method: str, path: str, body: Json | None = None) -> Any:
        answer = requests.request(method, self.control_url + path, json=body, timeout=SECONDS)
        answer.raise_for_status()
        return answer.json()

    def call(self, path: str, body: Json, role: str) -> Any:
        """Post as somebody else who uses this TSB."""
        answer = requests.post(
            self.url + path,
            json=body,
            headers={"X-API-KEY": self.tokens[role]},
            verify=self.ca,
            timeout=SECONDS,
        )
        answer.raise_for_status()
        return answer.json()

    @property
    def labels(self) -> list[str]:
        """Of the keys that are there."""
        keys = self.control("GET", "/state")["keys"]
        return [key["label"] for key in keys if not key["deleted"]]


@contextmanager
def running(*switches: str) -> Iterator[Tsb]:
    """A simulator with these switches (`name=value`), until the end."""
    given = [part for one in switches for part in ("--switch", one)]
    arguments = [sys.executable, "-m", "local.tsb_simulator", *given]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        keys = {name: said["apiKeys"][role][0] for name, role in ROLES.items()}
        yield Tsb(said["url"], said["controlUrl"], said["caCertificate"], keys)
        process.terminate()
