"""Requests by profile: what AcceptEnrollment makes of them, what CreateKey asks of the CA key."""

import json
from typing import Any

import pytest

from countersign.request import canonical
from local.approver import Approver
from local.engine.stack import InProcessStack
from tests.case import (
    Case,
    Json,
    assert_failed,
    assert_issued,
    decisions,
    group,
    output,
    rule,
    token,
)
from tests.workflow.api import submit

KEY = "/v1/key"
ATTRIBUTES = "/v1/key/attributes"
CA_LABEL = "CA.code-signing"
APPROVERS = ["Ada Lovelace", "Grace Hopper", "Alan Turing"]
HSM_ERROR: Json = {"errorCode": 606, "reason": "res.error.in.hsm", "message": "no such algorithm"}


def released(stack: InProcessStack, file: str) -> Json:
    """A file of the profiles layer as it is deployed."""
    return dict(json.loads((stack.folder / f"layer/profiles/{file}.json").read_text()))


def release_second_version(stack: InProcessStack, **different: Any) -> None:
    """A newer version of profile `code-signing`, with another window."""
    content = released(stack, "code-signing@1")
    content |= {"version": 2, "window": {"timeout": 2 * 86_400}, **different}
    stack.release_profile("code-signing@2", content)


def put_ca_key(stack: InProcessStack, *approvers: str) -> None:
    """Another CA key, of which any of these people approves a use; without any it has no policy."""
    remove_ca_key(stack)
    frozen = rule()
    policy = {
        "ruleUse": rule(token(group(*(stack.people[name] for name in approvers)))),
        **dict.fromkeys(("ruleBlock", "ruleUnblock", "ruleModify"), frozen),
        "keyStatus": {"blocked": False},
    }
    with stack.tsb() as tsb:
        tsb.create_key(
            {
                "label": CA_LABEL,
                "algorithm": "EC",
                "curveOid": "1.3.132.0.34",
                "attributes": {"decrypt": False, "sign": True, "unwrap": False},
                "policy": policy if approvers else None,
            }
        )
    stack.simulator.forget_calls()


def remove_ca_key(stack: InProcessStack) -> None:
    """It is not destroyable, so by an HSM without any key."""
    stack.control("POST", "/reset")


def called(stack: InProcessStack) -> list[str]:
    """The calls of the TSB so far, about whatever key."""
    return [f"{call['method']} {call['path']}" for call in stack.control("GET", "/calls")]


def kept(case: Case, name: str) -> Json:
    """An object of the enrollment."""
    return dict(json.loads(case.objects(f"enrollments/{case.id}/")[name]))


def approve(case: Case, stack: InProcessStack) -> None:
    """Two of the three whom profile `code-signing` asks."""
    case.approve(stack.people["Ada Lovelace"], stack.people["Grace Hopper"])


# AcceptEnrollment ---------------------------------------------------------------------------------


def test_what_travels_is_whole_and_what_is_on_record_is_as_sent(
    case: Case, stack: InProcessStack
) -> None:
    requested = case.by_profile("code-signing")
    arn = submit(case, requested)
    stack.at("CreateKey", "UpdateItem")
    travels, record = output(case.history(arn), "AcceptEnrollment")["request"], case.record()
    approve(case, stack)
    result = case.end(arn)

    assert travels["profile"] == "code-signing@1"
    assert travels["key"]["policy"]["keyStatus"] == {"blocked": False}
    assert json.loads(result.objects["request.json"]) == travels
    assert record["request"] == requested
    assert record["requestSha256"] == canonical.sha256(requested)
    assert record["acceptedSha256"] == canonical.sha256(travels)
    assert record["profile"] == "code-signing@1"
    assert record["findings"] == []
    assert record["policy"]["tokens"][0]["groups"][0]["approvers"] == APPROVERS
    assert_issued(result)


def test_an_execution_that_accepts_again_carries_out_what_it_accepted(
    case: Case, stack: InProcessStack
) -> None:
    arn = submit(case, case.by_profile("code-signing"))
    accept_enrollment = stack.at("AcceptEnrollment", "its return")
    first = case.objects(f"enrollments/{case.id}/")
    release_second_version(stack)
    accept_enrollment.kill()
    approve(case, stack)
    result = case.end(arn)

    assert result.failures == [("AcceptEnrollment", "Runtime.ExitError")]
    travels = output(result.history, "AcceptEnrollment")["request"]
    assert travels["profile"] == result.record["profile"] == "code-signing@1"
    assert (
        travels == json.loads(first["request.json"]) == json.loads(result.objects["request.json"])
    )
    assert "request-2.json" not in result.objects
    assert_issued(result)


