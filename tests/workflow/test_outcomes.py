"""How enrollments end when people decide: issued, rejected, expired, cancelled."""

import hashlib
import json
from collections.abc import Callable

import pytest
import rfc8785

from countersign.evidence import verifier
from countersign.verification import csr
from local.approver import Approver, shown
from local.engine.stack import InProcessStack
from local.run import explain
from tests.case import (
    Case,
    Result,
    assert_ended,
    assert_issued,
    decisions,
    fresh,
    group,
    people,
    seed,
    token,
)
from tests.workflow.api import submit

# As often as others ask at the same time, and as it takes the approvers.
AS_OFTEN_AS_NEED_BE = ("WaitForKeySlot", "ChooseNext", "WaitForApproval", "PollRequest")
WAY_OF_AN_ISSUED_CSR = [
    "AcceptEnrollment", "IsDuplicate", "CreateKey", "RequestCsr",
    "StoreCsr", "CloseEnrollment", "IsFailed", "EnrollmentEnded",
]  # fmt: skip


def one_of_one(case: Case) -> Result:
    person = Approver.generate("Ada", "rsa")
    arn = case.start(case.request(token(group(person))))
    task = case.task(person)
    person.approve(case.approver_client, task)
    result = case.end(arn)
    result.more["task"] = task
    return result


def test_one_real_signature_issues_the_csr(case: Case) -> None:
    result = one_of_one(case)

    assert_issued(result)
    assert decisions(result) == {"Ada": "approved"}
    entered = [name for name in result.entered if name not in AS_OFTEN_AS_NEED_BE]
    assert entered == WAY_OF_AN_ISSUED_CSR


def test_the_approver_is_shown_the_accepted_request_signed_by_the_stack(
    case: Case, stack: InProcessStack
) -> None:
    result = one_of_one(case)

    content = shown(result.more["task"], stack.signing_key())

    assert rfc8785.dumps(content["request"]) == result.objects["request.json"]
    digest = hashlib.sha256(result.objects["request.json"]).hexdigest()
    assert content["requestSha256"] == result.record["acceptedSha256"] == digest
    assert f"Key label: {result.label}" in content["about"]


def test_an_enrollment_makes_no_call_twice(case: Case) -> None:
    result = one_of_one(case)

    assert result.count("POST", "/v1/key") == 1
    assert result.count("POST", "/v1/certificate/request") == 1
    assert result.count("POST", "/v1/key/attributes") == 1
    assert result.count("GET", "/v1/request/{id}") == result.entered.count("PollRequest")
    assert len([call for call in result.calls if call["role"] != "approver"]) == 3 + (
        result.entered.count("PollRequest")
    )


def test_what_was_asked_and_answered_is_kept(case: Case) -> None:
    result = one_of_one(case)

    assert json.loads(result.objects["request.json"])["key"]["label"] == result.label
    assert "enrollmentId" not in json.loads(result.objects["request.json"])
    assert json.loads(result.objects["tsb/create-key-1.json"])["json"]["label"] == result.label
    assert json.loads(result.objects["tsb/store-csr-1.json"])["xmlSignature"]
    polled = [json.loads(body) for name, body in result.objects.items() if "poll-request" in name]
    assert any(answer["status"] == "EXECUTED" for answer in polled)


def test_the_record_tells_the_whole_story(case: Case) -> None:
    result = one_of_one(case)

    assert result.record["executionArn"] == result.arn
    assert result.record["attempt"] == 1
    assert result.record["schemaVersion"] == "1"
    assert result.record["origin"] == {"trigger": "start"}
    assert result.step["status"] == "EXECUTED"
    assert result.step["requestId"] == result.requests[0]["id"]
    assert set(result.record["times"]) == {"accepted", "keyCreated", "ended"}
    assert set(result.step["times"]) == {
        "requested", "windowEnds", "nextPoll", "executed",
    }  # fmt: skip
    assert result.step["approvers"][0]["spkiSha256"]


def test_every_check_passed_and_the_attestation_was_verified(case: Case) -> None:
    result = one_of_one(case)

    assert {one["result"] for one in result.record["checks"]} == {"passed"}
    assert result.record["attestation"] == "verified"


