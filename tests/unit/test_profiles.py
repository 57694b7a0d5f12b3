"""A request by profile: what it may say, what becomes of it, and what a profile file may be."""

import base64
import copy
import hashlib
import json
import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign import models
from countersign.errors import InvalidEnrollmentError
from countersign.policy import approvers, certificates, profiles
from countersign.policy.directory import Directory
from countersign.policy.names import names_of
from countersign.policy.profiles import Profile, Profiles, TextRule
from countersign.policy.rules import decided, window_seconds
from countersign.request import canonical, intake, tsb_bodies, validation
from countersign.spki import approver_spki, spki_sha256
from local.approver import Approver

ROOT = Path(__file__).parents[2]
PROFILE_STORE = ROOT / "profiles"
SCHEMAS = PROFILE_STORE / "schemas"
NOW = datetime(2027, 1, 15, 12, tzinfo=UTC)
ADA = "arn:aws:iam::123456789012:user/ada.lovelace"

type Json = dict[str, Any]
type Change = Callable[[Json], object]


def requested(**more: Any) -> Json:
    return {
        "profile": "code-signing@1",
        "key": {"label": "SUB.release"},
        "csr": {"standardCertificateAttributes": {"commonName": "Release 1"}},
        **more,
    }


def read(
    raw: Any,
    folder: Path = PROFILE_STORE,
    *,
    requester: str | None = None,
    moment: datetime = NOW,
    raw_policy: bool = False,
) -> validation.Reading:
    rules = validation.Rules(
        profiles=Profiles(folder), key_password_prefix="", allow_raw_policy=raw_policy
    )
    return validation.read(raw, rules=rules, requester=requester, moment=moment)


def refused(raw: Any, folder: Path = PROFILE_STORE, **more: Any) -> InvalidEnrollmentError:
    with pytest.raises(InvalidEnrollmentError) as caught:
        read(raw, folder, **more)
    return caught.value


@pytest.fixture
def profile_store(tmp_path: Path) -> Path:
    """A copy of the released profiles, to be changed."""
    for file in PROFILE_STORE.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def alter(profile_store: Path, name: str, change: Change) -> None:
    content = json.loads((profile_store / name).read_text())
    change(content)
    (profile_store / name).write_text(json.dumps(content))


def test_a_profile_makes_a_whole_request_of_a_label_and_a_name() -> None:
    reading = read(requested(enrollmentId="release-1", reason="OPS-42"))
    whole = reading.request

    assert whole.profile == "code-signing@1"
    assert whole.unused_key == "delete"
    assert whole.key.label == "SUB.release"
    assert (whole.key.algorithm, whole.key.curve_oid) == ("EC", "1.3.132.0.34")
    assert whole.csr.standard_certificate_attributes.dump() == {
        **dict.fromkeys(get_args(models.SubjectName)),
        "commonName": "Release 1",
        "organizationName": "Example AG",
        "country": "CH",
    }
    assert whole.reason == "OPS-42"
    assert window_seconds(whole.key.policy.rule_use.tokens) == 86_400
    assert [one.name for one in approvers.approvers(whole.key.policy, {})] == [
        "Ada Lovelace", "Grace Hopper", "Alan Turing",
    ]  # fmt: skip
    assert "enrollmentId" not in reading.raw
    assert models.EnrollmentRequest.read(reading.raw) == whole


@pytest.mark.parametrize("file", ["docs/profiles.md"])
def test_the_request_that_people_read_about_is_the_sample_and_is_accepted(file: str) -> None:
    sample = json.loads((ROOT / "events/request-by-profile.json").read_text())
    blocks = re.findall(r"```json\n(.*?)```", (ROOT / file).read_text(), re.DOTALL)
    shown = [json.loads(block) for block in blocks if '"profile": "code-signing@1"' in block]

    assert shown == [{"request": sample}]
    assert read(sample).findings == ()