def test_a_request_that_somebody_put_there_is_not_carried_out(
    case: Case, stack: InProcessStack
) -> None:
    requested = case.by_profile("code-signing")
    theirs = json.dumps({"key": {"label": case.label, "policy": {}}}).encode()
    stack.client("s3").put_object(
        Bucket=stack.outputs["CsrBucketName"],
        Key=f"enrollments/{case.id}/request.json",
        Body=theirs,
    )
    result = case.end(submit(case, requested))

    assert_failed(result, "EnrollmentConflictError", "AcceptEnrollment")
    assert "who wrote it" in result.document["error"]["action"]
    assert result.calls == []
    assert result.objects["request.json"] == theirs


def test_a_later_attempt_means_the_newest_version_and_keeps_its_own_request(
    case: Case, stack: InProcessStack
) -> None:
    requested = case.by_profile("code-signing")
    case.fault("POST", KEY, "status", httpStatus=400, body=HSM_ERROR)
    assert_failed(case.end(submit(case, requested)), "TsbRefusedError", "CreateKey")
    release_second_version(stack)

    arn = submit(case, requested)
    approve(case, stack)
    result = case.end(arn)

    assert result.document["outcome"] == "ISSUED"
    assert result.record["attempt"] == 2
    assert result.record["profile"] == "code-signing@2"
    assert kept(case, "request.json")["profile"] == "code-signing@1"
    assert kept(case, "request-2.json")["profile"] == "code-signing@2"
    assert output(result.history, "AcceptEnrollment")["request"] == kept(case, "request-2.json")


# CreateKey ----------------------------------------------------------------------------------------


def test_a_key_is_made_when_the_ca_key_s_approvers_are_others(
    case: Case, stack: InProcessStack
) -> None:
    put_ca_key(stack, "Edsger Dijkstra")
    arn = submit(case, case.by_profile("code-signing"))
    stack.at("RequestCsr", "GetItem")
    before_anybody_is_asked = called(stack)
    approve(case, stack)
    result = case.end(arn)

    assert before_anybody_is_asked == [f"POST {ATTRIBUTES}", f"POST {KEY}"]
    assert result.record["caFindings"] == []
    assert [key["label"] for key in result.keys] == [case.label]
    assert_issued(result)


@pytest.mark.parametrize(
    ("approvers", "code"),
    [
        # The certificate of one approver is known by its public key: the CA's policy has it bare.
        (["Edsger Dijkstra", "Ada Lovelace"], "ca-approvers-overlap"),
        ([], "ca-key-unguarded"),
        (None, "ca-policy-unread"),
    ],
    ids=["overlap", "unguarded", "unread"],
)
def test_nothing_is_made_when_the_ca_key_is_not_as_it_must_be(
    case: Case, stack: InProcessStack, approvers: list[str] | None, code: str
) -> None:
    if approvers is None:
        remove_ca_key(stack)
    else:
        put_ca_key(stack, *approvers)
    result = case.end(submit(case, case.by_profile("code-signing")))

    assert_failed(result, "InvalidEnrollmentError", "CreateKey")
    assert code in result.document["error"]["message"]
    assert CA_LABEL in result.document["error"]["message"]
    assert called(stack) == [f"POST {ATTRIBUTES}"]
    assert [one["code"] for one in result.record["caFindings"]] == [code]
    assert case.record(f"label#{case.label}") == {}


def answered(stack: InProcessStack, **changed: Any) -> Json:
    """TSB's answer about the CA key, changed."""
    put_ca_key(stack, "Edsger Dijkstra")
    with stack.tsb() as tsb:
        whole = json.loads(tsb.key_attributes(CA_LABEL).raw)
    stack.simulator.forget_calls()
    return {**whole, "json": {**whole["json"], **changed}}


UNREADABLE = rule(token({"name": "g", "quorum": 1, "approvals": [
    {"type": "public_key", "name": "x", "value": "AAAA"}
]}))  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"label": "another"}, "another key"),
        ({"policy": {"ruleUse": UNREADABLE, "keyStatus": {"blocked": False}}}, "cannot be read"),
        ({"policy": {"ruleUse": None, "keyStatus": "usable"}}, "keyStatus"),
        ({"policy": {"ruleUse": rule(), "keyStatus": {"blocked": False}}}, "attests"),
    ],
    ids=["another label", "unreadable approver", "status as text", "not as attested"],
)
def test_a_ca_key_s_policy_that_is_not_to_be_believed_makes_nothing(
    case: Case, stack: InProcessStack, changed: Json, words: str
) -> None:
    said = answered(stack, **changed)
    fault = {"kind": "status", "httpStatus": 200, "body": said}
    stack.control("POST", "/faults", {"label": CA_LABEL, "path": ATTRIBUTES, "fault": fault})
    result = case.end(submit(case, case.by_profile("code-signing")))

    assert_failed(result, "InvalidEnrollmentError", "CreateKey")
    assert [one["code"] for one in result.record["caFindings"]] == ["ca-policy-unread"]
    assert words in result.record["caFindings"][0]["sentence"]
    assert f"POST {KEY}" not in called(stack)


