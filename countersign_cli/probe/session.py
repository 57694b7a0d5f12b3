"""A run of the probe: what it makes at the TSB, under names of its own, and removes again."""

import base64
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any
from urllib.parse import quote

from countersign.errors import KEY_NOT_EXISTENT, CountersignError
from countersign.record import ENDED_AT_TSB
from countersign.tsb.models import KeyAttributes
from countersign_cli.calls import APPROVER, MANAGEMENT, OPERATION, Calls, Json, Said
from countersign_cli.probe.questions import UnknownError
from countersign_cli.signer import DIGEST, Signer

PREFIX = "countersign-probe-"
P_256 = "1.2.840.10045.3.1.7"
PAUSE_SECONDS = 1.0  # between two keys: the vendor's cloud makes one a second
POLL_SECONDS = 5.0
SETTLE_SECONDS = 120.0  # the vendor's sample configuration executes once a minute
BY_HAND_SECONDS = 900.0
WINDOW_SECONDS = 3600
BUSY = (429, 503)
TRIES = 3
SILENCES = 3  # then it is not asked any further
TIMESTAMP_OFF = 404  # TSB's code, not the HTTP status

type Rule = Json | None


class SilentError(Exception):
    """The TSB does not answer any more."""


@dataclass
class Pace:
    """Time. Tests have another one."""

    now: Callable[[], float] = time.time
    wait: Callable[[float], None] = time.sleep


