"""What is refused before anything is created, and which enrollment an input means."""

import base64
import copy
import hashlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from countersign.errors import InvalidEnrollmentError
from countersign.models import EnrollmentRequest, now
from countersign.policy import approvers, summary
from countersign.policy.profiles import Profiles
from countersign.policy.rules import decided, timelock_seconds, window_seconds
from countersign.request import canonical, intake, tsb_bodies, validation

SEED = Path(__file__).parents[2] / "events/seed"
PREFIX = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:countersign/key-password/"
SECRET = {"secretArn": f"{PREFIX}web-abc"}
OTHER_KEY = base64.b64encode(
    ec.generate_private_key(ec.SECP256R1())
    .public_key()
    .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
).decode()


def rules(prefix: str = PREFIX) -> validation.Rules:
    """A stack that takes raw policies, and knows nobody."""
    return validation.Rules(
        profiles=Profiles(SEED), key_password_prefix=prefix, allow_raw_policy=True
    )


def read(raw: Any) -> EnrollmentRequest:
    return validation.read(raw, rules=rules(), requester=None, moment=now()).request


def seed() -> dict[str, Any]:
    return {
        "key": json.loads((SEED / "create-key.json").read_text()),
        "csr": json.loads((SEED / "csr-request.json").read_text())["csrSignRequest"],
    }


def refused(raw: Any) -> InvalidEnrollmentError:
    with pytest.raises(InvalidEnrollmentError) as caught:
        read(raw)
    return caught.value


def token(raw: dict[str, Any], rule: str = "ruleUse") -> Any:
    return raw["key"]["policy"][rule]["tokens"][0]


def test_the_seed_s_own_bodies_are_accepted_verbatim() -> None:
    accepted = read(seed())

    assert tsb_bodies.tsb_key(accepted, None) == seed()["key"]
    assert tsb_bodies.tsb_csr(accepted, None, shown=b"meta", signature=b"signed") == {
        **seed()["csr"],
        "signKeyName": "SUB.approver.securosys.com",
        "metaData": "bWV0YQ==",
        "metaDataSignature": "c2lnbmVk",
    }


type Change = Callable[[dict[str, Any]], object]


