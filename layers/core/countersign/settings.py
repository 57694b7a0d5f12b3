"""The only reader of the environment; every name is set in `template.yaml`."""

import os
from datetime import timedelta
from functools import cache
from typing import NamedTuple


class Settings(NamedTuple):
    """The functions' settings. A function sees only the values that it uses."""

    table_name: str
    bucket_name: str
    evidence_bucket_name: str
    bus_name: str
    stack_name: str
    topic_arn: str
    mail_from: str
    operators_email: str
    tsb_url: str
    tsb_proxy_url: str
    certificate_role: str
    request_role: str
    secret_arns: dict[str, str]  # by role: keyManagement, keyOperation, service, clientTls
    key_password_prefix: str
    allow_raw_policy: bool
    api: str  # <account>/<id>/<stage>
    tsb_escapes_subjects: bool
    tsb_newer_certificates: bool
    tsb_omits_usages: bool
    state_machine_arn: str
    cancel_request_function: str
    keys_per_minute: int
    watch_requests_per_minute: int
    watch_by_list: bool
    fresh_start_after: timedelta
    signing_key_arn: str
    attestation_root: str
    code_version: str
    sweep_keys: str
    sweep_key_prefix: str
    poll_growth: float
    poll_floor_seconds: int
    poll_cap_seconds: int
    workflow_deadline_days: int
    silence_limit_minutes: int
    max_clock_skew: timedelta


@cache
def settings() -> Settings:
    """The settings of this function's environment, read once."""
    env = os.environ
    return Settings(
        table_name=env.get("TABLE_NAME", ""),
        bucket_name=env.get("BUCKET_NAME", ""),
        evidence_bucket_name=env.get("EVIDENCE_BUCKET_NAME", ""),
        bus_name=env.get("BUS_NAME", ""),
        stack_name=env.get("STACK_NAME", ""),
        topic_arn=env.get("TOPIC_ARN", ""),
        mail_from=env.get("MAIL_FROM", ""),
        operators_email=env.get("OPERATORS_EMAIL", ""),
        tsb_url=env.get("TSB_URL", ""),
        tsb_proxy_url=env.get("TSB_PROXY_URL", ""),
        certificate_role=env.get("CERTIFICATE_ROLE", "keyOperation"),
        request_role=env.get("REQUEST_ROLE", "keyOperation"),
        secret_arns={
            "keyManagement": env.get("KEY_MANAGEMENT_SECRET_ARN", ""),
            "keyOperation": env.get("KEY_OPERATION_SECRET_ARN", ""),
            "service": env.get("SERVICE_SECRET_ARN", ""),
            "clientTls": env.get("CLIENT_TLS_SECRET_ARN", ""),
        },
        key_password_prefix=env.get("KEY_PASSWORD_PREFIX", ""),
        allow_raw_policy=env.get("ALLOW_RAW_POLICY") == "true",
        api=env.get("API", ""),
        tsb_escapes_subjects=env.get("TSB_ESCAPES_SUBJECTS") == "true",
        tsb_newer_certificates=env.get("TSB_NEWER_CERTIFICATES") == "true",
        tsb_omits_usages=env.get("TSB_OMITS_USAGES") == "true",
        state_machine_arn=env.get("STATE_MACHINE_ARN", ""),
        cancel_request_function=env.get("CANCEL_REQUEST_FUNCTION", ""),
        keys_per_minute=int(env.get("KEYS_PER_MINUTE", "0")),
        watch_requests_per_minute=int(env.get("WATCH_REQUESTS_PER_MINUTE", "300")),
        watch_by_list=env.get("WATCH_BY_LIST", "false") == "true",
        fresh_start_after=timedelta(seconds=int(env.get("FRESH_START_SECONDS", "300"))),
        signing_key_arn=env.get("SIGNING_KEY_ARN", ""),
        attestation_root=env.get("ATTESTATION_ROOT", ""),
        code_version=env.get("CODE_VERSION", ""),
        sweep_keys=env.get("SWEEP_KEYS", "off"),
        sweep_key_prefix=env.get("SWEEP_KEY_PREFIX", ""),
        poll_growth=float(env.get("POLL_GROWTH", "1")),
        poll_floor_seconds=int(env.get("POLL_FLOOR_SECONDS", "60")),
        poll_cap_seconds=int(env.get("POLL_CAP_SECONDS", "14400")),
        workflow_deadline_days=int(env.get("WORKFLOW_DEADLINE_DAYS", "30")),
        silence_limit_minutes=int(env.get("SILENCE_LIMIT_MINUTES", "1440")),
        max_clock_skew=timedelta(seconds=int(env.get("MAX_CLOCK_SKEW_SECONDS", "300"))),
    )
