"""How enrollments end when people decide: issued, rejected, expired, cancelled."""

import hashlib
import json
from pathlib import Path

import pytest
import rfc8785

from countersign import csr, evidence
from local.approver import Approver, shown
from local.run import explain
from local.stack import Stack
from tests.e2e.case import (
    Act,
    Case,
    Ran,
    Run,
    act,
    assert_ended,
    assert_issued,
    decisions,
    evidence_of,
    fresh,
    group,
    people,
    seed,
    token,
)

pytestmark = pytest.mark.e2e

# As often as others ask at the same time, and as it takes the approvers.
AS_OFTEN_AS_NEED_BE = ("WaitForKeyTurn", "ChooseNext", "WaitForApproval", "PollRequest")
WAY_OF_AN_ISSUED_CSR = [
    "AcceptEnrollment", "IsDuplicate", "CreateKey", "RequestCsr",
    "StoreCsr", "CloseEnrollment", "IsFailed", "EnrollmentEnded",
]  # fmt: skip


@act
def one_of_one(case: Case) -> Run:
    person = Approver.generate("Ada", "rsa")
    arn = case.start(case.request(token(group(person))))
    task = person.await_task(case.desk, case.label, 100)
    person.approve(case.desk, task)
    run = case.end(arn)
    run.more["task"] = task
    return run


def test_one_real_signature_issues_the_csr(ran: Ran) -> None:
    run = ran(one_of_one)

    assert_issued(run)
    assert decisions(run) == {"Ada": "approved"}
    entered = [name for name in run.entered if name not in AS_OFTEN_AS_NEED_BE]
    assert entered == WAY_OF_AN_ISSUED_CSR


def test_the_approver_is_shown_the_accepted_request_signed_by_the_stack(
    ran: Ran, stack: Stack
) -> None:
    run = ran(one_of_one)

    content = shown(run.more["task"], stack.signing_key())

    assert rfc8785.dumps(content["request"]) == run.objects["request.json"]
    digest = hashlib.sha256(run.objects["request.json"]).hexdigest()
    assert content["requestSha256"] == run.record["acceptedSha256"] == digest
    assert run.label in content["summary"]


def test_an_enrollment_makes_no_call_twice(ran: Ran) -> None:
    run = ran(one_of_one)

    assert run.count("POST", "/v1/key") == 1
    assert run.count("POST", "/v1/certificate/request") == 1
    assert run.count("POST", "/v1/key/attributes") == 1
    assert run.count("GET", "/v1/request/{id}") == run.entered.count("PollRequest")
    assert len([call for call in run.calls if call["role"] != "approver"]) == 3 + (
        run.entered.count("PollRequest")
    )


def test_what_was_asked_and_answered_is_kept(ran: Ran) -> None:
    run = ran(one_of_one)

    assert json.loads(run.objects["request.json"])["key"]["label"] == run.label
    assert "enrollmentId" not in json.loads(run.objects["request.json"])
    assert json.loads(run.objects["tsb/create-key-1.json"])["json"]["label"] == run.label
    assert json.loads(run.objects["tsb/store-csr-1.json"])["xmlSignature"]
    polled = [json.loads(body) for name, body in run.objects.items() if "poll-request" in name]
    assert any(answer["status"] == "EXECUTED" for answer in polled)


def test_the_record_tells_the_whole_story(ran: Ran) -> None:
    run = ran(one_of_one)

    assert run.record["executionArn"] == run.arn
    assert run.record["attempt"] == 1
    assert run.record["schemaVersion"] == "1"
    assert run.record["origin"] == {"door": "start"}
    assert run.record["tsbStatus"] == "EXECUTED"
    assert run.record["requestId"] == run.requests[0]["id"]
    assert set(run.record["times"]) == {
        "accepted", "keyCreated", "requested", "windowEnds", "nextLook", "executed", "ended",
    }  # fmt: skip
    assert run.record["approvers"][0]["spkiSha256"]


def test_every_check_passed_and_the_attestation_was_verified(ran: Ran) -> None:
    run = ran(one_of_one)

    assert {one["result"] for one in run.record["checks"]} == {"passed"}
    assert run.record["attestation"] == "verified"