def change(path: str, value: Any) -> Change:
    def apply(raw: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        place: Any = raw
        for part in parents:
            place = place[int(part)] if part.isdigit() else place[part]
        place[int(last) if last.isdigit() else last] = value

    return apply


def drop(path: str) -> Change:
    def apply(raw: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        place: Any = raw
        for part in parents:
            place = place[part]
        del place[last]

    return apply


FROZEN: dict[str, Any] = {"tokens": []}
USE = "key.policy.ruleUse"
TOKEN = f"{USE}.tokens.0"
GROUP = f"{TOKEN}.groups.0"
APPROVAL = f"{GROUP}.approvals.0"


@pytest.mark.parametrize(
    ("alter", "field", "words"),
    [
        (change("surprise", 1), "surprise", "unknown field"),
        (change("key.key_size", 4096), "key.key_size", "unknown field"),
        (change("csr.signature_algorithm", "EDDSA"), "csr.signature_algorithm", "unknown field"),
        (change("enrollment_id", "web-1"), "enrollment_id", "unknown field"),
        (change("key.surprise", 1), "key.surprise", "unknown field"),
        (change("csr.metaData", "eA=="), "csr.metaData", "unknown field"),
        (drop("key.policy"), "key.policy", "missing"),
        (change("key.policy", None), "key.policy", ""),
        (drop("key.policy.ruleUse"), USE, "missing"),
        (change(USE, None), USE, ""),
        (change(USE, FROZEN), f"{USE}.tokens", "never be fulfilled"),
        (change("key.policy.keyStatus.blocked", True), "key.policy.keyStatus.blocked", "blocked"),
        (change(f"{TOKEN}.groups", None), f"{TOKEN}.groups", "asks nobody"),
        (change(f"{TOKEN}.groups", []), f"{TOKEN}.groups", "asks nobody"),
        (change(f"{TOKEN}.timeout", 90), f"{TOKEN}.timeout", "multiple of 60"),
        (change(f"{TOKEN}.timelock", 61), f"{TOKEN}.timelock", "multiple of 60"),
        (change(f"{TOKEN}.timelock", 600), f"{TOKEN}.timelock", "ends after"),
        (change(f"{TOKEN}.timeout", -60), f"{TOKEN}.timeout", " or more"),
        (change(f"{TOKEN}.timeout", "600"), f"{TOKEN}.timeout", "whole number"),
        (change(f"{GROUP}.quorum", 2), f"{GROUP}.quorum", "2 of 1 distinct"),
        (change(f"{GROUP}.quorum", 0), f"{GROUP}.quorum", " or more"),
        (change(f"{GROUP}.approvals", []), f"{GROUP}.approvals", "1 entries or more"),
        (change(f"{APPROVAL}.value", "bm9uc2Vuc2U="), f"{APPROVAL}.value", ""),
        (change(f"{APPROVAL}.value", None), f"{APPROVAL}.value", ""),
        (change(f"{APPROVAL}.type", "public-key"), f"{APPROVAL}.type", "public_key"),
        (change(f"{APPROVAL}.value", OTHER_KEY), "", "two approver keys under one name"),
        (change("key.attributes.extractable", True), "key.attributes.extractable", "exported"),
        (change("key.attributes.sign", False), "key.attributes.sign", "its own key"),
        (drop("key.attributes.unwrap"), "key.attributes.unwrap", "missing"),
        (change("key.keySize", 1024), "key.keySize", "2048"),
        (change("key.algorithm", "AES"), "key.algorithm", "'RSA', 'EC' or 'ED'"),
        (change("key.algorithm", "EC"), "key.curveOid", "curve"),
        (change("key.label", "master/44'"), "key.label", "derivation"),
        (change("key.label", ""), "key.label", "1 characters or more"),
        (change("csr.signKeyName", "other.key"), "csr.signKeyName", "another key"),
        (change("csr.signatureAlgorithm", "SHA256_WITH_ECDSA"), "csr.signatureAlgorithm", "RSA"),
        (change("csr.signatureAlgorithm", "NONE_WITH_RSA"), "csr.signatureAlgorithm", "is no"),
        (change("csr.keyUsage", ["SIGN"]), "csr.keyUsage.0", "DIGITAL_SIGNATURE"),
        (change("csr.extendedKeyUsage", ["CODE_SIGNING"] * 2), "csr.extendedKeyUsage", "twice"),
        (
            change("csr.standardCertificateAttributes.commonName", " "),
            "csr.standardCertificateAttributes.commonName",
            "",
        ),
        (
            change("csr.standardCertificateAttributes.country", "Switzerland"),
            "csr.standardCertificateAttributes.country",
            "",
        ),
        (change("key.password", "hunter2"), "key.password", ""),
        (change("key.password", list("hunter2")), "key.password", ""),
        (change("key.password", {"secretArn": "arn:aws:x"}), "key.password.secretArn", PREFIX),
        (change("csr.keyPassword", SECRET), "csr.keyPassword", "differs"),
        (change("enrollmentId", "a/b"), "enrollmentId", ""),
        (change("reason", "x" * 1001), "reason", "1000"),
    ],
)
def test_a_bad_request_is_refused_with_its_path_and_a_way_out(
    alter: Change, field: str, words: str
) -> None:
    raw = seed()
    alter(raw)

    error = refused(raw)

    assert (error.field or "").startswith(f"request.{field}" if field else "request.")
    assert words in f"{error.message} {error.action}"
    assert error.action
    assert "hunter2" not in str(error)


def test_a_refusal_names_several_fields_at_once() -> None:
    raw = seed()
    raw["key"]["keySize"] = "big"
    raw["csr"]["validity"] = "long"

    error = refused(raw)

    assert "request.key.keySize" in error.message
    assert "request.csr.validity" in error.message


def test_other_rules_may_be_frozen_or_absent() -> None:
    raw = seed()
    raw["key"]["policy"]["ruleModify"] = FROZEN
    raw["key"]["policy"]["ruleBlock"] = None
    del raw["key"]["policy"]["ruleUnblock"]

    accepted = read(raw)

    assert accepted.key.policy.rule_modify is not None
    assert tsb_bodies.tsb_key(accepted, None) == raw["key"]


def test_the_other_rules_are_checked_as_strictly() -> None:
    raw = seed()
    token(raw, "ruleModify")["timeout"] = 90

    assert refused(raw).field == "request.key.policy.ruleModify.tokens.0.timeout"


def test_the_same_key_twice_counts_once_towards_a_quorum() -> None:
    raw = seed()
    group = token(raw)["groups"][0]
    group["approvals"] *= 2
    group["quorum"] = 2

    assert "2 of 1 distinct" in refused(raw).message


def test_a_password_by_reference_goes_out_letter_by_letter() -> None:
    raw = seed()
    raw["key"]["password"] = SECRET

    accepted = read(raw)

    assert tsb_bodies.tsb_key(accepted, "pw")["password"] == ["p", "w"]
    assert tsb_bodies.tsb_csr(accepted, "pw", shown=b"", signature=b"")["keyPassword"] == ["p", "w"]


def test_without_a_prefix_no_secret_can_be_named() -> None:
    raw = seed()
    raw["key"]["password"] = SECRET

    with pytest.raises(InvalidEnrollmentError):
        validation.read(raw, rules=rules(""), requester=None, moment=now())


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"request": {"enrollmentId": "web-01"}}, "web-01"),
        ({"enrollmentId": "web-01"}, "web-01"),
        ({"request": {}, "origin": {"trigger": "event", "id": "abc"}}, "event.abc"),
        (
            {
                "request": {},
                "origin": {"trigger": "schedule", "id": "monthly", "time": "2026-11-24T05:00:00Z"},
            },
            "schedule.monthly.20261124T050000Z",
        ),
        (
            {
                "request": {},
                "origin": {"trigger": "schedule", "id": "x", "time": "2026-11-24T06:00:00+01:00"},
            },
            "schedule.x.20261124T050000Z",
        ),
        ({"request": {}, "origin": {"trigger": "schedule", "id": "monthly"}}, "run-1"),
        ({"request": {}, "origin": {"trigger": "event"}}, "run-1"),
        ({"request": {}, "origin": {"trigger": "api", "id": "api.77"}}, "api.77"),
        ({"request": {}}, "run-1"),
        ({"request": {}, "origin": {"trigger": "api", "id": "web-01"}}, "web-01"),
        ({"request": {"enrollmentId": "not valid"}}, "run-1"),
        ({"request": {"enrollmentId": "event.abc"}}, "run-1"),
        ("nonsense", "run-1"),
        (
            {"request": {}, "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID": "arn:aws:states:parent"},
            "run-1",
        ),
    ],
)  # fmt: skip
def test_an_input_means_one_enrollment(raw: Any, expected: str) -> None:
    assert intake.enrollment_id(raw, "run-1") == expected


