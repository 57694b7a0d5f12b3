"""The whole workflow in one process: the states' own functions, the simulator, AWS by moto.

Nothing of ours is replaced. What is missing is Step Functions between the states, and the network:
tests/e2e has those.
"""

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import requests
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from moto import mock_aws
from requests.adapters import BaseAdapter

from countersign import enrollment, evidence, inventory, outcome, polling
from countersign import models as m
from countersign.attestation import Trust
from countersign.aws import clients
from countersign.aws.bus import Bus
from countersign.aws.objects import Objects
from countersign.aws.records import Records
from countersign.errors import CountersignError
from countersign.profiles import Profiles
from countersign.request import Rules
from countersign.tsb import Credentials, TsbClient
from local.approver import Approver, Desk
from local.tsb_simulator.faults import FaultRule
from local.tsb_simulator.simulator import Simulator
from tests.unit.test_state_machine import SETTLED, evaluated
from tests.unit.test_template import RESOURCES

ROOT = Path(__file__).parents[2]
NAME = "countersign"
REGION = "eu-central-1"

type Json = dict[str, Any]


class InProcess(BaseAdapter):
    """Carries a call of requests to the simulator, without a network."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__()
        self._simulator = simulator

    def send(self, request: Any, *_: Any, **__: Any) -> requests.Response:
        body = request.body or b""
        reply = self._simulator.handle(
            request.method,
            request.path_url,
            {name.lower(): value for name, value in request.headers.items()},
            body.encode() if isinstance(body, str) else body,
        )
        response = requests.Response()
        response.status_code = reply.status
        response.raw = BytesIO(reply.body)
        response.request, response.url = request, request.url
        return response

    def close(self) -> None:
        pass


class DeskInProcess(Desk):
    """Where approvers of this house fetch their tasks."""

    simulator: Simulator

    def send(self, method: str, path: str, body: Json) -> Any:
        headers = {"x-api-key": self.api_key}
        reply = self.simulator.handle(method, path, headers, json.dumps(body).encode())
        assert reply.status < 300, reply.body
        return json.loads(reply.body) if reply.body else None


@dataclass
class Ended:
    """What came of an enrollment: everything that a test may look at."""

    id: str
    error: CountersignError | None
    document: m.OutcomeDocument
    record: Json
    events: list[Json]
    objects: dict[str, bytes]

    @property
    def event_types(self) -> list[str]:
        return [event["detail-type"] for event in self.events]

    @property
    def failed(self) -> list[str]:
        return [one["code"] for one in self.record["checks"] if one["result"] == "failed"]


@dataclass
class House:
    """One TSB and one account of AWS, for as many enrollments as a test likes."""

    simulator: Simulator = field(default_factory=Simulator)
    signing_key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def __post_init__(self) -> None:
        # A stack that takes raw policies, and knows nobody.
        self.rules = Rules(Profiles(ROOT / "events/seed"), "arn:", allow_raw_policy=True)
        self.records, self.bus = Records(NAME), Bus(NAME)
        self.objects, self.evidence = Objects(NAME), Objects(f"{NAME}-evidence")
        keys = self.simulator.api_keys
        self.tsb = TsbClient(
            "http://127.0.0.1",
            credentials=lambda role: Credentials(tuple(keys[role])),
            transport=InProcess(self.simulator),
        )
        self.desk = DeskInProcess("", keys["approver"][0], Path())
        object.__setattr__(self.desk, "simulator", self.simulator)
        self._queue = boto3.client("sqs").get_queue_url(QueueName=NAME)["QueueUrl"]

    @property
    def public_key(self) -> bytes:
        """The signing key's public half, PEM."""
        return self.signing_key.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )

    def keep_evidence(self, event: Json) -> dict[str, bytes]:
        """The evidence of an enrollment, as KeepEvidence writes it for this event."""
        folder = evidence.keep_evidence(
            event,
            records=self.records,
            objects=self.objects,
            evidence=self.evidence,
            sign=self.sign,
        )
        return self.evidence.below(folder)

    @property
    def trust(self) -> Trust:
        """The simulated HSM's own chain, and its root pinned."""
        chain = self.simulator.broker.attestation.chain
        return Trust(root_sha256=fingerprint(chain[-1]), chain="".join(chain))

    def sign(self, content: bytes) -> bytes:
        return self.signing_key.sign(content, ec.ECDSA(hashes.SHA256()))

    def request(self, *approvers: Approver, quorum: int = 1) -> Json:
        """The seed's request, asked of these people, with a subject that can be forged."""
        key = json.loads((ROOT / "events/seed/create-key.json").read_text())
        csr = json.loads((ROOT / "events/seed/csr-request.json").read_text())["csrSignRequest"]
        enrollment_id = uuid.uuid4().hex[:12]
        approvals = [
            {"type": "public_key", "name": one.name, "value": one.spki} for one in approvers
        ]
        group = {"name": "group", "quorum": quorum, "approvals": approvals}
        token = {"name": "token", "timelock": 0, "timeout": 3600, "groups": [group]}
        key |= {"label": f"key.{enrollment_id}"}
        key["policy"]["ruleUse"] = {"tokens": [token]}
        csr |= {"signKeyName": key["label"]}
        csr["standardCertificateAttributes"] = {
            "commonName": "example",
            "country": "CH",
            "organizationName": "Example",
        }
        return {"enrollmentId": enrollment_id, "key": key, "csr": csr, "reason": "OPS-42"}

    def fault(self, request: Json, method: str, path: str, **fault: Any) -> None:
        rule = {"label": request["key"]["label"], "method": method, "path": path, "times": None}
        self.simulator.faults.arm(FaultRule.model_validate({**rule, "fault": fault}))

    def enroll(
        self,
        request: Json,
        *approvers: Approver,
        declining: Iterable[Approver] = (),
        trust: Callable[[], Trust] | None = None,
        sign: Callable[[bytes], bytes] | None = None,
        after_creation: Callable[[], None] = lambda: None,
        before_store: Callable[[str], None] = lambda _: None,
    ) -> Ended:
        """Run an enrollment as the state machine does, until it is closed.

        Args:
            request: what is asked for.
            approvers: those who approve.
            declining: those who decline.
            trust: whose attestations are believed, when asked; None: the simulator's.
            sign: what signs for the stack; None: its signing key.
            after_creation: called when the key is there.
            before_store: called with the enrollment's id when TSB has executed.
        """
        believed = trust or (lambda: self.trust)
        run = m.Execution(arn=f"arn:aws:states:{uuid.uuid4()}", name="x", input=request)
        caught: CountersignError | None = None
        state = "AcceptEnrollment"
        closing: Json = {}
        try:
            accepted = enrollment.accept_enrollment(
                m.AcceptEnrollmentInput(execution=run),
                records=self.records,
                objects=self.objects,
                bus=self.bus,
                rules=self.rules,
            )
            assert isinstance(accepted, m.Accepted)
            step: Json = {
                "executionArn": run.arn,
                "enrollmentId": accepted.enrollment_id,
                "request": accepted.request,
            }
            state = "CreateKey"
            key = enrollment.create_key(
                m.CreateKeyInput.read(step),
                records=self.records,
                objects=self.objects,
                tsb=self.tsb,
                password=str,
                profiles=self.rules.profiles,
                trust=believed(),
            )
            after_creation()
            state = "RequestCsr"
            requested = enrollment.request_csr(
                m.RequestCsrInput.read({**step, "key": key.dump()}),
                records=self.records,
                objects=self.objects,
                tsb=self.tsb,
                password=str,
                sign=sign or self.sign,
                pace=polling.Schedule(window_seconds=0, timelock_seconds=0),
                names=self.rules.profiles.directory.names,
            )
            for one in approvers:
                one.approve(self.desk, one.await_task(self.desk, request["key"]["label"], 1))
            for one in declining:
                one.decline(self.desk, one.await_task(self.desk, request["key"]["label"], 1))
            state = "PollRequest"
            polled = enrollment.poll_request(
                m.PollRequestInput.read(
                    {
                        "executionArn": run.arn,
                        "enrollmentId": accepted.enrollment_id,
                        "requestId": requested.request_id,
                        "ageSeconds": 10,
                        "seen": "nothing",
                        "schedule": requested.schedule.dump(),
                    }
                ),
                records=self.records,
                objects=self.objects,
                tsb=self.tsb,
                bus=self.bus,
                names=self.rules.profiles.directory.names,
            )
            closing = {"status": polled.status}
            if polled.status == "EXECUTED":
                before_store(accepted.enrollment_id)
                state = "StoreCsr"
                stored = enrollment.store_csr(
                    m.StoreCsrInput.read(
                        {
                            **step,
                            "key": key.dump(),
                            "requestId": requested.request_id,
                            "pem": polled.pem,
                        }
                    ),
                    records=self.records,
                    objects=self.objects,
                    tsb=self.tsb,
                    password=str,
                    trust=believed(),
                )
                closing = stored.dump()
        except CountersignError as error:
            caught = error
            name = type(error).__name__
            cause = json.dumps({"errorType": name, "errorMessage": str(error)})
            closing = {"failure": {"state": state, "error": name, "cause": cause}}
        if state not in ("AcceptEnrollment", "CreateKey"):
            closing = self._discard(step, closing)
        document = outcome.close_enrollment(
            m.CloseEnrollmentInput.read({"execution": run.dump(), **closing}),
            records=self.records,
            bus=self.bus,
            code_version="layer:7",
        )
        return self._ended(document, caught)

    def _discard(self, step: Json, closing: Json) -> Json:
        """As the state machine: its own condition, and its Catch, which changes nothing."""
        if evaluated(SETTLED["Condition"], closing, request=step["request"]):
            return closing
        ending = {name: closing.get(name) for name in ("status", "failure")}
        try:
            settled = enrollment.discard_key(
                m.DiscardKeyInput.read({**step, **ending, "unanswered": False}),
                records=self.records,
                tsb=self.tsb,
                password=str,
            )
        except CountersignError:
            return closing
        assert not settled.again
        return {
            name: one for name, one in settled.dump().items() if name not in ("again", "keyTurn")
        }

    def sweep(self, mode: str, prefix: str = "", more: int | None = None) -> Json:
        """A run of SweepKeys, for so many keys."""
        left = iter(range(more)) if more is not None else None
        return inventory.sweep_keys(
            mode,
            prefix,
            records=self.records,
            objects=self.objects,
            tsb=self.tsb,
            password=str,
            bus=self.bus,
            more=lambda: left is None or next(left, None) is not None,
        ).dump()

    def audit(self, more: int | None = None) -> Json:
        """A run of AuditKeys, for so many keys."""
        left = iter(range(more)) if more is not None else None
        return inventory.audit_keys(
            records=self.records,
            objects=self.objects,
            tsb=self.tsb,
            password=str,
            trust=self.trust,
            bus=self.bus,
            more=lambda: left is None or next(left, None) is not None,
        ).dump()

    def told(self, detail_type: str) -> list[Json]:
        """The details of the events of a type that were not yet received."""
        return [one["detail"] for one in self._received() if one["detail-type"] == detail_type]

    def adopt(self, shelf: Path, unused_key: str | None, **policy: Any) -> dict[str, Approver]:
        """Take requests by profile `trial` from here on; its people, by name.

        Args:
            shelf: a folder for the profile and its directory.
            unused_key: what it says of unused keys; None: nothing.
            policy: rules other than the profile's.
        """
        people = {name: Approver.generate(name, "ec") for name in ("Ada Lovelace", "Grace Hopper")}
        directory = [
            {
                "name": one.name,
                "contact": "x",
                "keys": [{"publicKey": one.spki, "validFrom": "2026-01-01"}],
            }
            for one in people.values()
        ]
        profile = json.loads((ROOT / "profiles/trial@1.json").read_text())
        profile["policy"] |= policy
        del profile["unusedKey"]
        profile |= {"unusedKey": unused_key} if unused_key else {}
        (shelf / "directory.json").write_text(json.dumps({"people": directory}))
        (shelf / "trial@1.json").write_text(json.dumps(profile))
        self.rules = Rules(Profiles(shelf), "arn:", allow_raw_policy=True)
        return people

    def by_profile(self) -> Json:
        """A request by profile `trial`."""
        enrollment_id = uuid.uuid4().hex[:12]
        csr = {"standardCertificateAttributes": {"commonName": enrollment_id}}
        key = {"label": f"trial.{enrollment_id}"}
        return {"enrollmentId": enrollment_id, "profile": "trial@1", "key": key, "csr": csr}

    def keys(self, request: Json) -> list[str]:
        """The labels in the HSM that are this request's."""
        return [label for label in self.simulator.broker.keys if label == request["key"]["label"]]

    def _received(self) -> list[Json]:
        queue, found = boto3.client("sqs"), list[Json]()
        while messages := queue.receive_message(QueueUrl=self._queue).get("Messages"):
            for message in messages:
                found.append(json.loads(message["Body"]))
                queue.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
        return found

    def _ended(self, document: m.OutcomeDocument, error: CountersignError | None) -> Ended:
        s3, found = boto3.client("s3"), self._received()
        listed = s3.list_objects_v2(Bucket=NAME).get("Contents", [])
        return Ended(
            id=document.enrollment_id,
            error=error,
            document=document,
            record=self.records.get(document.enrollment_id) or {},
            events=[
                one for one in found if one["detail"].get("enrollmentId") == document.enrollment_id
            ],
            objects={
                one["Key"]: s3.get_object(Bucket=NAME, Key=one["Key"])["Body"].read()
                for one in listed
                if f"/{document.enrollment_id}/" in one["Key"]
            },
        )


@contextmanager
def house() -> Iterator[House]:
    """A house with a table, a bucket and a bus whose events can be read."""
    clients.client.cache_clear()
    with mock_aws():
        table = RESOURCES["EnrollmentsTable"]["Properties"]
        wanted = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
        boto3.client("dynamodb").create_table(
            TableName=NAME, **{name: table[name] for name in wanted}
        )
        for bucket in (NAME, f"{NAME}-evidence"):
            boto3.client("s3").create_bucket(
                Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
            )
            boto3.client("s3").put_bucket_versioning(
                Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
            )
        queues, events = boto3.client("sqs"), boto3.client("events")
        url = queues.create_queue(QueueName=NAME)["QueueUrl"]
        arn = queues.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        events.create_event_bus(Name=NAME)
        pattern = json.dumps({"source": [NAME]})
        events.put_rule(Name=NAME, EventBusName=NAME, EventPattern=pattern)
        queue = arn["Attributes"]["QueueArn"]
        events.put_targets(Rule=NAME, EventBusName=NAME, Targets=[{"Id": NAME, "Arn": queue}])
        yield House()
    clients.client.cache_clear()


def fingerprint(certificate: str) -> str:
    """SHA-256 (hex) of a certificate in PEM."""
    import ssl

    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest()