def test_the_vendor_s_own_bodies_go_through_verbatim(case: Case) -> None:
    # The vendor's own bodies, letter by letter; its approver's key is not ours, so the simulator's
    # control side decides. The label is the vendor's, so the case takes it over.
    case.label = seed()["key"]["label"]
    arn = case.start({**seed(), "enrollmentId": case.id})
    case.decide("approve")
    result = case.end(arn)

    assert_issued(result)
    assert decisions(result) == {"ApproverKey1": "approved"}
    found = csr.read_csr(result.document["csr"]["pem"])
    assert found.subject == "CN=Approver-Intermediate-SUB"
    assert found.key_usage == ("DIGITAL_SIGNATURE",)
    assert found.extended_key_usage == ("CODE_SIGNING",)


def test_a_request_by_profile_is_carried_out_and_its_approvers_are_people(case: Case) -> None:
    case.label = f"SUB.{case.id}"
    request = {
        "enrollmentId": case.id,
        "profile": "code-signing",
        "key": {"label": case.label},
        "csr": {"standardCertificateAttributes": {"commonName": "Release 1"}},
        "reason": "OPS-42",
    }
    arn = submit(case, request)
    case.approve(case.stack.people["Ada Lovelace"], case.stack.people["Alan Turing"])
    result = case.end(arn)

    assert_issued(result)
    assert decisions(result) == {
        "Ada Lovelace": "approved",
        "Grace Hopper": "none",
        "Alan Turing": "approved",
    }
    found = csr.read_csr(result.document["csr"]["pem"])
    assert "CN=Release 1" in found.subject
    assert "O=Example AG" in found.subject
    whole = json.loads(result.objects["request.json"])
    assert result.record["request"]["profile"] == "code-signing"  # as it was sent
    assert result.record["profile"] == "code-signing@1"
    assert (whole["profile"], whole["unusedKey"]) == ("code-signing@1", "delete")
    # The first approver's key stands in a certificate, and he is known by its public key.
    group = whole["key"]["policy"]["ruleUse"]["tokens"][0]["groups"][0]
    assert [one["type"] for one in group["approvals"]] == [
        "certificate",
        "public_key",
        "public_key",
    ]
    assert len(result.record["profileSha256"]) == 64
    assert result.record["findings"] == result.record["caFindings"] == []


def test_what_a_profile_decides_is_refused_before_any_call(case: Case) -> None:
    case.label = f"trial.{case.id}"
    key = {"label": case.label, "policy": seed()["key"]["policy"]}
    request = {"enrollmentId": case.id, "profile": "trial@1", "key": key}
    result = case.end(case.start(request))

    assert result.status == "FAILED"
    assert result.error == "InvalidEnrollmentError"
    assert result.document["error"]["field"] == "request.key.policy"
    assert result.calls == result.keys == []


def test_two_of_three_suffice(case: Case) -> None:
    one, two, three = people(3)
    arn = case.start(case.request(token(group(one, two, three, quorum=2))))
    case.approve(one, three)
    result = case.end(arn)

    assert_issued(result)
    assert decisions(result) == {"person 1": "approved", "person 2": "none", "person 3": "approved"}


def test_two_groups_must_both_agree(case: Case) -> None:
    one, two = people(2)
    arn = case.start(case.request(token(group(one), group(two))))
    case.approve(one)
    case.await_calls("/v1/request/{id}", 3)
    waiting = case.status(arn)
    case.approve(two)
    result = case.end(arn)
    result.more["after one group"] = waiting

    assert result.more["after one group"] == "RUNNING"
    assert_issued(result)


def test_one_of_two_alternative_tokens_suffices(case: Case) -> None:
    one, two = people(2)
    arn = case.start(case.request(token(group(one)), token(group(two), timeout=7200)))
    case.approve(two)
    result = case.end(arn)

    assert_issued(result)
    assert decisions(result) == {"person 1": "none", "person 2": "approved"}


def test_an_approval_waits_for_its_timelock(case: Case) -> None:
    (one,) = people(1)
    arn = case.start(case.request(token(group(one), timelock=300, timeout=6000)))
    case.approve(one)
    case.await_calls("/v1/request/{id}", 1)
    status = case.await_request()["status"]
    case.advance(300)
    result = case.end(arn)
    result.more["before"] = status

    assert result.more["before"] == "APPROVED"
    assert_issued(result)


def test_one_decline_does_not_end_what_others_can_still_approve(case: Case) -> None:
    one, two, three = people(3)
    arn = case.start(case.request(token(group(one, two, three, quorum=2))))
    case.decline(one)
    case.await_calls("/v1/request/{id}", 2)
    case.approve(two, three)
    result = case.end(arn)

    assert_issued(result)
    assert decisions(result)["person 1"] == "declined"