def scheduled(**more: Any) -> dict[str, Any]:
    schedule = "arn:aws:scheduler:eu-central-1:123456789012:schedule/countersign/rotate-release"
    raw = seed()
    raw["key"]["label"] = raw["csr"]["signKeyName"] = "release-{yyyy}-{mm}-{dd}T{hh}"
    origin = {"trigger": "schedule", "id": schedule, "time": "2026-12-01T06:00:00Z"}
    return {"request": raw, "origin": {**origin, **more}}


def test_a_schedule_s_label_gets_the_date_of_its_occurrence() -> None:
    raw, origin = intake.requested(scheduled())

    assert raw["key"]["label"] == raw["csr"]["signKeyName"] == "release-2026-12-01T06"
    assert read(raw).key.label == "release-2026-12-01T06"
    assert origin.time == "2026-12-01T06:00:00Z"


def test_each_occurrence_is_its_own_enrollment_and_a_repeated_delivery_is_not() -> None:
    first, again, later = scheduled(), scheduled(), scheduled(time="2027-01-01T06:00:00Z")

    ids = [intake.enrollment_id(one, f"run-{number}") for number, one in
           enumerate((first, again, later))]  # fmt: skip
    hashes = [canonical.sha256(intake.requested(one)[0]) for one in (first, again, later)]

    assert ids == [
        "schedule.rotate-release.20261201T060000Z",
        "schedule.rotate-release.20261201T060000Z",
        "schedule.rotate-release.20270101T060000Z",
    ]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("name", ["rotate releases", "R" * 64, "schlüssel", "a.b" * 20])
