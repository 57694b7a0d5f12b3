"""The enrollments that are explored: how each is asked for, what its people do, how it ends."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from local.engine.stack import InProcessStack
from tests.ca import Ca
from tests.case import Case, Json
from tests.exploration.choices import Walk
from tests.workflow.api import Caller

WINDOW_SECONDS = 3_600
DECIDED_AFTER = 15  # seconds: after the first poll, which finds the request open


@dataclass(frozen=True)
class Scenario:
    """One enrollment as it goes without faults.

    Args:
        name: as the command line and the report call it.
        outcome: how it ends.
        approves: what everybody does who is asked; None: nothing.
        unused_key: what becomes of a key without a CSR; None: a raw request, whose key is kept.
        destroyable: whether the key can be deleted.
        by_api: started by POST /enrollments, else by StartExecution.
        certifies: what the approvers of the CA's key do; None: no certificate is asked for.
    """

    name: str
    outcome: str
    approves: bool | None = True
    unused_key: str | None = None
    destroyable: bool = True
    by_api: bool = False
    certifies: bool | None = None

    @property
    def steps(self) -> int:
        """In how many of them something may happen by chance; later, only evidence is kept."""
        return 120 if self.certifies is None else 220

    def begin(self, stack: InProcessStack) -> Walk:
        """Start it on a fresh stack."""
        case = Case(stack, "explored")
        ca = None if self.certifies is None else _ca(case)
        requested = self._request(case, ca)
        walk = Walk(
            stack, case, self._starter(requested), WINDOW_SECONDS, ca_label=ca.label if ca else None
        )
        walk.start(walk)
        return walk

    def act(self, walk: Walk) -> None:
        """What its people do of themselves at this moment, if anything."""
        if self.approves is None:
            return
        clock = walk.stack.simulator.broker.clock
        due = [
            one
            for one in walk.open_requests
            if one.tasks and clock.now(one.key.label) - one.created >= DECIDED_AFTER
        ]
        if due:
            is_second = any(one.key.label == walk.ca_label for one in due)
            walk.decide(approves=bool(self.certifies) if is_second else self.approves)

    def _request(self, case: Case, ca: Ca | None) -> Json:
        if self.unused_key is not None:
            return _by_profile(case, self.unused_key, ca)
        request = case.request(destroyable=self.destroyable)
        request["key"] |= {"algorithm": "EC", "curveOid": "1.2.840.10045.3.1.7"}
        del request["key"]["keySize"]
        request["csr"]["signatureAlgorithm"] = "SHA256_WITH_ECDSA"
        return ca.request(request) if ca else request

    def _starter(self, requested: Json) -> Callable[[Walk], None]:
        def by_api(walk: Walk) -> None:
            Caller(walk.stack).begin("POST", "/enrollments", requested)

        def by_execution(walk: Walk) -> None:
            walk.case.start(requested)

        return by_api if self.by_api else by_execution


def _ca(case: Case) -> Ca:
    """A CA with another approver than the key's, all of it quick to make."""
    assert isinstance(case.stack, InProcessStack)
    curve = {"algorithm": "EC", "curveOid": "1.2.840.10045.3.1.7", "keySize": None}
    return Ca.make(
        case,
        case.stack.people["Alan Turing"],
        key={**curve, "algorithmOid": None},
        signatureAlgorithm="SHA256_WITH_ECDSA",
    )


def _by_profile(case: Case, unused_key: str, ca: Ca | None) -> Json:
    assert isinstance(case.stack, InProcessStack)
    file = case.stack.folder / "layer/profiles/trial@1.json"
    content: dict[str, Any] = {**json.loads(file.read_text()), "version": 2}
    content["unusedKey"] = unused_key
    if ca is not None:
        content |= {"caKeyLabel": ca.label, "certificate": {"validity": 90}}
    case.stack.release_profile("trial@2", content)
    return case.by_profile("trial@2")


SCENARIOS = {
    one.name: one
    for one in (
        Scenario("approve", "ISSUED"),
        Scenario("decline", "REJECTED", approves=False, unused_key="delete"),
        Scenario("expire", "EXPIRED", approves=None, unused_key="delete"),
        Scenario("permanent", "ISSUED", destroyable=False),
        Scenario("keep", "REJECTED", approves=False, unused_key="keep"),
        Scenario("delete", "ISSUED", unused_key="delete"),
        Scenario("block", "REJECTED", approves=False, unused_key="block"),
        Scenario("api", "ISSUED", by_api=True),
        Scenario("certificate", "ISSUED", certifies=True),
        Scenario("uncertified", "REJECTED", unused_key="delete", certifies=False),
    )
}