def test_a_waived_finding_about_the_ca_key_goes_on_record_with_its_reason(
    case: Case, stack: InProcessStack
) -> None:
    reason = "the team is too small for two quorums"
    waiver = {"code": "ca-approvers-overlap", "reason": reason}
    release_second_version(stack, lint={"waivers": [waiver]})
    put_ca_key(stack, "Ada Lovelace")
    arn = submit(case, case.by_profile("code-signing"))
    approve(case, stack)
    result = case.end(arn)

    assert [one["waiver"] for one in result.record["caFindings"]] == [reason]
    assert_issued(result)


def test_a_tsb_that_is_silent_about_the_ca_key_is_asked_again(
    case: Case, stack: InProcessStack
) -> None:
    fault = {"kind": "status", "httpStatus": 503}
    stack.control("POST", "/faults", {"label": CA_LABEL, "path": ATTRIBUTES, "fault": fault})
    arn = submit(case, case.by_profile("code-signing"))
    case.until(lambda: "TaskFailed" in [one["type"] for one in case.history(arn)], "failure")
    record_without_an_answer = case.record()
    approve(case, stack)
    result = case.end(arn)

    assert result.failures == [("CreateKey", "TsbUnavailableError")]
    assert "caFindings" not in record_without_an_answer
    assert result.record["caFindings"] == []
    assert_issued(result)


# RequestCsr ---------------------------------------------------------------------------------------


def test_approvers_are_on_record_by_their_names_in_the_directory(
    case: Case, stack: InProcessStack
) -> None:
    # Her certificate says otherwise.
    ada = Approver.generate("CN of Ada Lovelace", "ec")
    directory = released(stack, "directory")
    (entry,) = [one for one in directory["people"] if one["name"] == "Ada Lovelace"]
    entry["keys"] = [{"certificate": ada.certificate(), "validFrom": "2026-01-01"}]
    stack.release_profile("directory", directory)
    arn = submit(case, case.by_profile("code-signing"))
    stack.at("PollRequest", "GetItem")
    names = [one["name"] for one in case.step()["approvers"]]
    case.approve(ada, stack.people["Alan Turing"])
    result = case.end(arn)

    assert names == APPROVERS
    assert decisions(result) == {
        "Ada Lovelace": "approved",
        "Grace Hopper": "none",
        "Alan Turing": "approved",
    }


def test_nobody_is_asked_where_two_keys_have_become_one_person_s(
    case: Case, stack: InProcessStack
) -> None:
    """The linter has judged by the directory of the acceptance: there, two of three were people."""
    arn = submit(case, case.by_profile("code-signing"))
    stack.at("CreateKey", "UpdateItem")
    directory = released(stack, "directory")
    ada, grace = (
        next(one for one in directory["people"] if one["name"] == name)
        for name in ("Ada Lovelace", "Grace Hopper")
    )
    ada["keys"] += grace["keys"]
    directory["people"].remove(grace)
    stack.release_profile("directory", directory)
    result = case.end(arn)

    assert_failed(result, "InvalidEnrollmentError", "RequestCsr")
    assert result.document["error"]["field"] == "request.key.policy.ruleUse"
    assert "POST /v1/certificate/request" not in called(stack)
    assert "DiscardKey" in result.entered


def test_a_person_may_be_renamed_before_they_are_asked(case: Case, stack: InProcessStack) -> None:
    arn = submit(case, case.by_profile("code-signing"))
    stack.at("CreateKey", "UpdateItem")
    directory = released(stack, "directory")
    next(one for one in directory["people"] if one["name"] == "Ada Lovelace")["name"] = "Ada King"
    stack.release_profile("directory", directory)
    approve(case, stack)
    result = case.end(arn)

    assert_issued(result)
    assert decisions(result)["Ada King"] == "approved"


def test_a_raw_policy_s_approvers_are_on_record_by_their_names_in_the_directory_too(
    case: Case, stack: InProcessStack
) -> None:
    ada = stack.people["Ada Lovelace"]
    requested = case.request(token(group(ada)))
    requested["key"]["policy"]["ruleUse"]["tokens"][0]["groups"][0]["approvals"][0]["name"] = (
        "ADA Lovelace"
    )
    arn = case.start(requested)
    stack.at("PollRequest", "GetItem")
    names = [one["name"] for one in case.step()["approvers"]]
    case.approve(ada)
    result = case.end(arn)

    assert names == ["Ada Lovelace"]
    assert decisions(result) == {"Ada Lovelace": "approved"}