def test_a_schedule_whose_name_fits_no_id_has_a_stable_id(name: str) -> None:
    one = scheduled(id=name)

    assert intake.enrollment_id(one, "run-1") == intake.enrollment_id(one, "run-2")
    assert re.fullmatch(r"schedule\.[0-9a-f]{40}", intake.enrollment_id(one, "run-1"))


MADE = {
    "event": {"request": {}, "origin": {"trigger": "event", "id": "abc"}},
    "event, hashed": {"request": {}, "origin": {"trigger": "event", "id": "ä"}},
    "schedule": scheduled(),
    "schedule with dots": scheduled(id="rotate.release"),
    "schedule, hashed": scheduled(id="R" * 64),
    "execution, hashed": {"request": {}},
}


@pytest.mark.parametrize("made", MADE.values(), ids=MADE.keys())
def test_an_id_that_a_trigger_makes_is_none_that_a_caller_can_give(made: Any) -> None:
    taken = intake.enrollment_id(made, "run 1")
    attempts = [
        {"request": {"enrollmentId": taken}},
        {"request": {}},
        {"request": {}, "origin": {"trigger": "api", "id": taken}},
    ]

    assert intake.ENROLLMENT_ID.fullmatch(taken)
    assert intake.own_id({"enrollmentId": taken}) is None
    assert taken not in [intake.enrollment_id(one, taken) for one in attempts]
    with pytest.raises(InvalidEnrollmentError, match=r"enrollmentId") as caught:
        read({**seed(), "enrollmentId": taken})
    assert caught.value.field == "request.enrollmentId"


def test_an_occurrence_cannot_be_taken_before_its_time() -> None:
    _, origin = intake.requested(scheduled())
    due = datetime(2026, 12, 1, 6, tzinfo=UTC)

    intake.require_due(origin, due)
    with pytest.raises(InvalidEnrollmentError) as caught:
        intake.require_due(origin, due - timedelta(minutes=2))

    assert caught.value.field == "origin.time"


@pytest.mark.parametrize(
    ("origin", "field"),
    [
        ({"time": None}, "origin.time"),
        ({"time": "<aws.scheduler.scheduled-time>"}, "origin.time"),
        ({"time": "2026-12-01T06:00:00"}, "origin.time"),
        ({"id": None}, "origin.id"),
    ],
)
def test_a_schedule_that_does_not_say_its_occurrence_is_refused(
    origin: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidEnrollmentError) as caught:
        intake.requested(scheduled(**origin))

    assert caught.value.field == field
    assert "<aws.scheduler.scheduled-time>" in caught.value.action


def test_a_schedule_with_an_enrollment_id_would_ask_once_only_and_is_refused() -> None:
    raw = scheduled()
    raw["request"]["enrollmentId"] = "web-01"

    with pytest.raises(InvalidEnrollmentError) as caught:
        intake.requested(raw)

    assert caught.value.field == "request.enrollmentId"
    assert intake.enrollment_id(raw, "run-1") == "schedule.rotate-release.20261201T060000Z"


@pytest.mark.parametrize("label", ["release-{week}", "release-{yyyy", "{}"])
def test_a_schedule_s_label_with_anything_else_in_braces_is_refused(label: str) -> None:
    raw = scheduled()
    raw["request"]["key"]["label"] = label

    error = refused(intake.requested(raw)[0])

    assert error.field == "request.key.label"
    assert "{yyyy}, {mm}, {dd}, {hh}" in error.message


@pytest.mark.parametrize("requested", ["text", 7, None, [], {"key": "text"}, {"key": {"label": 7}}])
def test_a_schedule_s_nonsense_is_refused_like_any_other(requested: Any) -> None:
    assert intake.requested({**scheduled(), "request": requested})[0] == requested
    assert refused(requested).field.startswith("request")  # type: ignore[union-attr]


def test_only_a_schedule_has_a_date_to_fill_in() -> None:
    raw = scheduled()
    raw["origin"]["trigger"] = "event"

    assert refused(intake.requested(raw)[0]).field == "request.key.label"


