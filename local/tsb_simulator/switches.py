"""Every behaviour that the TSB's documents leave open or contradict, as a named switch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel


class Switches(BaseModel):
    """What this simulator assumes where no source settles the matter. Assignment is validated."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", validate_assignment=True
    )

    server_version: str = Field("2.2.0", description="Answer of GET /v1/versionInfo.")
    api_authentication: bool = Field(
        True, description="Whether X-API-KEY is asked for (TSB config apiAuthentication.enabled)."
    )
    authorization: Literal["ignore", "require"] = Field(
        "ignore",
        description="Whether calls need a bearer JWT (optional on premise, mandatory on the shared "
        "CloudHSM); approvers' task and approval calls do not.",
    )
    certificate_role: Literal["operation", "management"] = Field(
        "operation",
        description="Role of /v1/certificate/**: documents up to 2.2 say key operation, those of "
        "2.5 and some vendor clients say key management.",
    )
    request_role: Literal["operation", "management", "both"] = Field(
        "operation",
        description="Role of /v1/request/** and /v1/filteredRequests: key operation in documents, "
        "key management in one vendor client.",
    )
    wrong_role_http_status: Literal[401, 403] = Field(
        401, description="HTTP status when a valid API key is used for another role's path (631)."
    )
    missing_api_key_http_status: Literal[400, 401] = Field(
        401, description="HTTP status of 416, missing API key; the code table would give 400."
    )
    unknown_properties: Literal["refuse", "ignore"] = Field(
        "refuse", description="Unknown JSON properties: refused with 400/600, or ignored."
    )
    label_matching: Literal["exact", "ignoreCase"] = Field(
        "exact", description="Whether 'SUB.x' and 'sub.x' name the same key."
    )
    label_max_length: int = Field(
        65535, description="Longest label in UTF-8 bytes (610 beyond it); the HSM has 16 bits."
    )
    system_keys: Literal["listed", "unlisted"] = Field(
        "listed",
        description="Whether GET /v1/key lists TSB's own keys, as it is documented to. Either way "
        "asking for one's attributes answers 500/701, as a recorded answer shows.",
    )
    rsa_key_sizes: list[int] = Field(
        [2048, 3072, 4096, 8192], description="RSA sizes accepted; others are refused with 603."
    )
    ed_curve_oid: Literal["reported", "absent"] = Field(
        "absent",
        description="curveOid of an ED key: null, as the vendor's response class says that it is "
        "only set for EC, or 1.3.101.112, as clients send it.",
    )
    indestructible_delete_code: Literal[701, 614] = Field(
        701, description="errorCode for deleting a key with destroyable=false."
    )
    ska_delete_needs_approval: bool = Field(
        False, description="Whether deleting a key that has a policy is refused with 701."
    )
    label_reusable_after_delete: bool = Field(
        True, description="Whether the label of a deleted key can be created again."
    )
    quorum_out_of_range: Literal["accept", "refuse"] = Field(
        "accept",
        description="A quorum of 0 or above the number of approvals: accepted as it stands (0 is "
        "fulfilled at once, too many never), or refused with 600.",
    )
    empty_tokens: Literal["never", "always"] = Field(
        "never",
        description="A rule with tokens=[]: can never be fulfilled (the request stays PENDING), or "
        "needs no approval.",
    )
    timeout_stops_approved: bool = Field(
        False, description="Whether a timeout ends an APPROVED request that awaits its timelock."
    )
    timer_interval_seconds: int = Field(
        0,
        description="How long after quorum and timelock the HSM timer job executes; above 0, "
        "APPROVED shows even without a timelock (vendor's sample configuration: 60).",
    )
    approved_after_quorum: Literal["tasksStay", "tasksGo"] = Field(
        "tasksStay", description="Whether the others' tasks stay while a request is APPROVED."
    )
    lists_after_end: Literal["emptied", "kept"] = Field(
        "emptied",
        description="notYetApprovedBy of an ended request: emptied, or kept as it was at the end.",
    )
    forbidden_use: Literal["post", "execution"] = Field(
        "post",
        description="Use of a blocked key or one with sign=false: refused with 701 when posted, or "
        "accepted and FAILED at execution.",
    )
    algorithm_check: Literal["post", "execution"] = Field(
        "execution",
        description="A signature algorithm that does not fit the key: refused with 701 when "
        "posted, or accepted and FAILED at execution, where the vendor's code looks at it.",
    )
    synchronous_policy: Literal["checked", "alwaysFulfilled"] = Field(
        "checked",
        description="Synchronous calls on a key whose rule wants approvals: refused with 500/701 "
        "(seen in a recorded answer), or carried out as if the rule were fulfilled. Approvals "
        "handed in with the call (signedApprovals) never suffice here.",
    )
    cancel_final_request: Literal["ignore", "refuse", "overwrite"] = Field(
        "ignore",
        description="DELETE /v1/request/{id} of an ended request: 200 without effect, 500/701, or "
        "its status becomes CANCELLED.",
    )
    cancelled_requests: Literal["kept", "forgotten"] = Field(
        "kept",
        description="A cancelled request, when it is asked about: CANCELLED as documented, or 651, "
        "as one vendor client expects of requests that were just there.",
    )
    fetch_once: bool = Field(
        False, description="Whether the result of a request is handed out only once."
    )
    empty_answer_http_status: Literal[200, 204] = Field(
        200, description="Status of approval, decline, cancel and delete, which have no body."
    )
    create_http_status: Literal[200, 201] = Field(
        201, description="Status of POST endpoints that create a key or a request."
    )
    json_encoding: Literal["utf-8", "ascii"] = Field(
        "utf-8",
        description="Bodies hold characters beyond ASCII as they are, as Jackson writes them, or "
        "escaped.",
    )
    content_type: str = Field(
        "application/json",
        description="Content-Type of JSON answers. Whatever its charset says, they are UTF-8 "
        "(RFC 8259); 'application/json;charset=ISO-8859-1' and 'text/plain' were seen.",
    )
    approver_api_key: Literal["required", "notRequired"] = Field(
        "required",
        description="Whether the approvers' calls (tasks, approval) need an API key: the page on "
        "API keys says so, the documents' sample client sends none.",
    )
    input_offline_hsm: bool = Field(
        False, description="Whether request status carries inputOfflineHsm, as newer servers do."
    )
    subject_alternative_names: bool = Field(
        False,
        description="Whether subjectAlternativeNames is a known property (newest servers only).",
    )
    organization_identifier: bool = Field(
        True, description="Whether organizationIdentifier is a known property (since 2.1.0)."
    )
    label_in_certificate_calls: Literal["limited", "free"] = Field(
        "limited",
        description="The vendor's engine makes a temporary file named after the key, so a label "
        "with '/' or of more than 200 characters breaks whatever makes a CSR or certificate (701), "
        "when posted or at execution as subjectRefused says; or any label works.",
    )
    subject_building: Literal["joined", "escaped"] = Field(
        "joined",
        description="A CSR's subject: KEY=value joined with commas, unescaped, read by keytool "
        "as in the vendor's published code, so that a comma, a plus or a quote is refused (701) or "
        "makes another subject; or as it was meant.",
    )
    subject_refused: Literal["post", "execution"] = Field(
        "execution",
        description="A subject that keytool cannot read: refused with 701 when posted, or accepted "
        "and FAILED at execution.",
    )
    csr_validity_minimum: int | None = Field(
        None, description="Smallest validity accepted in csrSignRequest; null: it has no effect."
    )
    country_length_check: bool = Field(
        False, description="Whether a country that is not two letters is refused with 411."
    )
    common_name_max_length: int | None = Field(
        None, description="Longest commonName (411 beyond it); null: no limit (X.520 says 64)."
    )
    csr_leaves_certificate: bool = Field(
        False,
        description="Whether an asynchronous CSR leaves a self-signed certificate on the key, as "
        "the synchronous one does since 1.16.1.",
    )
    sign_subject: Literal["asked", "csr"] = Field(
        "asked",
        description="Subject of an issued certificate: the asked one (-dname of the vendor's "
        "engine), or the CSR's.",
    )
    newer_sign_properties: bool = Field(
        False,
        description="Whether validity, standardCertificateAttributes and copyExtensions are known "
        "properties of signCertificateRequest, as on newer servers. 90 days without validity.",
    )
    issued_pem: Literal["lines", "oneLine"] = Field(
        "lines",
        description="A certificate's PEM: lines of 64 characters as keytool writes, or its body on "
        "one line and no final line feed, as in the documents' sample.",
    )
    issued_serial: Literal["random", "zero"] = Field(
        "random", description="Serial number of certificates: random, or 0 as in the samples."
    )
    issued_start: Literal["now", "midnight"] = Field(
        "now", description="notBefore: the time of execution, or 00:00 UTC as in the sample."
    )
    issued_usages: Literal["asked", "missing"] = Field(
        "asked",
        description="Key usages of certificates: as asked, or left out as by the sample's engine.",
    )
    issued_issuer: Literal["ca", "other"] = Field(
        "ca",
        description="Issuer of a certificate: the CA certificate's subject, or CN=CA-Key whatever "
        "that is, as in the sample.",
    )
    import_of_another_key: Literal["accepted", "refused"] = Field(
        "accepted",
        description="Import of a certificate of another key: accepted, or refused with 701.",
    )
    read_certificate_form: Literal["pem", "base64"] = Field(
        "pem", description="Form of `certificate` in GET /v1/certificate/{keyName}."
    )
    raw_certificate: bool = Field(
        False, description="Whether that answer has rawCertificate (base64), as newest servers do."
    )
    self_sign_result: Literal["true", "certificate"] = Field(
        "true", description="Result of an asynchronous selfsign: the text 'true', or the PEM."
    )
    attestation_layout: Literal["recorded", "flat"] = Field(
        "recorded",
        description="The attested attributes' XML: as two recorded ones are laid out, or as the "
        "documents list its elements.",
    )
    attestation_time: Literal["asked", "created"] = Field(
        "asked",
        description="attest_time of a key: when its attributes are asked for, or when it was made, "
        "by an HSM that keeps one attestation for all questions.",
    )
    onboarded_approvers: dict[str, str | None] = Field(
        {},
        description="Approvers whom TSB knows by name, with their certificates (base64 DER); null: "
        "created and not onboarded (414).",
    )
    echoed_approvals: Literal["attested", "asPosted"] = Field(
        "attested",
        description="Approvers in the policy that TSB repeats: as the attestation has them, a "
        "certificate named by its CN and an onboarded approver as certificate, or as they were "
        "posted.",
    )
    unknown_approver_code: Literal[413, 654] = Field(
        413, description="errorCode for an onboarded approver that is not known."
    )
    sign_tasks_include_certificates: bool = Field(
        True, description="Whether filteredSignApprovalTask lists CSR and certificate tasks."
    )
    csr_approval_payload: Literal["requestInfo", "request"] = Field(
        "requestInfo",
        description="What the approvers of a CSR sign: its to-be-signed part (inferred from the "
        "HSM's approval of a signature), or the body of the call that asked for it.",
    )
    timestamp_past_seconds: int = Field(
        600, description="How old an approver's timestamp may be (maxTimestampDiffApprovalClient)."
    )
    timestamp_future_seconds: int = Field(
        0, description="How far ahead it may be (maxFutureTimestampDiffApprovalClient)."
    )
    timestamp_signing_certificates: list[str] = Field(
        [],
        description="SHA-256 fingerprints (hex) of service certificates that may list and decline "
        "all tasks.",
    )


def described() -> dict[str, Any]:
    """List every switch with its default, its values and what it decides."""
    schema = Switches.model_json_schema(by_alias=True)["properties"]
    return {
        name: {
            "default": part["default"],
            "values": part.get("enum"),
            "description": part["description"],
        }
        for name, part in schema.items()
    }


def change(switches: Switches, changes: dict[str, Any]) -> None:
    """Set switches by their camelCase names; all of them or, where one is not valid, none.

    Raises:
        pydantic.ValidationError: an unknown name or a value that the switch does not take.
    """
    merged = Switches.model_validate(switches.model_dump(by_alias=True) | changes)
    for name in Switches.model_fields:
        setattr(switches, name, getattr(merged, name))


def parse_assignment(text: str) -> tuple[str, Any]:
    """Read `name=value` from the command line; the value is JSON where it can be, else text."""
    name, separator, value = text.partition("=")
    if not separator:
        raise ValueError(f"{text!r} is not name=value")
    try:
        return name, TypeAdapter(Any).validate_json(value)
    except ValueError:
        return name, value