@act
def seed_verbatim(case: Case) -> Run:
    # The vendor's own bodies, letter by letter; its approver's key is not ours, so the simulator's
    # control side decides. The label is the vendor's, so the case takes it over.
    case.label = seed()["key"]["label"]
    arn = case.start({**seed(), "enrollmentId": case.id})
    case.decide("approve")
    return case.end(arn)


def test_the_vendor_s_own_bodies_go_through_verbatim(ran: Ran) -> None:
    run = ran(seed_verbatim)

    assert_issued(run)
    assert decisions(run) == {"ApproverKey1": "approved"}
    found = csr.read_csr(run.document["csr"]["pem"])
    assert found.subject == "CN=Approver-Intermediate-SUB"
    assert found.key_usage == ("DIGITAL_SIGNATURE",)
    assert found.extended_key_usage == ("CODE_SIGNING",)


@act
def by_profile(case: Case) -> Run:
    case.label = f"SUB.{case.id}"
    request = {
        "enrollmentId": case.id,
        "profile": "code-signing",
        "key": {"label": case.label},
        "csr": {"standardCertificateAttributes": {"commonName": "Release 1"}},
        "reason": "OPS-42",
    }
    arn = case.start(request)
    case.approve(case.stack.people["Ada Lovelace"], case.stack.people["Alan Turing"])
    return case.end(arn)


def test_a_request_by_profile_is_carried_out_and_its_approvers_are_people(ran: Ran) -> None:
    run = ran(by_profile)

    assert_issued(run)
    assert decisions(run) == {
        "Ada Lovelace": "approved",
        "Grace Hopper": "none",
        "Alan Turing": "approved",
    }
    found = csr.read_csr(run.document["csr"]["pem"])
    assert "CN=Release 1" in found.subject
    assert "O=Example AG" in found.subject
    whole = json.loads(run.objects["request.json"])
    assert run.record["request"]["profile"] == "code-signing"  # as it was sent
    assert run.record["profile"] == "code-signing@1"
    assert (whole["profile"], whole["unusedKey"]) == ("code-signing@1", "delete")
    # The first approver's key stands in a certificate, and he is known by its public key.
    group = whole["key"]["policy"]["ruleUse"]["tokens"][0]["groups"][0]
    assert [one["type"] for one in group["approvals"]] == [
        "certificate",
        "public_key",
        "public_key",
    ]
    assert len(run.record["profileSha256"]) == 64
    assert run.record["findings"] == run.record["caFindings"] == []


@act
def by_profile_with_more(case: Case) -> Run:
    case.label = f"trial.{case.id}"
    key = {"label": case.label, "policy": seed()["key"]["policy"]}
    request = {"enrollmentId": case.id, "profile": "trial@1", "key": key}
    return case.end(case.start(request))


def test_what_a_profile_decides_is_refused_before_any_call(ran: Ran) -> None:
    run = ran(by_profile_with_more)

    assert run.status == "FAILED"
    assert run.error == "InvalidEnrollmentError"
    assert run.document["error"]["field"] == "request.key.policy"
    assert run.calls == run.keys == []


@act
def two_of_three(case: Case) -> Run:
    one, two, three = people(3)
    arn = case.start(case.request(token(group(one, two, three, quorum=2))))
    case.approve(one, three)
    return case.end(arn)


def test_two_of_three_suffice(ran: Ran) -> None:
    run = ran(two_of_three)

    assert_issued(run)
    assert decisions(run) == {"person 1": "approved", "person 2": "none", "person 3": "approved"}


@act
def two_groups(case: Case) -> Run:
    one, two = people(2)
    arn = case.start(case.request(token(group(one), group(two))))
    case.approve(one)
    case.await_calls("/v1/request/{id}", 3)
    waiting = case.status(arn)
    case.approve(two)
    run = case.end(arn)
    run.more["after one group"] = waiting
    return run


def test_two_groups_must_both_agree(ran: Ran) -> None:
    run = ran(two_groups)

    assert run.more["after one group"] == "RUNNING"
    assert_issued(run)


@act
def two_tokens(case: Case) -> Run:
    one, two = people(2)
    arn = case.start(case.request(token(group(one)), token(group(two), timeout=7200)))
    case.approve(two)
    return case.end(arn)


def test_one_of_two_alternative_tokens_suffices(ran: Ran) -> None:
    run = ran(two_tokens)

    assert_issued(run)
    assert decisions(run) == {"person 1": "none", "person 2": "approved"}


