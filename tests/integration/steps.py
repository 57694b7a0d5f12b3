"""An enrollment in the house, state by state: for tests of what happens between two of them."""

import uuid
from dataclasses import asdict, dataclass, field
from typing import Any

from countersign import enrollment, polling
from countersign import models as m
from tests.integration.house import House, Json


@dataclass
class Steps:
    """One enrollment, state by state, each as often as a test likes."""

    house: House
    request: Json
    keys_per_minute: int = 0
    arn: str = field(default_factory=lambda: f"arn:aws:states:{uuid.uuid4()}")

    def __post_init__(self) -> None:
        execution = m.Execution(arn=self.arn, name="x", input=self.request)
        accepted = enrollment.accept_enrollment(
            m.AcceptEnrollmentInput(execution=execution),
            records=self.house.records,
            objects=self.house.objects,
            bus=self.house.bus,
            rules=self.house.rules,
            keys_per_minute=self.keys_per_minute,
        )
        assert isinstance(accepted, m.Accepted)
        self.id = accepted.enrollment_id
        self.step = {
            "executionArn": self.arn,
            "enrollmentId": self.id,
            "request": accepted.request,
        }
        self.key_turn = accepted.key_turn

    def create(self) -> m.CreatedKey:
        return enrollment.create_key(
            m.CreateKeyInput.read({**self.step, "keyTurn": self.key_turn}),
            records=self.house.records,
            objects=self.house.objects,
            tsb=self.house.tsb,
            password=str,
            profiles=self.house.rules.profiles,
            trust=self.house.trust,
        )

    def ask(self, key: m.CreatedKey) -> m.RequestedCsr:
        return enrollment.request_csr(
            m.RequestCsrInput.read({**self.step, "key": key.dump()}),
            records=self.house.records,
            objects=self.house.objects,
            tsb=self.house.tsb,
            password=str,
            sign=self.house.sign,
            pace=polling.Schedule(window_seconds=0, timelock_seconds=0),
            names=self.house.rules.profiles.directory.names,
        )

    def store(self, key: m.CreatedKey, request_id: str) -> m.StoredResult:
        polled = enrollment.poll_request(
            m.PollRequestInput.read(
                {
                    **{name: self.step[name] for name in ("executionArn", "enrollmentId")},
                    "requestId": request_id,
                    "ageSeconds": 10,
                    "seen": "nothing",
                    "schedule": m.Schedule(
                        **asdict(polling.Schedule(window_seconds=0, timelock_seconds=0)),
                        slowest_seconds=900,
                        last_age_seconds=10_000,
                    ).dump(),
                }
            ),
            records=self.house.records,
            objects=self.house.objects,
            tsb=self.house.tsb,
            bus=self.house.bus,
            names=self.house.rules.profiles.directory.names,
        )
        given = {**self.step, "key": key.dump(), "requestId": request_id, "pem": polled.pem}
        return enrollment.store_csr(
            m.StoreCsrInput.read(given),
            records=self.house.records,
            objects=self.house.objects,
            tsb=self.house.tsb,
            password=str,
            trust=self.house.trust,
        )

    def discard(self, *, unanswered: bool) -> m.DiscardedKey:
        return enrollment.discard_key(
            m.DiscardKeyInput.read({**self.step, "unanswered": unanswered}),
            records=self.house.records,
            tsb=self.house.tsb,
            password=str,
        )

    @property
    def record(self) -> Json:
        return self.house.records.get(self.id) or {}

    def fault(self, call: tuple[str, str], **fault: Any) -> None:
        self.house.fault(self.request, *call, **fault)

    def mend(self) -> None:
        self.house.simulator.faults.clear(self.request["key"]["label"])

    def calls(self, call: tuple[str, str]) -> int:
        made = self.house.simulator.calls(self.request["key"]["label"])
        return sum((one["method"], one["path"]) == call for one in made)
