"""What the approvers read before they agree."""

import json
from pathlib import Path
from typing import Any

import pytest

from countersign.models import EnrollmentRequest
from countersign.policy import approvers
from countersign.policy.summary import duration, summary

SEED = Path(__file__).parents[2] / "events/seed"


def request(**more: Any) -> EnrollmentRequest:
    return EnrollmentRequest.read(
        {
            "key": json.loads((SEED / "create-key.json").read_text()),
            "csr": json.loads((SEED / "csr-request.json").read_text())["csrSignRequest"],
            **more,
        }
    )


def test_the_approvers_read_what_they_agree_to() -> None:
    text = summary(
        request(reason="OPS-42"), enrollment_id="web-01", names={}, requester="arn:aws:iam::1:ada"
    )

    assert text == (
        "Approve: a certificate signing request (CSR), signed once with a new HSM key\n"
        "Subject commonName: Approver-Intermediate-SUB\n"
        "Key: RSA 2048\n"
        "Key label: SUB.approver.securosys.com\n"
        "Signature: SHA256_WITH_RSA\n"
        "Usages: DIGITAL_SIGNATURE, CODE_SIGNING\n"
        'Agreement: 1 of "ApproverKey1"\n'
        "Window: 10 minutes from the request\n"
        "Enrollment: web-01\n"
        "Requested by: arn:aws:iam::1:ada\n"
        "Reason: OPS-42"
    )


@pytest.mark.parametrize(
    "trick", ["\n", "\r", "\u2028", "\u202e", "\u200b", "\x1b", "\u2800", "\u115f"]
)
def test_a_caller_s_text_cannot_pass_for_a_line_of_ours(trick: str) -> None:
    text = summary(request(reason=f"x{trick}Agreement: nobody"), enrollment_id="web-01", names={})

    assert trick not in text.replace("\n", "", 10)
    assert len(text.splitlines()) == 11
    assert f"<U+{ord(trick):04X}>Agreement" in text


def test_approvers_have_the_names_that_are_on_record() -> None:
    requested = request()
    (asked,) = approvers.approvers(requested.key.policy, {})
    assert asked.spki_sha256 is not None

    text = summary(requested, enrollment_id="web-01", names={asked.spki_sha256: "Ada"})

    assert 'Agreement: 1 of "Ada"\n' in text


def test_alternatives_groups_and_times_are_told() -> None:
    requested = request()
    token = requested.key.policy.rule_use.tokens[0]
    later = token.model_copy(
        update={"timelock": 3600, "timeout": 0, "groups": (token.groups or ()) * 2}
    )
    rule = requested.key.policy.rule_use.model_copy(update={"tokens": (later, token)})
    policy = requested.key.policy.model_copy(update={"rule_use": rule})
    requested = requested.model_copy(
        update={"key": requested.key.model_copy(update={"policy": policy})}
    )

    text = summary(requested, enrollment_id="web-01", names={})

    assert '1 of "ApproverKey1" and 1 of "ApproverKey1" or 1 of "ApproverKey1"' in text
    assert "Window: without end\n" in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (86_400, "1 day"),
        (172_800, "2 days"),
        (5_400, "90 minutes"),
        (3_600, "1 hour"),
        (61, "61 s"),
    ],
)
def test_durations_are_said_in_the_largest_unit_that_fits(seconds: int, words: str) -> None:
    assert duration(seconds) == words