def test_a_schedule_dates_the_label_before_the_profile_looks_at_it() -> None:
    origin = {"trigger": "schedule", "id": "monthly", "time": "2027-02-01T06:00:00Z"}
    dated, _ = intake.requested(
        {"request": requested(key={"label": "SUB.release-{yyyy}-{mm}"}), "origin": origin}
    )

    assert read(dated).request.key.label == "SUB.release-2027-02"


def test_tsb_gets_nothing_that_is_ours_alone() -> None:
    whole = read(requested()).request

    assert set(tsb_bodies.tsb_key(whole, None)) == {
        "label", "algorithm", "curveOid", "attributes", "policy",
    }  # fmt: skip
    assert set(tsb_bodies.tsb_csr(whole, None, shown=b"", signature=b"")) == {
        "signKeyName", "keyPassword", "signatureAlgorithm", "validity", "keyUsage",
        "standardCertificateAttributes", "extendedKeyUsage", "metaData",
        "metaDataSignature",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "field", "words"),
    [
        ({"surprise": 1}, "surprise", "unknown field"),
        ({"unusedKey": "keep"}, "unusedKey", "decides this"),
        ({"key": {"label": "SUB.x", "policy": {}}}, "key.policy", "decides this"),
        ({"key": {"label": "SUB.x", "attributes": {}}}, "key.attributes", "decides this"),
        ({"key": {"label": "SUB.x", "algorithm": "RSA"}}, "key.algorithm", "decides this"),
        ({"key": {"label": "SUB.x", "keySize": 2048}}, "key.keySize", "decides this"),
        ({"key": {"label": "SUB.x", "curveOid": "1.2"}}, "key.curveOid", "decides this"),
        ({"key": {"label": "SUB.x", "surprise": 1}}, "key.surprise", "unknown field"),
        ({"key": {"label": "ROOT.x"}}, "key.label", "pattern"),
        ({"key": {"label": "SUB." + "x" * 61}}, "key.label", "64 characters"),
        ({"key": {"label": "SUB.x\n"}}, "key.label", "pattern"),
        ({"csr": {}}, "csr.standardCertificateAttributes.commonName", "missing"),
        (
            {"csr": {"standardCertificateAttributes": {"commonName": "x", "country": "DE"}}},
            "csr.standardCertificateAttributes.country",
            "decides this",
        ),
        (
            {"csr": {"standardCertificateAttributes": {"commonName": "x", "title": "Dr"}}},
            "csr.standardCertificateAttributes.title",
            "decides this",
        ),
        (
            {"csr": {"standardCertificateAttributes": {"commonName": "a/b"}}},
            "csr.standardCertificateAttributes.commonName",
            "pattern",
        ),
        (
            {"csr": {"standardCertificateAttributes": {"commonName": "x", "surprise": "x"}}},
            "csr.standardCertificateAttributes.surprise",
            "",
        ),
        ({"csr": {"keyUsage": ["CRL_SIGN"]}}, "csr.keyUsage", "decides this"),
        ({"profile": "code-signing@2"}, "profile", "there is no profile"),
        ({"profile": "nobody"}, "profile", "code-signing@1, trial@1"),
        ({"profile": "../directory"}, "profile", "there is no profile"),
        ({"profile": ""}, "profile", "there is no profile"),
    ],
)  # fmt: skip
def test_what_a_profile_does_not_leave_open_is_refused_with_its_path(
    more: Json, field: str, words: str
) -> None:
    error = refused(requested(**more))

    assert (error.field or "").startswith(f"request.{field}")
    assert words in f"{error.message} {error.action}"
    assert error.action


def test_only_the_named_overrides_are_the_caller_s() -> None:
    raw = {
        "profile": "trial",
        "key": {"label": "trial.x"},
        "csr": {
            "standardCertificateAttributes": {"commonName": "x"},
            "extendedKeyUsage": ["SERVER_AUTH"],
        },
    }

    assert read(raw).request.csr.extended_key_usage == ("SERVER_AUTH",)
    assert refused({**raw, "csr": {**raw["csr"], "validity": 9}}).field == "request.csr.validity"  # type: ignore[dict-item]


