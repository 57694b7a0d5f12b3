"""The function that a user would write at the least: it makes the calls of ours, and little else.

Its head imports what the work cannot do without, by function. Its handler reads the event with
pydantic (a model of one field: less is not using it), logs a line with Powertools, makes the
recorded calls with boto3 and requests in their order, prints a metric line for each call to the
TSB, and returns the recorded result. Nothing is decided, verified, named, compared or kept, and no
certificate is read even where the head imports what reads them: a lower bound.
"""

from pathlib import Path
from typing import Any

from botocore import xform_name

from benchmarks.bare import AwsCall, TsbCall
from benchmarks.first_calls import FirstCall

PYDANTIC = "import pydantic\nclass Least(pydantic.BaseModel):\n    field: str\n"
LOGGER = "from aws_lambda_powertools import Logger\nlogger = Logger()\n"
BOTO3 = (
    "import boto3\n"
    "from botocore.config import Config\n"
    "from botocore.exceptions import ClientError\n"
)
REQUESTS = "import requests\nsession = requests.Session()\n"
CERTIFICATES = (
    "import base64, hashlib\n"
    "from cryptography import x509\n"
    "from cryptography.hazmat.primitives.serialization import load_der_public_key\n"
)
CANONICAL = "import rfc8785\n"
ROUTES = (
    "from aws_lambda_powertools.event_handler import APIGatewayRestResolver\n"
    "app = APIGatewayRestResolver(enable_validation=True)\n"
)

EVERY = "import json\n" + BOTO3 + PYDANTIC + LOGGER

# What reads certificates: who expands, compares or shows a policy, and who verifies the HSM's work.
# An end does, because it verifies a CSR again. A poll, a cancellation and a mail do not.
MINIMUM = {
    "accept_enrollment": EVERY + CERTIFICATES + CANONICAL,
    "create_key": EVERY + REQUESTS + CERTIFICATES,
    "request_csr": EVERY + REQUESTS + CERTIFICATES,
    "poll_request": EVERY + REQUESTS,
    "store_csr": EVERY + REQUESTS + CERTIFICATES,
    "request_certificate": EVERY + REQUESTS + CERTIFICATES + CANONICAL,
    "store_certificate": EVERY + REQUESTS + CERTIFICATES,
    "discard_key": EVERY + REQUESTS,
    "close_enrollment": EVERY + CERTIFICATES + CANONICAL,
    "api": EVERY + CERTIFICATES + CANONICAL + ROUTES,
    "cancel_request": EVERY + REQUESTS,
    "keep_evidence": EVERY + CERTIFICATES + CANONICAL,
    "notify": EVERY,
    "mail_people": EVERY + CERTIFICATES,
    "watch_enrollments": EVERY + REQUESTS + CERTIFICATES,
    "sweep_keys": EVERY + REQUESTS + CERTIFICATES + CANONICAL,
    "audit_keys": EVERY + REQUESTS + CERTIFICATES + CANONICAL,
}

HANDLER = """
CONFIG = Config(connect_timeout=1, read_timeout=3, retries={"total_max_attempts": 3})
clients = {}


def client(service):
    if service not in clients:
        clients[service] = boto3.client(service, config=CONFIG)
    return clients[service]


@logger.inject_lambda_context
def handler(event, context):
    Least.model_validate({"field": "id"})
    logger.info("begun")
    for call in CALLS:
        if call[0] == "tsb":
            tsb(*call[1:])
        else:
            aws(*call)
    return RESULT


def aws(service, operation, params):
    try:
        answer = getattr(client(service), operation)(**params)
    except ClientError:
        return
    if operation == "get_object":
        answer["Body"].read()
    if operation == "get_secret_value":
        secret = json.loads(answer["SecretString"])
        if "caBundle" in secret:
            with open(CA_FILE, "w") as file:
                file.write(secret["caBundle"])


def tsb(method, url, headers, body, status):
    answer = session.request(
        method, url, data=body, headers=headers, verify=CA_FILE, timeout=(5, 20)
    )
    if answer.status_code != status:  # a refusal may be an answer, as "there is no certificate"
        answer.raise_for_status()
    if answer.content:
        answer.json()
    print(json.dumps({"_aws": {"CloudWatchMetrics": []}, "TsbLatency": 1}))
"""


def source(first: FirstCall, tsb_url: str, ca_file: Path) -> str:
    """The text of the module that makes these calls.

    Args:
        first: the calls of ours.
        tsb_url: where the TSB is.
        ca_file: where the module writes the TSB's CA, which it finds in a secret.
    """
    calls: list[tuple[Any, ...]] = []
    for one in first.exchanges:
        call = one.call
        if isinstance(call, AwsCall):
            calls.append((call.service, xform_name(call.operation), call.params))
        elif isinstance(call, TsbCall):
            headers = {**call.headers, "Content-Type": "application/json"}
            status = one.answer["status"]
            calls.append(("tsb", call.method, tsb_url + call.path, headers, call.body, status))
    constants = {
        "CALLS": _literal(calls),
        "RESULT": _literal(first.result),
        "CA_FILE": str(ca_file),
    }
    lines = "".join(f"{name} = {value!r}\n" for name, value in constants.items())
    return MINIMUM[first.function] + lines + HANDLER


def _literal(value: Any) -> Any:
    """The value with plain texts in the place of enums' members."""
    if isinstance(value, dict):
        return {str(name): _literal(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_literal(one) for one in value]
    return str(value) if isinstance(value, str) else value
