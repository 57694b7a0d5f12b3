"""Whom the linter has judged, and who is asked: the same people, under whatever names."""

from collections.abc import Mapping

import pytest

from countersign import models as m
from countersign.errors import InvalidEnrollmentError
from countersign.policy import approvers
from countersign.record import Record
from countersign.states import request_csr
from local.approver import Approver

KEYS = [Approver.generate(name, "ec").spki for name in ("a", "b", "c")]
POLICY = m.Policy.read(
    {
        "ruleUse": {
            "tokens": [
                {
                    "name": "Token1",
                    "timelock": 0,
                    "timeout": 3600,
                    "groups": [
                        {
                            "name": "Group1",
                            "quorum": 2,
                            "approvals": [{"type": "public_key", "value": one} for one in KEYS],
                        }
                    ],
                }
            ]
        },
        "keyStatus": {"blocked": False},
    }
)


def shown(*names: str) -> m.PolicySummary:
    digests = [one.spki_sha256 or "" for one in approvers.approvers(POLICY, {})]
    known: Mapping[str, str] = dict(zip(digests, names, strict=True))
    return approvers.summary(POLICY, known)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (("Ada", "Bert", "Carl"), ("Ada", "Ada", "Carl")),
        (("Ada", "Ada", "Carl"), ("Ada", "Bert", "Carl")),
        (("Ada", "Ada", "Carl"), ("Ada", "Carl", "Carl")),  # as many people, and others
    ],
    ids=["two are one", "one is two", "other two are one"],
)
def test_other_people_are_not_asked(before: tuple[str, ...], now: tuple[str, ...]) -> None:
    record = Record(policy=shown(*before).dump())

    with pytest.raises(InvalidEnrollmentError) as caught:
        request_csr._require_same_people(POLICY, record, shown(*now))

    assert "directory of approvers was changed" in caught.value.message


def test_the_same_people_under_other_names_are_asked() -> None:
    record = Record(policy=shown("Ada", "Ada", "Carl").dump())

    request_csr._require_same_people(POLICY, record, shown("Ada King", "Ada King", "Karl"))


def test_a_record_that_says_no_policy_is_no_obstacle() -> None:
    request_csr._require_same_people(POLICY, Record(), shown("Ada", "Bert", "Carl"))