def test_a_nested_call_comes_through_the_workflow_trigger() -> None:
    starter = {"AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID": "arn:aws:states:parent"}

    for raw in ({**seed(), **starter}, {"request": seed(), **starter}):
        requested, origin = intake.requested(raw)
        assert requested == seed()
        assert (origin.trigger, origin.id) == ("workflow", "arn:aws:states:parent")
    given = {"request": seed(), "origin": {"trigger": "start", "id": "mine"}, **starter}
    assert intake.requested(given)[1].id == "mine"


def test_an_execution_name_that_is_no_id_is_hashed() -> None:
    assert re.fullmatch(r"start\.[0-9a-f]{40}", intake.enrollment_id({}, "name with blanks"))


def test_the_same_request_has_the_same_hash_whatever_its_order_and_id() -> None:
    raw = seed()
    turned = {"enrollmentId": "x", **dict(reversed(list(copy.deepcopy(raw).items())))}
    changed = copy.deepcopy(raw)
    changed["csr"]["validity"] = 366

    assert canonical.sha256(raw) == canonical.sha256(turned)
    assert canonical.sha256(raw) != canonical.sha256(changed)


def test_an_unknown_field_beside_the_request_is_refused() -> None:
    with pytest.raises(InvalidEnrollmentError) as caught:
        intake.split_input({"request": {}, "orign": {}})

    assert caught.value.field == "orign"


def test_window_timelock_and_names_come_from_the_use_rule() -> None:
    raw = seed()
    other = copy.deepcopy(token(raw))
    other["timeout"], other["timelock"] = 7200, 60
    other["groups"][0]["approvals"] = [{"type": "public_key", "value": OTHER_KEY}]
    raw["key"]["policy"]["ruleUse"]["tokens"].append(other)

    requested = read(raw).key.policy

    assert window_seconds(requested.rule_use.tokens) == 7200
    assert timelock_seconds(requested.rule_use.tokens) == 0
    names = [approver.name for approver in approvers.approvers(requested, {})]
    assert names[0] == "ApproverKey1"
    assert names[1].startswith("key sha256:")


def test_one_token_without_timeout_makes_the_window_endless() -> None:
    raw = seed()
    endless = copy.deepcopy(token(raw))
    endless["timeout"] = 0
    raw["key"]["policy"]["ruleUse"]["tokens"].append(endless)

    requested = read(raw).key.policy

    assert window_seconds(requested.rule_use.tokens) == 0


def test_a_stranger_s_approval_is_not_hidden() -> None:
    requested = approvers.approvers(read(seed()).key.policy, {})

    seen = decided(requested, approved=[OTHER_KEY], declined=[], outstanding=[], names=dict)

    assert [(one.name[:10], one.decision) for one in seen] == [
        ("ApproverKe", "none"),
        ("key sha256", "approved"),
    ]


def test_a_key_whose_base64_is_broken_into_lines_is_still_that_approver_s() -> None:
    requested = approvers.approvers(read(seed()).key.policy, {})
    value = token(seed())["groups"][0]["approvals"][0]["value"]
    lines = "\r\n".join(value[at : at + 64] for at in range(0, len(value), 64))

    seen = decided(requested, approved=[lines], declined=[], outstanding=[], names=dict)

    assert [one.decision for one in seen] == ["approved"]


def test_who_approved_and_declined_has_not_agreed() -> None:
    seen = decided((), approved=[OTHER_KEY], declined=[OTHER_KEY], outstanding=[], names=dict)

    assert [one.decision for one in seen] == ["declined"]


# What approvers are shown -------------------------------------------------------------------------


def shown(raw: dict[str, Any], **more: Any) -> bytes:
    return tsb_bodies.meta_data(read(raw), enrollment_id="web-1", names={}, **more)


