"""What the engine's network lets our client see is what it sees on sockets."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from countersign.errors import CountersignError
from countersign.tsb.client import TsbClient
from countersign.tsb.models import Credentials, Tls
from local.engine import network
from local.engine.surroundings import TSB_URL
from local.tsb_simulator import control
from local.tsb_simulator.simulator import Simulator

FAULTS: dict[str, dict[str, Any]] = {
    "refused before": {"kind": "status", "httpStatus": 503},
    "refused in HTML": {"kind": "status", "httpStatus": 502, "body": "<html>"},
    "dropped before": {"kind": "drop"},
    "dropped after": {"kind": "drop", "executed": True},
    "half an answer": {"kind": "truncate"},
}
REFUSED = {"errorCode": 621, "reason": "res.error.in.hsm", "message": "Error in HSM"}
FAULTS["refused by TSB"] = {"kind": "status", "httpStatus": 400, "body": REFUSED}


@pytest.fixture(scope="module")
def over_sockets() -> Iterator[tuple[TsbClient, str]]:
    """A client of a simulator in another process, and the URL of its control side."""
    command = [sys.executable, "-m", "local.tsb_simulator", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        tls = Tls(ca_bundle=Path(said["caCertificate"]).read_text())
        keys = said["apiKeys"]
        client = TsbClient(said["url"], credentials=lambda role: credentials(keys, role), tls=tls)
        with client:
            yield client, said["controlUrl"]
        process.terminate()


@pytest.fixture
def in_process() -> Iterator[tuple[TsbClient, Simulator]]:
    """A client of a simulator in this process."""
    simulator = Simulator()
    undo = network.replace(lambda: simulator, lambda *_: None, lambda: None)
    keys = simulator.api_keys
    with TsbClient(TSB_URL, credentials=lambda role: credentials(keys, role)) as client:
        yield client, simulator
    undo()


def credentials(keys: dict[str, list[str]], role: str) -> Credentials:
    return Credentials(tuple(keys[role]))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_the_same_error_as_on_a_socket(
    fault: str, over_sockets: tuple[TsbClient, str], in_process: tuple[TsbClient, Simulator]
) -> None:
    rule = {"path": "/v1/key/attributes", "fault": FAULTS[fault]}
    existing, control_url = over_sockets
    requests.post(f"{control_url}/faults", json=rule, timeout=10).raise_for_status()
    here, simulator = in_process
    content = json.dumps(rule).encode()
    status, _ = control.handle(simulator, "POST", f"{control.PREFIX}/faults", content)

    assert status == 200
    assert error(here) == error(existing)


def error(client: TsbClient) -> tuple[str, str]:
    with pytest.raises(CountersignError) as caught:
        client.key_attributes("no such key")
    return type(caught.value).__name__, caught.value.message