@act
def timelock(case: Case) -> Run:
    (one,) = people(1)
    arn = case.start(case.request(token(group(one), timelock=300, timeout=6000)))
    case.approve(one)
    case.await_calls("/v1/request/{id}", 1)
    status = case.await_request()["status"]
    case.advance(300)
    run = case.end(arn)
    run.more["before"] = status
    return run


def test_an_approval_waits_for_its_timelock(ran: Ran) -> None:
    run = ran(timelock)

    assert run.more["before"] == "APPROVED"
    assert_issued(run)


@act
def one_decline(case: Case) -> Run:
    one, two, three = people(3)
    arn = case.start(case.request(token(group(one, two, three, quorum=2))))
    case.decline(one)
    case.await_calls("/v1/request/{id}", 2)
    case.approve(two, three)
    return case.end(arn)


def test_one_decline_does_not_end_what_others_can_still_approve(ran: Ran) -> None:
    run = ran(one_decline)

    assert_issued(run)
    assert decisions(run)["person 1"] == "declined"


@act
def declined(case: Case) -> Run:
    one, two, three = people(3)
    arn = case.start(case.request(token(group(one, two, three, quorum=2))))
    case.decline(one, two)
    return case.end(arn)


def test_declines_until_the_quorum_is_out_of_reach_reject(ran: Ran) -> None:
    run = ran(declined)

    assert_ended(run, "REJECTED")
    assert decisions(run) == {"person 1": "declined", "person 2": "declined", "person 3": "none"}
    said = run.ending["detail"]
    assert said["declinedBy"] == ["person 1", "person 2"]
    assert said["undecided"] == ["person 3"]
    assert said["openGroups"] == [{"token": "token", "group": "group", "quorum": 2, "approved": 0}]


@act
def expired(case: Case) -> Run:
    (one,) = people(1)
    arn = case.start(case.request(token(group(one), timeout=600)))
    case.await_request()
    case.advance(601)
    return case.end(arn)


def test_a_window_that_passes_expires(ran: Ran) -> None:
    run = ran(expired)

    assert_ended(run, "EXPIRED")
    said = run.ending["detail"]
    assert said["windowEnds"] == run.record["times"]["windowEnds"]
    assert said["undecided"] == ["person 1"]
    assert [one["approved"] for one in said["openGroups"]] == [0]


@act
def cancelled_at_tsb(case: Case) -> Run:
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


def test_a_request_cancelled_at_the_tsb_is_cancelled(ran: Ran) -> None:
    run = ran(cancelled_at_tsb)

    assert_ended(run, "CANCELLED")
    assert run.ending["detail"]["cancel"] is None  # TSB names nobody


@act
def elliptic_key_and_certificates(case: Case) -> Run:
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
    return case.end(arn)


def test_an_elliptic_key_and_an_approver_by_certificate(ran: Ran) -> None:
    run = ran(elliptic_key_and_certificates)

    assert_issued(run)
    assert csr.read_csr(run.document["csr"]["pem"]).key == "EC secp256r1"
    assert decisions(run) == {"Grace": "approved"}


@act
def ed25519_key(case: Case) -> Run:
    one = Approver.generate("Hedy", "rsa")
    request = case.request(token(group(one)))
    request["key"].update(algorithm="ED", curveOid="1.3.101.112")
    del request["key"]["keySize"]
    request["csr"]["signatureAlgorithm"] = "EDDSA"
    arn = case.start(request)
    case.approve(one)
    return case.end(arn)


def test_an_ed25519_key(ran: Ran) -> None:
    run = ran(ed25519_key)

    assert_issued(run)
    assert csr.read_csr(run.document["csr"]["pem"]).key == "Ed25519"


CANARY = "canary-7f3a-password"
PLAIN = "plain-7f3a-password"  # told to Step Functions by its caller: no canary


@act
def key_password(case: Case) -> Run:
    (one,) = people(1)
    name = f"{case.stack.outputs['KeyPasswordPrefix']}{case.id}"
    secret = case.stack.client("secretsmanager").create_secret(Name=name, SecretString=CANARY)
    request = case.request(token(group(one)))
    request["key"]["password"] = {"secretArn": secret["ARN"]}
    arn = case.start(request)
    case.approve(one)
    return case.end(arn)