@dataclass
class Session:
    """What is known so far, and what has to be removed.

    Args:
        calls: to the TSB.
        own_approver: the user's; without a private key they decide in their own app. None: one
            that is made up decides.
        say: shows a line to the user.
        pace: time.
        onboarded: the name of an approver whom TSB is said to know.
        permanent_key: whether a key may be made that perhaps cannot be deleted.
    """

    calls: Calls
    own_approver: Signer | None = None
    say: Callable[[str], None] = print
    pace: Pace = field(default_factory=Pace)
    onboarded: str | None = None
    permanent_key: bool = False
    prefix: str = field(default_factory=lambda: PREFIX + secrets.token_hex(4))
    made_up: Signer = field(default_factory=Signer.generate)
    second: Signer = field(default_factory=Signer.generate)
    certificate_role: str = OPERATION
    request_role: str = OPERATION
    skew_seconds: int = 0  # by which the TSB's clock is ahead of ours
    policies_stay: bool = False  # a key with a policy cannot be deleted: no more are made
    stories: dict[str, Any] = field(default_factory=dict)  # what several questions are about
    _labels: list[str] = field(default_factory=list)  # noted before they are created
    _requests: list[str] = field(default_factory=list)
    _silences: int = 0
    _numbers: Iterator[int] = field(default_factory=count)

    @property
    def approver(self) -> Signer:
        """Who decides first."""
        return self.own_approver or self.made_up

    # Calls ---------------------------------------------------------------------------------

    def ask(self, method: str, path: str, body: Json | None = None, *, role: str | None) -> Said:
        """Make a call; again after a while where TSB says that it is busy."""
        for _ in range(TRIES):
            said = self.calls.ask(method, path, body, role=role)
            self._silences = 0
            if said.status not in BUSY:
                return said
            self.pace.wait(POLL_SECONDS)
        return said

    def unanswered(self, error: CountersignError) -> None:
        """Note a call without an answer; a TSB that is away is not asked fifty more times.

        Raises:
            SilentError: it was one too many.
        """
        self._silences += 1
        if self._silences >= SILENCES:
            raise SilentError(error.message) from None

    def once[T](self, name: str, tell: Callable[[], T]) -> T:
        """A story that several questions are about, told once. One that failed is not repeated."""
        if name not in self.stories:
            try:
                self.stories[name] = tell()
            except UnknownError as error:
                self.stories[name] = error
            except CountersignError as error:
                self.stories[name] = UnknownError(f"no answer: {error.message}")
                raise
        if isinstance(self.stories[name], UnknownError):
            raise self.stories[name]
        found: T = self.stories[name]
        return found

    # Keys ----------------------------------------------------------------------------------

    @property
    def absent(self) -> str:
        """A label that no key has."""
        return f"{self.prefix}-absent"

    def label(self, suffix: str = "") -> str:
        """A label that was not used yet."""
        return f"{self.prefix}-{next(self._numbers):03}{suffix}"

    def create(self, label: str, **different: Any) -> Said:
        """`POST /v1/key`: an EC key without a policy, destroyable, unless `different` says so."""
        body: Json = {
            "label": label,
            "algorithm": "EC",
            "curveOid": P_256,
            "attributes": attributes(),
            **different,
        }
        if body.get("policy") is not None and self.policies_stay:
            raise UnknownError("not asked: a key with a policy could not be deleted again")
        self._labels.append(label)
        self.pace.wait(PAUSE_SECONDS)
        return self.ask("POST", "/v1/key", body, role=MANAGEMENT)

    def key(self, **different: Any) -> KeyAttributes:
        """A new key that is needed to go on."""
        return KeyAttributes.read(needed(self.create(self.label(), **different), "a key").reply)

    def read_key(self, label: str) -> Said:
        """`POST /v1/key/attributes`."""
        body = {"label": label, "password": None}
        return self.ask("POST", "/v1/key/attributes", body, role=MANAGEMENT)

    def delete(self, label: str) -> Said:
        """`POST /v1/key/deleteKey`."""
        body = {"label": label, "password": None}
        said = self.ask("POST", "/v1/key/deleteKey", body, role=MANAGEMENT)
        if said.ok or said.code == KEY_NOT_EXISTENT:
            self._labels = [one for one in self._labels if one != label]
        return said

    @property
    def free(self) -> KeyAttributes:
        """A key that needs nobody's approval: what it is asked for is carried out at once."""
        return self.once("free", self.key)

    # Requests ------------------------------------------------------------------------------

    def request_csr(self, label: str, *, subject: Json | None = None, **different: Any) -> Said:
        """`POST /v1/certificate/request`."""
        note = {"app": "countersign probe", "reason": "a throwaway key: deleted in a few minutes"}
        inner = {
            "signKeyName": label,
            "keyPassword": None,
            "signatureAlgorithm": "SHA256_WITH_ECDSA",
            "validity": 365,
            "standardCertificateAttributes": {"commonName": "countersign probe", **(subject or {})},
            "keyUsage": ["DIGITAL_SIGNATURE"],
            "metaData": base64.b64encode(json.dumps(note).encode()).decode(),
            "metaDataSignature": None,
            **different,
        }
        return self.post("/v1/certificate/request", {"csrSignRequest": inner})

    def post(self, path: str, body: Json) -> Said:
        """Post a request for a use of a key, with the role of certificates."""
        said = self.ask("POST", path, body, role=self.certificate_role)
        if said.ok:
            self._requests.append(said.content["signRequestId"])
        return said

    def status(self, request_id: str) -> Said:
        """`GET /v1/request/{id}`."""
        return self.ask("GET", f"/v1/request/{request_id}", role=self.request_role)

    def cancel(self, request_id: str) -> Said:
        """`DELETE /v1/request/{id}`."""
        return self.ask("DELETE", f"/v1/request/{request_id}", role=self.request_role)

    def settled(self, request_id: str, *, seconds: float = SETTLE_SECONDS) -> Json:
        """The request's status object at its end, or after `seconds`."""
        ends = self.pace.now() + seconds
        while True:
            content = needed(self.status(request_id), "the request's status").content
            if content["status"] in ENDED_AT_TSB or self.pace.now() >= ends:
                found: Json = content
                return found
            self.pace.wait(POLL_SECONDS)

    def result_of(self, said: Said) -> tuple[str | None, str]:
        """What became of a request that was posted: its result, or None and where it was refused.

        The place is `post`, or `execution`.
        """
        if not said.ok:
            return None, "post"
        status = self.settled(said.content["signRequestId"])
        if status["status"] != "EXECUTED":
            if status["status"] not in ENDED_AT_TSB:
                raise UnknownError(f"the request stays {status['status']}")
            return None, "execution"
        return status["result"], "execution"

    # Approvers -----------------------------------------------------------------------------

    def timestamp(self, *, late: float = 0) -> str:
        """The time by the TSB's clock, `late` seconds ago."""
        moment = datetime.fromtimestamp(self.pace.now() + self.skew_seconds - late, UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    def authentication(self, signer: Signer, *, late: float = 0) -> Json:
        """By which TSB knows an approver."""
        moment = self.timestamp(late=late)
        return {
            "timestamp": moment,
            "timestampSignature": signer.sign(moment.encode()),
            "timestampDigestAlgorithm": DIGEST,
            "approverPublicKey": signer.spki,
        }

    def tasks(
        self,
        signer: Signer,
        request_id: str | None = None,
        *,
        listing: str = "All",
        role: str | None = APPROVER,
        late: float = 0,
    ) -> Said:
        """`POST /v1/filtered…ApprovalTask`."""
        body = {
            **self.authentication(signer, late=late),
            "requestId": request_id,
            "detailLevel": "level5",
        }
        return self.ask("POST", f"/v1/filtered{listing}ApprovalTask", body, role=role)

    def task(self, signer: Signer, request_id: str) -> Json:
        """The task of an approver in a request."""
        content = needed(self.tasks(signer, request_id), "the approver's tasks").content
        if not content["tasks"]:
            raise UnknownError("filteredAllApprovalTask does not list the request")
        found: Json = content["tasks"][0]
        return found

    def approve(self, signer: Signer, task: Json) -> Said:
        """`POST /v1/approval`."""
        content = base64.b64decode(task["approvalToBeSigned"])
        body = {
            "id": task["id"],
            "approvalToBeSigned": task["approvalToBeSigned"],
            "signature": signer.sign(content),
            "approvalDigestAlgorithm": DIGEST,
            "approverPublicKey": signer.spki,
        }
        return self.ask("POST", "/v1/approval", body, role=APPROVER)

    def decline(self, signer: Signer, task: Json) -> Said:
        """`PATCH /v1/task`."""
        body = {**self.authentication(signer), "id": task["id"]}
        return self.ask("PATCH", "/v1/task", body, role=APPROVER)

    def by_hand(self, request_id: str, what: str, listed: str) -> None:
        """Wait until the user has decided in their app; `listed` is where TSB then names them."""
        self.say(f"Please {what} the request of the throwaway key {self.prefix}… in your app.")
        ends = self.pace.now() + BY_HAND_SECONDS
        while self.pace.now() < ends:
            content = needed(self.status(request_id), "the request's status").content
            if self.approver.spki in (content.get(listed) or ()):
                return
            self.pace.wait(POLL_SECONDS)
        raise UnknownError(f"nobody decided within {BY_HAND_SECONDS:.0f} s")

    # The end -------------------------------------------------------------------------------

    def clean_up(self) -> list[str]:
        """Delete every key, which cancels its requests; what is left, and why.

        The open requests of a key that stays are cancelled. Interrupted, it says what it had not
        come to. Idempotent: what is not there any more is not left.
        """
        left = dict.fromkeys(reversed(self._labels), "not deleted")
        try:
            for label in list(left):
                try:
                    said = self.delete(label)
                except CountersignError as error:
                    left[label] = f"not deleted: {error.message}"
                    continue
                if said.ok or said.code == KEY_NOT_EXISTENT:
                    del left[label]
                else:
                    left[label] = f"not deleted: {said}"
            for request_id in self._requests if left else ():
                # One that has ended, or that its key took with it, is refused: nothing is left.
                with suppress(CountersignError):
                    self.cancel(request_id)
        except KeyboardInterrupt:
            pass
        return [f"{label} {why}" for label, why in left.items()]

    def of_other_runs(self) -> list[str]:
        """Labels of keys that TSB lists and another run of the probe made."""
        with suppress(CountersignError):
            said = self.ask("GET", "/v1/key", role=MANAGEMENT)
            listed = said.content if said.ok and isinstance(said.content, list) else []
            names = sorted(str(one) for one in listed)
            return [one for one in names if one.startswith(PREFIX) and self.prefix not in one]
        return []


def needed(said: Said, what: str) -> Said:
    """An answer without which there is no going on.

    Raises:
        UnknownError: TSB refused.
    """
    if not said.ok:
        raise UnknownError(f"TSB refused {what}: {said}")
    return said


def attributes(**different: bool) -> Json:
    """Capabilities of a throwaway key: it signs, and it can be deleted."""
    return {
        "decrypt": False,
        "sign": True,
        "unwrap": False,
        "extractable": False,
        "modifiable": True,
        "destroyable": True,
        **different,
    }


def policy(*approvals: Json, **token: Any) -> Json:
    """A policy: one of these approvers must agree to a use."""
    one = {
        "name": "Probe",
        "timelock": 0,
        "timeout": WINDOW_SECONDS,
        "groups": [{"name": "Probe", "quorum": 1, "approvals": list(approvals)}],
        **token,
    }
    return rules({"tokens": [one]})


def rules(use: Rule) -> Json:
    """A policy with this rule for the use of the key, and nobody's approval for anything else."""
    return {
        "ruleUse": use,
        "ruleBlock": None,
        "ruleUnblock": None,
        "ruleModify": None,
        "keyStatus": {"blocked": False},
    }


def public_key(signer: Signer, name: str = "Probe") -> Json:
    """An approver in a policy."""
    return {"type": "public_key", "name": name, "value": signer.spki}


def in_path(label: str) -> str:
    """A label as a segment of a path."""
    return quote(label, safe="")


def highest(accepts: Callable[[int], bool], accepted: int, refused: int) -> int:
    """The highest number that is accepted, between one that is and one that is not."""
    while refused - accepted > 1:
        middle = (accepted + refused) // 2
        if accepts(middle):
            accepted = middle
        else:
            refused = middle
    return accepted