@pytest.mark.parametrize("profile", [None, 1, ["code-signing"]])
def test_a_raw_policy_is_refused_where_the_stack_takes_profiles_only(profile: object) -> None:
    seed = {
        "key": json.loads((ROOT / "events/seed/create-key.json").read_text()),
        "csr": json.loads((ROOT / "events/seed/csr-request.json").read_text())["csrSignRequest"],
    }

    error = refused(seed | ({} if profile is None else {"profile": profile}))

    assert error.field == "request.profile"
    assert "code-signing@1" in error.action
    assert read(seed, raw_policy=True).profile_sha256 is None
    assert refused({**seed, "unusedKey": "keep"}, raw_policy=True).field == "request.unusedKey"


def test_a_name_alone_means_the_newest_version(profile_store: Path) -> None:
    old = (profile_store / "code-signing@1.json").read_text()
    for version in (2, 10):
        (profile_store / f"code-signing@{version}.json").write_text(
            old.replace('"version": 1', f'"version": {version}')
        )

    assert (
        read(requested(profile="code-signing"), profile_store).request.profile == "code-signing@10"
    )
    assert (
        read(requested(profile="code-signing@2"), profile_store).request.profile == "code-signing@2"
    )


def test_the_hash_that_tells_requests_apart_is_of_what_the_caller_sent() -> None:
    assert canonical.sha256(requested()) != canonical.sha256(read(requested()).raw)
    assert canonical.sha256(requested(enrollmentId="x")) == canonical.sha256(requested())


def test_a_person_is_asked_with_the_key_that_is_valid_now(profile_store: Path) -> None:
    keys = {year: Approver.generate("Ada Lovelace", "ec") for year in (2026, 2027, 2028)}
    alter(
        profile_store,
        "directory.json",
        lambda content: content["people"][0].update(
            keys=[
                {"publicKey": key.spki, "validFrom": f"{year}-01-01"} for year, key in keys.items()
            ]
        ),
    )

    group = (read(requested(), profile_store).request.key.policy.rule_use.tokens[0].groups or ())[0]
    assert group.approvals[0].value == keys[2027].spki


def people(*keys: Json) -> Json:
    """A directory with one person."""
    return {"people": [{"name": "Ada", "contact": "ada@example.com", "keys": list(keys)}]}


def test_every_key_of_a_person_leads_back_to_the_name_certificates_by_their_public_key() -> None:
    old, new = Approver.generate("Old name", "rsa"), Approver.generate("x", "ed25519")
    directory = people(
        {"certificate": old.certificate(), "validFrom": "2025-01-01"},
        {"publicKey": new.spki, "validFrom": "2026-01-01"},
    )
    stranger = Approver.generate("x", "ec").spki

    seen = decided(
        (), approved=[old.spki, new.spki], declined=[stranger], outstanding=[],
        names=lambda: names_of(json.dumps(directory).encode()),
    )  # fmt: skip

    assert [(one.name[:10], one.decision) for one in seen] == [
        ("Ada", "approved"), ("Ada", "approved"), ("key sha256", "declined"),
    ]  # fmt: skip


def armored(certificate: str) -> str:
    return f"-----BEGIN CERTIFICATE-----{certificate}-----END CERTIFICATE-----"


@pytest.mark.parametrize("kind", ["rsa", "ec", "ed25519"])
def test_a_poll_reads_the_same_names_as_those_who_read_the_whole_directory(kind: Any) -> None:
    one, two, three = (Approver.generate(name, kind) for name in ("One", "Two", "Three"))
    content = people(
        {"certificate": one.certificate(), "validFrom": "2025-01-01"},
        {"certificate": armored(two.certificate()), "validFrom": "2025-01-01"},
        {"publicKey": three.spki, "validFrom": "2026-01-01"},
    )

    names = names_of(json.dumps(content).encode())

    assert names == Directory.read(content).names
    assert set(names) == {spki_sha256(approver.spki) for approver in (one, two, three)}


