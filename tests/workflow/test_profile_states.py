"""AcceptEnrollment and CreateKey by profile: real functions, the simulator, AWS held by moto."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from countersign import enrollment, polling, request
from countersign import models as m
from countersign.attestation import Trust
from countersign.aws.bus import Bus
from countersign.aws.clients import client
from countersign.aws.objects import Objects
from countersign.aws.records import Records
from countersign.errors import EnrollmentConflictError, InvalidEnrollmentError, TsbUnavailableError
from countersign.profiles import Profiles
from countersign.tsb import Credentials, TsbClient
from local.approver import Approver
from local.tsb_simulator.faults import FaultRule
from local.tsb_simulator.simulator import Simulator
from tests.integration.house import InProcess
from tests.unit.test_template import RESOURCES

ROOT = Path(__file__).parents[2]
NAME = "countersign"
CA_LABEL = "CA.code-signing"
PEOPLE = ("Ada Lovelace", "Grace Hopper", "Alan Turing", "Edsger Dijkstra")

type Json = dict[str, Any]


@dataclass
class Stack:
    """The stores, a TSB, and a shelf of profiles that a test may change."""

    shelf: Path
    people: dict[str, Approver]

    def __post_init__(self) -> None:
        self.records, self.objects = Records(NAME), Objects(NAME)
        self.simulator = Simulator()
        self.tsb = TsbClient(
            "http://127.0.0.1",
            credentials=lambda role: Credentials(tuple(self.simulator.api_keys[role])),
            transport=InProcess(self.simulator),
        )

    @property
    def profiles(self) -> Profiles:
        return Profiles(self.shelf)

    def release(self, version: int) -> None:
        """A newer version of the profile, with another window."""
        content = json.loads((self.shelf / "code-signing@1.json").read_text())
        content |= {"version": version, "window": {"timeout": 86_400 * version}}
        (self.shelf / f"code-signing@{version}.json").write_text(json.dumps(content))

    def ca_key(self, *approvers: str, label: str = CA_LABEL) -> None:
        """A CA key for which these people approve; without any a key without a policy."""
        approvals = [
            {"type": "public_key", "name": name, "value": self.people[name].spki}
            for name in approvers
        ]
        group = {"name": "g", "quorum": 1, "approvals": approvals}
        token = {"name": "t", "timelock": 0, "timeout": 0, "groups": [group]}
        frozen: Json = {"tokens": []}
        others = dict.fromkeys(("ruleBlock", "ruleUnblock", "ruleModify"), frozen)
        policy = {"ruleUse": {"tokens": [token]}, **others, "keyStatus": {"blocked": False}}
        self.tsb.create_key(
            {
                "label": label,
                "algorithm": "EC",
                "curveOid": "1.3.132.0.34",
                "attributes": {"decrypt": False, "sign": True, "unwrap": False},
                "policy": policy if approvers else None,
            }
        )
        self.simulator.forget_calls()

    def accept(self, arn: str = "arn:1") -> m.Accepted:
        execution = m.Execution(arn=arn, name="x", input={"request": asked()})
        accepted = enrollment.accept_enrollment(
            m.AcceptEnrollmentInput(execution=execution),
            records=self.records,
            objects=self.objects,
            bus=Bus(NAME),
            rules=request.Rules(self.profiles, "", allow_raw_policy=False),
        )
        assert isinstance(accepted, m.Accepted)
        return accepted

    def create_key(self, accepted: m.Accepted, arn: str = "arn:1") -> m.CreatedKey:
        return enrollment.create_key(
            m.CreateKeyInput.read(self.step(accepted, arn)),
            records=self.records,
            objects=self.objects,
            tsb=self.tsb,
            password=str,
            profiles=self.profiles,
            trust=Trust(),
        )

    def step(self, accepted: m.Accepted, arn: str) -> Json:
        asked = accepted.request
        return {"executionArn": arn, "enrollmentId": accepted.enrollment_id, "request": asked}

    def record(self) -> Json:
        return self.records.get("release-1") or {}

    def kept(self) -> dict[str, Json]:
        s3 = boto3.client("s3")
        listed = s3.list_objects_v2(Bucket=NAME).get("Contents", [])
        return {
            one["Key"].split("/")[-1]: json.loads(
                s3.get_object(Bucket=NAME, Key=one["Key"])["Body"].read()
            )
            for one in listed
        }

    def called(self) -> list[str]:
        return [f"{call['method']} {call['path']}" for call in self.simulator.calls()]


def asked() -> Json:
    return {
        "enrollmentId": "release-1",
        "profile": "code-signing",
        "key": {"label": "SUB.release"},
        "csr": {"standardCertificateAttributes": {"commonName": "Release 1"}},
    }


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    people = {name: Approver.generate(f"CN of {name}", "ec") for name in PEOPLE}
    keys = {
        name: {"certificate": person.certificate()}
        if name == "Ada Lovelace"
        else {"publicKey": person.spki}
        for name, person in people.items()
    }
    directory = {
        "people": [
            {"name": name, "contact": "x", "keys": [{**key, "validFrom": "2026-01-01"}]}
            for name, key in keys.items()
        ]
    }
    (tmp_path / "directory.json").write_text(json.dumps(directory))
    released = ROOT / "profiles/code-signing@1.json"
    (tmp_path / released.name).write_bytes(released.read_bytes())
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    table = RESOURCES["EnrollmentsTable"]["Properties"]
    wanted = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
    with mock_aws():
        client.cache_clear()
        boto3.client("dynamodb").create_table(
            TableName=NAME, **{name: table[name] for name in wanted if name in table}
        )
        boto3.client("s3").create_bucket(Bucket=NAME)
        boto3.client("events").create_event_bus(Name=NAME)
        yield Stack(tmp_path, people)
    client.cache_clear()


def refused(stack: Stack, accepted: m.Accepted) -> InvalidEnrollmentError:
    with pytest.raises(InvalidEnrollmentError) as caught:
        stack.create_key(accepted)
    return caught.value


# AcceptEnrollment ------------------------------------------------------------------------------


def test_what_travels_is_whole_and_what_is_on_record_is_as_sent(stack: Stack) -> None:
    accepted = stack.accept()

    assert accepted.request["profile"] == "code-signing@1"
    assert accepted.request["key"]["policy"]["keyStatus"] == {"blocked": False}
    assert stack.kept()["request.json"] == accepted.request
    assert stack.record()["request"] == asked()
    assert stack.record()["requestSha256"] == request.sha256(asked())
    assert stack.record()["acceptedSha256"] == request.sha256(accepted.request)
    assert stack.record()["profile"] == "code-signing@1"
    assert stack.record()["findings"] == []
    group = stack.record()["policy"]["tokens"][0]["groups"][0]
    assert group["approvers"] == ["Ada Lovelace", "Grace Hopper", "Alan Turing"]


def test_an_execution_that_accepts_again_carries_out_what_it_accepted(stack: Stack) -> None:
    first = stack.accept()
    stack.release(2)

    assert stack.accept() == first


def test_a_request_that_somebody_put_there_is_not_carried_out(stack: Stack) -> None:
    theirs = {"key": {"label": "SUB.release", "policy": {}}}
    key = "enrollments/release-1/request.json"
    boto3.client("s3").put_object(Bucket=NAME, Key=key, Body=json.dumps(theirs).encode())

    with pytest.raises(EnrollmentConflictError, match="who wrote it"):
        stack.accept()


def test_a_later_attempt_means_the_newest_version_and_keeps_its_own_request(stack: Stack) -> None:
    stack.accept()
    stack.records.update("release-1", {"outcome": "FAILED"})
    stack.release(2)

    second = stack.accept("arn:2")

    assert second.attempt == 2
    assert second.request["profile"] == "code-signing@2"
    assert {name: one["profile"] for name, one in stack.kept().items()} == {
        "request.json": "code-signing@1",
        "request-2.json": "code-signing@2",
    }
    assert stack.record()["profile"] == "code-signing@2"


# CreateKey -------------------------------------------------------------------------------------


def test_a_key_is_made_when_the_ca_key_s_approvers_are_others(stack: Stack) -> None:
    stack.ca_key("Edsger Dijkstra")

    created = stack.create_key(stack.accept())

    assert created.label == "SUB.release"
    assert stack.called() == ["POST /v1/key/attributes", "POST /v1/key"]
    assert stack.record()["caFindings"] == []


@pytest.mark.parametrize(
    ("approvers", "label", "code"),
    [
        (("Edsger Dijkstra", "Ada Lovelace"), CA_LABEL, "ca-approvers-overlap"),
        ((), CA_LABEL, "ca-key-unguarded"),
        (("Edsger Dijkstra",), "CA.other", "ca-policy-unread"),
    ],
)
def test_nothing_is_made_when_the_ca_key_is_not_as_it_must_be(
    stack: Stack, approvers: tuple[str, ...], label: str, code: str
) -> None:
    # The certificate of one approver is known by its public key: the CA's policy has the key bare.
    stack.ca_key(*approvers, label=label)

    error = refused(stack, stack.accept())

    assert code in error.message
    assert CA_LABEL in error.message
    assert stack.called() == ["POST /v1/key/attributes"]
    assert [one["code"] for one in stack.record()["caFindings"]] == [code]
    assert stack.records.get("label#SUB.release") is None


def test_a_waived_finding_about_the_ca_key_goes_on_record_with_its_reason(stack: Stack) -> None:
    reason = "the team is too small for two quorums"
    content = json.loads((stack.shelf / "code-signing@1.json").read_text())
    content |= {
        "version": 2,
        "lint": {"waivers": [{"code": "ca-approvers-overlap", "reason": reason}]},
    }
    (stack.shelf / "code-signing@2.json").write_text(json.dumps(content))
    stack.ca_key("Ada Lovelace")

    stack.create_key(stack.accept())

    assert [one["waiver"] for one in stack.record()["caFindings"]] == [reason]


def test_a_tsb_that_is_silent_about_the_ca_key_is_asked_again(stack: Stack) -> None:
    stack.ca_key("Edsger Dijkstra")
    rule = {"path": "/v1/key/attributes", "fault": {"kind": "status", "httpStatus": 503}}
    stack.simulator.faults.arm(FaultRule.model_validate(rule))
    accepted = stack.accept()

    with pytest.raises(TsbUnavailableError):
        stack.create_key(accepted)
    assert "caFindings" not in stack.record()
    assert stack.create_key(accepted).label == "SUB.release"


# RequestCsr ------------------------------------------------------------------------------------


def test_approvers_are_on_record_by_their_names_in_the_directory(stack: Stack) -> None:
    stack.ca_key("Edsger Dijkstra")
    accepted = stack.accept()
    key = stack.create_key(accepted)

    enrollment.request_csr(
        m.RequestCsrInput.read({**stack.step(accepted, "arn:1"), "key": key.dump()}),
        records=stack.records,
        objects=stack.objects,
        tsb=stack.tsb,
        password=str,
        sign=lambda _: b"signed",
        pace=polling.Schedule(window_seconds=0, timelock_seconds=0),
        names=stack.profiles.directory.names,
    )

    # Her certificate says "CN of Ada Lovelace".
    assert [one["name"] for one in stack.record()["approvers"]] == [
        "Ada Lovelace", "Grace Hopper", "Alan Turing",
    ]  # fmt: skip
