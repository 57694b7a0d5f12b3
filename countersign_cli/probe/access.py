"""Who may call what: API keys, their roles, access tokens; and what the TSB says of itself."""

import uuid
from typing import Any

from countersign_cli.calls import MANAGEMENT, OPERATION, SERVICE, Json, Said
from countersign_cli.probe.questions import Finding, UnknownError, question
from countersign_cli.probe.session import Session, needed
from countersign_cli.signer import Signer

INVALID_API_KEY, MISSING_API_KEY, MISSING_TOKEN = 631, 416, 406
VALIDATION_FAILED = 600
# Documented under "system keys".
SYSTEM_KEYS = {
    "approver-mgmt-backup-key-rsa-wrapping",
    "attestation-key",
    "rfc-timestamp-key",
    "timestamp-key",
}
NEEDED_LICENSE = "TSB_ENGINE"
NAMES = {OPERATION: "operation", MANAGEMENT: "management"}
PARAMETER_VALUES = {"operation": "KeyOperation", "management": "KeyManagement"}


@question("version", assumed="2.2.0", source="The product knows TSB 1.17 to 2.5.")
def server_version(session: Session) -> Finding:
    said = session.ask("GET", "/v1/versionInfo", role=SERVICE)
    return Finding(needed(said, "GET /v1/versionInfo").content["Version"])


@question(
    "licensed for approvals (TSB_ENGINE)",
    assumed=True,
    source="Without the license TSB answers 450 or 451 to whatever approvers are asked for.",
)
def licensed(session: Session) -> Finding:
    said = needed(session.ask("GET", "/v1/licenseInfo", role=SERVICE), "GET /v1/licenseInfo")
    found = NEEDED_LICENSE in said.content["clientFlags"]
    follows = "" if found else "Have TSB_ENGINE added to the TSB's license."
    return Finding(found, follows=follows)


@question("API keys are asked for", assumed=True, source="Optional, by the TSB's configuration.")
def api_authentication(session: Session) -> Finding:
    said = session.ask("GET", "/v1/key", role=None)
    if said.ok:
        why = "Switch apiAuthentication on: whoever reaches this TSB can use it."
        return Finding(False, follows=why)
    if said.not_allowed and said.code != MISSING_TOKEN:
        return Finding(True, str(said))
    raise UnknownError(str(said))


@question("HTTP status without API key", assumed=401, source="Not documented; 400 is possible.")
def missing_api_key_http_status(session: Session) -> Finding:
    said = session.ask("GET", "/v1/key", role=None)
    if said.code != MISSING_API_KEY:
        raise UnknownError(f"no errorCode {MISSING_API_KEY}: {said}")
    return Finding(said.status)


@question("HTTP status for another role's key", assumed=401, source="Not documented; 401 or 403.")
def wrong_role_http_status(session: Session) -> Finding:
    _two_roles(session)
    said = session.ask("GET", "/v1/key", role=OPERATION)
    if said.code != INVALID_API_KEY:
        raise UnknownError(f"no errorCode {INVALID_API_KEY}: {said}")
    return Finding(said.status)


@question(
    "bearer tokens",
    assumed="ignore",
    source="Mandatory on the shared CloudHSM, optional elsewhere.",
)
def authorization(session: Session) -> Finding:
    said = session.calls.ask("GET", "/v1/key", role=MANAGEMENT, bearer=False)
    if said.ok:
        return Finding("ignore")
    if said.code == MISSING_TOKEN:
        return Finding("require", follows="Put a bearerToken into the secret of each role.")
    raise UnknownError(str(said))


@question(
    "role of /v1/certificate/**",
    assumed="operation",
    source="Documents up to 2.2 say key operation, those of 2.5 key management.",
)
def certificate_role(session: Session) -> Finding:
    inner = {
        "signKeyName": session.absent,
        "keyPassword": None,
        "signatureAlgorithm": "SHA256_WITH_ECDSA",
        "validity": 365,
        "standardCertificateAttributes": {"commonName": "countersign probe"},
    }
    found = _role(session, "POST", "/v1/certificate/request", {"csrSignRequest": inner})
    session.certificate_role = MANAGEMENT if found == "management" else OPERATION
    return Finding(found, parameters=_parameter("CertificateRole", found))


@question(
    "role of /v1/request/**",
    assumed="operation",
    source="Key operation in documents, key management in one vendor client.",
)
def request_role(session: Session) -> Finding:
    found = _role(session, "GET", f"/v1/request/{uuid.uuid4()}")
    session.request_role = MANAGEMENT if found == "management" else OPERATION
    return Finding(found, parameters=_parameter("RequestRole", found))


def _parameter(name: str, found: str) -> dict[str, str]:
    return {name: PARAMETER_VALUES.get(found, "KeyOperation")}


def _role(session: Session, method: str, path: str, body: Json | None = None) -> str:
    """Which of the two roles a path takes. Nothing is there that it could act on."""
    _two_roles(session)
    said = {role: session.ask(method, path, body, role=role) for role in NAMES}
    allowed = [name for role, name in NAMES.items() if not said[role].not_allowed]
    if not allowed:
        raise UnknownError("; ".join(f"{role}: {one}" for role, one in said.items()))
    return allowed[0] if len(allowed) == 1 else "both"


def _two_roles(session: Session) -> None:
    """Nothing tells roles apart where no API key is asked for, or both have the same one."""
    if session.ask("GET", "/v1/key", role=None).ok:
        raise UnknownError("this TSB asks for no API key")
    tokens = session.calls.tokens
    if tokens.management == tokens.operation:
        raise UnknownError("the API keys of both roles are the same")


@question(
    "API key of approvers' calls",
    assumed="required",
    source="The page on API keys says so; the documents' sample client sends none.",
)
def approver_api_key(session: Session) -> Finding:
    if session.ask("GET", "/v1/key", role=None).ok:
        raise UnknownError("this TSB asks for no API key")
    said = session.tasks(Signer.generate(), role=None)
    if said.ok:
        return Finding("notRequired")
    if said.not_allowed:
        return Finding("required", str(said))
    raise UnknownError(str(said))


@question(
    "unknown JSON properties",
    assumed="refuse",
    source="A comment in the vendor's classes relies on a refusal.",
)
def unknown_properties(session: Session) -> Finding:
    body: dict[str, Any] = {"label": session.absent, "password": None, "countersignProbe": True}
    said = session.ask("POST", "/v1/key/attributes", body, role=MANAGEMENT)
    return Finding("refuse" if said.code == VALIDATION_FAILED else "ignore", str(said))


@question(
    "TSB's own keys in GET /v1/key",
    assumed="listed",
    source="Documented to be there; SweepKeys must not mind them.",
)
def system_keys(session: Session) -> Finding:
    said = needed(_list(session), "GET /v1/key")
    listed = set(said.content)
    others = len(listed - SYSTEM_KEYS)
    shared = "If the other keys are not Countersign's, set SweepKeyPrefix."
    found = "listed" if listed & SYSTEM_KEYS else "unlisted"
    return Finding(found, f"and {others} others", shared if others else "")


@question("Content-Type of answers", assumed="application/json", source="Others were seen.")
def content_type(session: Session) -> Finding:
    return Finding(needed(_list(session), "GET /v1/key").reply.content_type)


def _list(session: Session) -> Said:
    return session.ask("GET", "/v1/key", role=MANAGEMENT)


QUESTIONS = (
    server_version,
    licensed,
    api_authentication,
    missing_api_key_http_status,
    wrong_role_http_status,
    authorization,
    certificate_role,
    request_role,
    approver_api_key,
    unknown_properties,
    system_keys,
    content_type,
)