def test_a_key_password_goes_to_the_tsb_and_nowhere_else(ran: Ran) -> None:
    run = ran(key_password)

    assert_issued(run)
    seen = f"{run.history}{run.record}{run.events}{run.objects}{run.document}"
    assert CANARY not in seen
    assert str(list(CANARY)) not in seen
    logs = [path.read_text() for path in Path(".stack/test").glob("*.log")]
    assert not any(CANARY in text for text in logs)


@act
def plain_password(case: Case) -> Run:
    request = case.request()
    request["key"]["password"] = PLAIN
    return case.end(case.start(request))


def test_a_plain_password_is_refused_and_not_repeated(ran: Ran) -> None:
    run = ran(plain_password)

    assert run.document["error"]["field"] == "request.key.password"
    assert not run.calls
    # The caller wrote it into the input himself: it may stand there and nowhere else.
    assert PLAIN not in f"{run.record}{run.events}{run.document}{run.objects}"
    failed = [event for event in run.history if event["type"].endswith("Failed")]
    assert PLAIN not in str(failed)


@act
def refused(case: Case) -> Run:
    request = fresh(case.request())
    request["key"]["policy"]["ruleUse"]["tokens"][0]["timeout"] = 601
    return case.end(case.start(request, principal="arn:aws:iam::1:user/ceo"))


def test_a_refused_request_fails_with_its_field_and_without_a_tsb_call(ran: Ran) -> None:
    run = ran(refused)

    assert run.status == "FAILED"
    assert run.error == run.document["error"]["name"] == "InvalidEnrollmentError"
    assert run.document["error"]["field"] == "request.key.policy.ruleUse.tokens.0.timeout"
    assert "multiple of 60" in run.document["error"]["message"]
    assert run.document["error"]["action"]
    assert run.event_types == ["Enrollment Failed"]
    assert run.record["outcome"] == "FAILED"
    assert "request" not in run.record
    assert "ceo" not in f"{run.record}{run.events}"  # he never asked; anybody can write his name
    assert run.calls == run.keys == run.requests == []


def test_the_runner_explains_a_failed_execution_in_words(ran: Ran, stack: Stack) -> None:
    run = ran(refused)
    machines = stack.client("stepfunctions")

    said = explain(machines, run.arn, machines.describe_execution(executionArn=run.arn), [])

    assert "the execution is FAILED" in said
    assert "state AcceptEnrollment: InvalidEnrollmentError: key.policy.ruleUse" in said
    assert "multiple of 60" in said
    assert "{" not in said


@act
def refused_then_corrected(case: Case) -> Run:
    (one,) = people(1)
    bad = case.request(token(group(one)))
    bad["surprise"] = 1
    case.end(case.start(bad))
    arn = case.start(case.request(token(group(one))))
    case.approve(one)
    return case.end(arn)


def test_a_refused_request_can_be_corrected_under_the_same_id(ran: Ran) -> None:
    run = ran(refused_then_corrected)

    assert run.document["outcome"] == "ISSUED"
    assert run.endings == ["Enrollment Failed", "Enrollment Issued"]


@act
def nested_and_bare(case: Case) -> Run:
    # As another state machine starts it: a bare request and the key that nested calls add.
    (one,) = people(1)
    request = case.request(token(group(one)))
    request["AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID"] = "arn:aws:states:parent"
    arn = case.stack.client("stepfunctions").start_execution(
        stateMachineArn=case.stack.outputs["EnrollmentStateMachineArn"], input=json.dumps(request)
    )["executionArn"]
    case.approve(one)
    return case.end(arn)


def test_a_bare_request_from_a_nested_call_is_accepted(ran: Ran) -> None:
    assert_issued(ran(nested_and_bare))


# Evidence -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [one_of_one, declined, expired, cancelled_at_tsb, refused])
def test_every_outcome_has_evidence_that_proves_itself(how: Act, ran: Ran, stack: Stack) -> None:
    run = ran(how)

    facts = evidence.verify(evidence_of(stack, run), stack.signing_key()).facts

    assert facts["outcome"] == run.document["outcome"]
    if facts["outcome"] == "ISSUED":
        assert facts["checks"].endswith("all passed, made again")
        assert facts["attestation"].startswith("verified, root sha256:")