def test_a_key_that_would_have_two_fingerprints_is_refused() -> None:
    # A point may be written with one coordinate (SEC 1, 2.3.3); TSB writes both.
    spki = base64.b64decode(Approver.generate("x", "ec").spki)
    head, point = spki[:26], spki[27:]  # between them 0x04: both coordinates follow
    half = bytes([2 + point[-1] % 2]) + point[:32]
    compressed = bytes([0x30, 0x39]) + head[2:23] + bytes([0x03, 0x22, 0x00]) + half
    unusual = base64.b64encode(compressed).decode()
    assert certificates.approver_public_key("public_key", unusual)

    with pytest.raises(InvalidEnrollmentError, match="unusual encoding"):
        Directory.read(people({"publicKey": unusual, "validFrom": "2026-01-01"}))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b'{"people": [{"name": "Ada"}]}',
        b'{"people": [{"name": "Ada", "keys": [{"certificate": "AAAA"}]}]}',
        b'{"people": [{"name": "Ada", "keys": [{"publicKey": "?"}]}]}',
    ],
)
def test_an_unreadable_directory_names_nobody(content: bytes) -> None:
    assert names_of(content) == {}


@given(st.binary(max_size=200))
def test_whatever_is_no_certificate_is_an_error_of_value(content: bytes) -> None:
    with suppress(ValueError):
        approver_spki("certificate", base64.b64encode(content).decode())


def drop(*path: str) -> Change:
    def apply(content: Json) -> None:
        for part in path[:-1]:
            content = content[part]
        del content[path[-1]]

    return apply


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: p.update(surprise=1), "profile.surprise"),
        (lambda p: p.update(version=2), "says that it is code-signing@2"),
        (lambda p: p.update(overrides=["key.policy"]), "profile.overrides.0"),
        (lambda p: p["policy"].pop("ruleModify"), "profile.policy.ruleModify"),
        (lambda p: p["csr"]["subject"].pop("commonName"), "needs a commonName"),
        (lambda p: p["key"].update(label={"pattern": "SUB.*"}), "starts with ^"),
        (lambda p: p["key"].update(label={"pattern": "^(?=x)x$"}), "linear time"),
        (lambda p: p["key"].update(label={"pattern": r"^(a)\1$"}), "linear time"),
        (lambda p: p["key"].update(label={"pattern": "^a)|(?:b$"}), "linear time"),
        (lambda p: p["key"].update(label={}), "either value or pattern"),
        (lambda p: p.update(lint={"levels": {"no-such": "error"}}), "unknown finding: no-such"),
        (
            lambda p: p.update(lint={"levels": {"window-endless": "warning"}}),
            "raised only",
        ),
        (
            lambda p: p.update(lint={"waivers": [{"code": "rule-empty", "reason": "x" * 10}]}),
            "cannot be waived",
        ),
        (
            lambda p: p.update(lint={"waivers": [{"code": "window-tight", "reason": ""}]}),
            "10 characters or more",
        ),
        (
            lambda p: p["policy"]["ruleUse"]["tokens"][0]["groups"][0].update(approvers=["Eve"]),
            "'Eve', who is not in the directory",
        ),
    ],
)
def test_a_bad_profile_is_refused_and_says_why(
    profile_store: Path, change: Change, words: str
) -> None:
    alter(profile_store, "code-signing@1.json", change)

    assert words in refused(requested(), profile_store).message