def declined(case: Case) -> Result:
    one, two, three = people(3)
    arn = case.start(case.request(token(group(one, two, three, quorum=2))))
    case.decline(one, two)
    return case.end(arn)


def test_declines_until_the_quorum_is_out_of_reach_reject(case: Case) -> None:
    result = declined(case)

    assert_ended(result, "REJECTED")
    assert decisions(result) == {"person 1": "declined", "person 2": "declined", "person 3": "none"}
    said = result.ending["detail"]
    assert said["declinedBy"] == ["person 1", "person 2"]
    assert said["pending"] == ["person 3"]
    assert said["openGroups"] == [{"token": "token", "group": "group", "quorum": 2, "approved": 0}]


def expired(case: Case) -> Result:
    (one,) = people(1)
    arn = case.start(case.request(token(group(one), timeout=600)))
    case.await_request()
    case.advance(601)
    return case.end(arn)


def test_a_window_that_passes_expires(case: Case) -> None:
    result = expired(case)

    assert_ended(result, "EXPIRED")
    said = result.ending["detail"]
    assert said["windowEnds"] == result.step["times"]["windowEnds"]
    assert said["pending"] == ["person 1"]
    assert [one["approved"] for one in said["openGroups"]] == [0]


def cancelled_at_tsb(case: Case) -> Result:
    import requests

    (one,) = people(1)
    arn = case.start(case.request(token(group(one))))
    found = case.await_request()
    requests.delete(
        f"{case.stack.tsb_url}/v1/request/{found['id']}",
        headers={"X-API-KEY": case.stack.api_keys["keyOperation"][0]},
        verify=str(case.stack.ca_certificate),
        timeout=10,
    ).raise_for_status()
    return case.end(arn)


def test_a_request_cancelled_at_the_tsb_is_cancelled(case: Case) -> None:
    result = cancelled_at_tsb(case)

    assert_ended(result, "CANCELLED")
    assert result.ending["detail"]["cancel"] is None  # TSB names nobody


def test_an_elliptic_key_and_an_approver_by_certificate(case: Case) -> None:
    one = Approver.generate("Grace", "ed25519")
    request = case.request(token(group(one)))
    listed = request["key"]["policy"]["ruleUse"]["tokens"][0]["groups"][0]["approvals"]
    listed[0] = {"type": "certificate", "value": one.certificate()}
    request["key"].update(algorithm="EC", curveOid="1.2.840.10045.3.1.7")
    del request["key"]["keySize"]
    request["csr"]["signatureAlgorithm"] = "SHA256_WITH_ECDSA"
    request["csr"]["standardCertificateAttributes"] = {
        "commonName": "Signatur für Büro",
        "country": "CH",
        "organizationName": "Beispiel AG",
        "email": "pki@example.ch",
    }
    arn = case.start(request)
    case.approve(one)
    result = case.end(arn)

    assert_issued(result)
    assert csr.read_csr(result.document["csr"]["pem"]).key == "EC P-256"
    assert decisions(result) == {"Grace": "approved"}


def test_an_ed25519_key(case: Case) -> None:
    one = Approver.generate("Hedy", "rsa")
    request = case.request(token(group(one)))
    request["key"].update(algorithm="ED", curveOid="1.3.101.112")
    del request["key"]["keySize"]
    request["csr"]["signatureAlgorithm"] = "EDDSA"
    arn = case.start(request)
    case.approve(one)
    result = case.end(arn)

    assert_issued(result)
    assert csr.read_csr(result.document["csr"]["pem"]).key == "Ed25519"


def test_an_onboarded_approver_is_known_by_the_certificate_that_comes_back(
    case: Case, shared_stack: InProcessStack
) -> None:
    one = Approver.generate("Joan", "ec")
    case.stack.control("PUT", "/switches", {"onboardedApprovers": {"Joan": one.certificate()}})
    by_name = group(one)
    by_name["approvals"] = [{"type": "onboarded_approver_certificate", "name": "Joan"}]
    arn = case.start(case.request(token(by_name)))
    case.approve(one)
    result = case.end(arn)

    assert_issued(result)
    facts = verifier.verify(case.evidence(result), shared_stack.signing_key()).facts
    assert facts["agreed"] == "1 of 1 who were asked"
    assert facts["keys not in the policy"].endswith(": approved")