def test_approvers_are_shown_the_whole_request_its_hash_and_a_text() -> None:
    raw = {**seed(), "enrollmentId": "web-1", "reason": "OPS-42"}

    content = json.loads(shown(raw, requester="arn:aws:iam::1:user/ada"))

    own = {name: value for name, value in raw.items() if name != "enrollmentId"}
    assert content["request"] == own
    assert content["requestSha256"] == hashlib.sha256(canonical.canonical(own)).hexdigest()
    assert content["requestSha256"] == canonical.sha256(raw)
    assert content["enrollmentId"] == "web-1"
    assert content["reason"] == "OPS-42"
    assert "Requested by: arn:aws:iam::1:user/ada" in content["about"]


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (40, 32)], ids=["terminal", "phone"])
def test_the_first_screen_holds_all_that_approvers_decide_by(columns: int, rows: int) -> None:
    # As an app shows it that shows the text as it is, wherever it breaks the lines.
    raw = {**seed(), "reason": "Release 4.2 of the firmware, OPS-1274"}
    text = shown(raw, requester="arn:aws:iam::123456789012:user/release.manager").decode()
    screen = text[: columns * rows]

    about, _, _ = screen.partition('],"app":')
    assert about != screen
    assert about.startswith('{"about":["Approve: a certificate signing request')
    for line in json.loads(text)["about"]:
        assert json.dumps(line)[1:-1] in about


def test_nothing_that_a_caller_writes_at_length_hides_what_is_agreed_to() -> None:
    raw = {**seed(), "reason": "x" * 1_000}

    lines = json.loads(shown(raw))["about"]

    assert [line.partition(":")[0] for line in lines[-2:]] == ["Requested by", "Reason"]


def test_what_approvers_are_shown_is_the_same_bytes_each_time() -> None:
    backwards = dict(reversed(seed().items()))

    assert shown(seed()) == shown(backwards) == rfc8785.dumps(json.loads(shown(seed())))


def test_a_request_too_long_to_be_shown_is_shown_by_its_hash() -> None:
    raw = seed()
    raw["key"]["id"] = "x" * tsb_bodies.MAX_META_DATA_BYTES

    content = json.loads(shown(raw))

    assert len(shown(raw)) < tsb_bodies.MAX_META_DATA_BYTES
    assert content["request"] is None
    assert content["requestSha256"] == canonical.sha256(raw)


LETTERS = st.sampled_from(["a", '"', "\\", "\x01", "\n", "\u202e", "é", "漢", "🔑"])


@settings(max_examples=50)
@given(
    names=st.lists(LETTERS, min_size=1, max_size=3),
    long=st.integers(1, 1_500),
    reason=LETTERS,
    subject=LETTERS,
    requester=LETTERS,
)
def test_what_approvers_are_shown_fits_whoever_they_are(
    names: list[str], long: int, reason: str, subject: str, requester: str
) -> None:
    raw = seed()
    group = token(raw)["groups"][0]
    group["approvals"] = [
        {**group["approvals"][0], "name": f"{number}{letter * long}"}
        for number, letter in enumerate(names * 20)
    ]
    raw["reason"] = reason * min(long, 1_000)
    wide = dict.fromkeys(("organizationName", "locality", "title", "surname"), subject * long)
    raw["csr"]["standardCertificateAttributes"] |= wide
    requested = EnrollmentRequest.read(raw)

    content = tsb_bodies.meta_data(
        requested, enrollment_id="e" * 64, names={}, requester=requester * min(long, 1_024)
    )

    assert len(content) <= 32 * 1024
    said = json.loads(content)
    assert said["requestSha256"] == canonical.sha256(canonical.accepted(requested))
    whole = summary.lines(
        requested, enrollment_id="e" * 64, names={}, requester=requester * min(long, 1_024)
    )
    assert (said["about"] == whole) is ("[cut; " not in "".join(said["about"]))
    assert [line.split(":")[0] for line in said["about"]] == [line.split(":")[0] for line in whole]


@pytest.mark.parametrize(("length", "whole"), [(25_000, True), (33_000, False), (120_000, False)])
def test_what_approvers_are_shown_fits_into_32_kib(length: int, whole: bool) -> None:
    raw = seed()
    raw["key"]["id"] = "x" * length

    assert len(shown(raw)) <= 32 * 1024
    assert (json.loads(shown(raw))["request"] is not None) is whole


@pytest.mark.parametrize("value", ["true", "yes", 1, 1.0])
def test_what_looks_like_a_boolean_is_none(value: Any) -> None:
    # It would be accepted as another text than the one whose hash the approvers are shown.
    raw = seed()
    raw["key"]["attributes"]["destroyable"] = value

    assert refused(raw).field == "request.key.attributes.destroyable"
