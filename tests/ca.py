"""A CA for a test: its key with approvers of its own, and its certificate."""

from dataclasses import dataclass
from typing import Any

from local import ca
from local.approver import Approver, ApproverClient
from tests.case import Case, Json

TERMS: Json = {"validity": 90, "keyUsage": ["DIGITAL_SIGNATURE"]}


@dataclass
class Ca:
    """A CA's key beside a case's own key."""

    case: Case
    label: str

    @classmethod
    def make(
        cls,
        case: Case,
        *members: Approver,
        policy: Json | None = None,
        key: Json | None = None,
        certified: bool = True,
        **different: Any,
    ) -> "Ca":
        """A CA whose approvers are these people; `different`: than the tutorial's certificate."""
        made = cls(case, f"ca.{case.id}")
        whole = policy or ca.policy(*members)
        ca.make_key(made.client("keyManagement"), made.label, whole, **key or {})
        if certified:
            made.certify(**different)
        case.stack.control("DELETE", f"/calls?label={made.label}")
        return made

    def client(self, role: str) -> ApproverClient:
        stack = self.case.stack
        return ApproverClient(stack.tsb_url, stack.api_keys[role][0], stack.ca_certificate)

    def certify(self, **different: Any) -> None:
        """Give the key a certificate of its own."""
        request_id = ca.ask_for_certificate(self.client("keyOperation"), self.label, **different)
        decision = {"requestId": request_id, "decision": "approve"}
        if self.requests()[-1]["status"] == "PENDING":
            self.case.stack.control("POST", "/decide", decision)

    def certificate(self, label: str | None = None) -> str:
        """The certificate that TSB has for a key: PEM."""
        path = f"/v1/certificate/{label or self.label}"
        return str(self.client("keyOperation").send("GET", path, {})["certificate"])

    def request(self, request: Json, **terms: Any) -> Json:
        """The request, with a certificate of this CA."""
        return {**request, "certificate": {"caKeyLabel": self.label, **TERMS, **terms}}

    def requests(self) -> list[Json]:
        """TSB's requests for the CA's key; the first is its own certificate's."""
        return list(self.case.stack.control("GET", f"/state?label={self.label}")["requests"])

    def modify(self, policy: Json) -> None:
        """Have the CA's approvers change the policy of its key."""
        rules = {name: rule for name, rule in policy.items() if name != "keyStatus"}
        body = {"modifyRequest": {"modifyKeyName": self.label, "policy": rules}}
        answer = self.client("keyManagement").send("POST", "/v1/modify", body)
        decision = {"requestId": answer["modifyKeyRequestId"], "decision": "approve"}
        self.case.stack.control("POST", "/decide", decision)

    def fault(self, method: str, path: str, kind: str, **more: Any) -> None:
        """Let TSB misbehave for the CA's key, as `Case.fault`."""
        outer: Json = {name: more.pop(name) for name in ("times", "skip") if name in more}
        self.case.stack.control(
            "POST",
            "/faults",
            {
                "label": self.label,
                "method": method,
                "path": path,
                **outer,
                "fault": {"kind": kind, **more},
            },
        )