CANARY = "canary-7f3a-password"
PLAIN = "plain-7f3a-password"  # given to Step Functions by its caller: no canary


def test_a_key_password_goes_to_the_tsb_and_nowhere_else(
    case: Case, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (one,) = people(1)
    name = f"{case.stack.outputs['KeyPasswordPrefix']}{case.id}"
    secret = case.stack.client("secretsmanager").create_secret(Name=name, SecretString=CANARY)
    request = case.request(token(group(one)))
    request["key"]["password"] = {"secretArn": secret["ARN"]}
    arn = case.start(request)
    case.approve(one)
    result = case.end(arn)

    assert_issued(result)
    seen = f"{result.history}{result.record}{result.events}{result.objects}{result.document}"
    assert CANARY not in seen
    assert str(list(CANARY)) not in seen
    logged = capfd.readouterr().out + caplog.text
    assert "TsbLatency" in logged  # so these are the functions' logs
    assert CANARY not in logged


def test_a_plain_password_is_refused_and_not_repeated(case: Case) -> None:
    request = case.request()
    request["key"]["password"] = PLAIN
    result = case.end(case.start(request))

    assert result.document["error"]["field"] == "request.key.password"
    assert not result.calls
    # Its caller wrote it into the input: it may stand there and nowhere else.
    assert PLAIN not in f"{result.record}{result.events}{result.document}{result.objects}"
    failed = [event for event in result.history if event["type"].endswith("Failed")]
    assert PLAIN not in str(failed)


def refused(case: Case) -> Result:
    request = fresh(case.request())
    request["key"]["policy"]["ruleUse"]["tokens"][0]["timeout"] = 601
    return case.end(case.start(request, principal="arn:aws:iam::1:user/ceo"))


def test_a_refused_request_fails_with_its_field_and_without_a_tsb_call(case: Case) -> None:
    result = refused(case)

    assert result.status == "FAILED"
    assert result.error == result.document["error"]["name"] == "InvalidEnrollmentError"
    assert result.document["error"]["field"] == "request.key.policy.ruleUse.tokens.0.timeout"
    assert "multiple of 60" in result.document["error"]["message"]
    assert result.document["error"]["action"]
    assert result.event_types == ["Enrollment Failed"]
    assert result.record["outcome"] == "FAILED"
    assert "request" not in result.record
    assert set(result.record["origin"]) == {"trigger", "said"}  # who may never have asked
    assert result.calls == result.keys == result.requests == []


def test_the_runner_explains_a_failed_execution_in_words(case: Case, stack: InProcessStack) -> None:
    result = refused(case)
    machines = stack.client("stepfunctions")

    said = explain(machines, result.arn, machines.describe_execution(executionArn=result.arn), [])

    assert "the execution is FAILED" in said
    assert "state AcceptEnrollment: InvalidEnrollmentError: key.policy.ruleUse" in said
    assert "multiple of 60" in said
    assert "{" not in said


def test_a_refused_request_can_be_corrected_under_the_same_id(case: Case) -> None:
    (one,) = people(1)
    bad = case.request(token(group(one)))
    bad["surprise"] = 1
    case.end(case.start(bad))
    arn = case.start(case.request(token(group(one))))
    case.approve(one)
    result = case.end(arn)

    assert result.document["outcome"] == "ISSUED"
    assert result.endings == ["Enrollment Failed", "Enrollment Issued"]


def test_a_bare_request_from_a_nested_call_is_accepted(case: Case) -> None:
    # As another state machine starts it: a bare request and the key that nested calls add.
    (one,) = people(1)
    request = case.request(token(group(one)))
    request["AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID"] = "arn:aws:states:parent"
    arn = case.start_input(request)
    case.approve(one)
    result = case.end(arn)
    assert_issued(result)


# Evidence -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [one_of_one, declined, expired, cancelled_at_tsb, refused])
def test_every_outcome_has_evidence_that_proves_itself(
    how: Callable[[Case], Result], case: Case, stack: InProcessStack
) -> None:
    result = how(case)

    facts = verifier.verify(case.evidence(result), stack.signing_key()).facts

    assert facts["outcome"] == result.document["outcome"]
    if facts["outcome"] == "ISSUED":
        assert facts["checks"].endswith("all passed, made again")
        assert facts["attestation"].startswith("verified, root sha256:")