def test_a_bad_profile_spoils_no_other(profile_store: Path) -> None:
    (profile_store / "trial@1.json").write_text("{")

    assert read(requested(), profile_store).profile_sha256
    assert "is no JSON" in refused(requested(profile="trial"), profile_store).message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["people"][0]["keys"][0].pop("publicKey"), "either publicKey or certificate"),
        (lambda d: d["people"][0]["keys"][0].update(publicKey="eA=="), "not the base64 of a DER"),
        (lambda d: d["people"][0]["keys"][0].update(validTo="2025-01-01"), "before validFrom"),
        (lambda d: d["people"].append(d["people"][0]), "the same name twice"),
        (
            lambda d: d["people"].append({**copy.deepcopy(d["people"][0]), "name": "Eve"}),
            "the same key twice",
        ),
        (lambda d: d["people"][0].pop("contact"), "contact"),
    ],
)
def test_a_bad_directory_is_refused_and_says_why(
    profile_store: Path, change: Change, words: str
) -> None:
    alter(profile_store, "directory.json", change)

    assert words in refused(requested(), profile_store).message


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("^a|b$", "xb", False),
        ("^a|b$", "b", True),
        ("^a$", "a\n", False),
        ("^[^x]*$", "a\nb", True),
        ("^(a+)+$", "a" * 128, True),
        ("^a*$", "a" * 129, False),
    ],
)
def test_a_pattern_holds_the_whole_text(pattern: str, text: str, fits: bool) -> None:
    assert TextRule(pattern=pattern).allows(text) is fits


def test_no_pattern_holds_up_a_function() -> None:
    began = time.perf_counter()

    TextRule(pattern="^(a|a)*(a+)+(a*)*$").allows("a" * 127 + "!")

    # Backtracking would take longer than the universe has.
    assert time.perf_counter() - began < 1


def test_a_subject_field_of_a_profile_is_one_of_tsb_s() -> None:
    names = {field.alias for field in models.Subject.model_fields.values()}

    assert set(get_args(models.SubjectName)) == names


@pytest.mark.parametrize("file", sorted(PROFILE_STORE.glob("*@*.json")), ids=lambda file: file.stem)
def test_a_released_profile_can_be_asked_for(file: Path) -> None:
    profile = Profiles(PROFILE_STORE).get(file.stem)
    raw = profiles.expand(
        {"profile": profile.id, "key": {"label": "x"}, "csr": {}}, _open(profile),
        Profiles(PROFILE_STORE).directory, NOW,
    )  # fmt: skip

    assert models.EnrollmentRequest.read(raw).profile == file.stem


def _open(profile: Profile) -> Profile:
    """The profile with every text open or fixed to an x: patterns are for people to meet."""
    text = TextRule(pattern="^.*$", optional=True)
    subject = {**profile.csr.subject, "commonName": TextRule(value="x")}
    return profile.model_copy(
        update={
            "key": profile.key.model_copy(update={"label": text}),
            "csr": profile.csr.model_copy(update={"subject": subject}),
        }
    )


def test_a_released_version_never_changes_and_never_goes() -> None:
    lines = (PROFILE_STORE / "released.sha256").read_text().splitlines()
    locked = {name: digest for digest, name in (line.split("  ") for line in lines)}
    existing = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in PROFILE_STORE.glob("*@*.json")
    }

    assert existing == locked


def test_the_shipped_approvers_are_examples_that_nobody_can_be() -> None:
    directory = Profiles(PROFILE_STORE).directory

    assert all(person.contact.endswith("@example.com") for person in directory.people)
    assert all(base64.b64decode(key.value) for key in directory.keys.values())


def test_a_file_that_names_a_field_twice_is_no_profile(tmp_path: Path) -> None:
    text = (ROOT / "profiles/trial@1.json").read_text()
    (tmp_path / "trial@1.json").write_text(text.replace("{", '{"production": true, ', 1))

    with pytest.raises(InvalidEnrollmentError, match="'production' stands twice"):
        Profiles(tmp_path).get("trial@1")
