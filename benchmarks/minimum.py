"""What each function cannot do without, and how a textbook would write its head.

The minimum is not an empty file: pydantic counts with one model of one field, because less is not
using it, and Powertools with a Logger. A unit test keeps the table complete.
"""

PYDANTIC = "import pydantic\nclass Least(pydantic.BaseModel):\n    field: str\n"
LOGGER = "from aws_lambda_powertools import Logger\nLogger()\n"
BOTO3 = "import boto3\n"
REQUESTS = "import requests\n"
CERTIFICATES = "from cryptography import x509\nfrom cryptography.hazmat.primitives import hashes\n"
CANONICAL = "import rfc8785\n"
ROUTES = (
    "from aws_lambda_powertools.event_handler import APIGatewayRestResolver\n"
    "APIGatewayRestResolver(enable_validation=True)\n"
)

EVERY = BOTO3 + PYDANTIC + LOGGER

# The API and the first three states read approvers' certificates, StoreCsr the CSR.
MINIMUM = {
    "accept_enrollment": EVERY + CERTIFICATES + CANONICAL,
    "create_key": EVERY + REQUESTS + CERTIFICATES,
    "request_csr": EVERY + REQUESTS + CERTIFICATES,
    "poll_request": EVERY + REQUESTS,
    "store_csr": EVERY + REQUESTS + CERTIFICATES,
    "discard_key": EVERY + REQUESTS,
    "close_enrollment": EVERY + CANONICAL,
    "api": EVERY + CERTIFICATES + CANONICAL + ROUTES,
    "cancel_request": EVERY + REQUESTS,
    "keep_evidence": EVERY + CERTIFICATES + CANONICAL,
    "notify": EVERY,
    "watch_enrollments": EVERY + REQUESTS + CERTIFICATES,
    "sweep_keys": EVERY + REQUESTS + CERTIFICATES + CANONICAL,
    "audit_keys": EVERY + REQUESTS + CERTIFICATES + CANONICAL,
}

# Everything at the top, every client at once. Without the Tracer, which wants the X-Ray SDK.
TEXTBOOK = (
    BOTO3
    + REQUESTS
    + CERTIFICATES
    + CANONICAL
    + "from pydantic import BaseModel, Field, field_validator\n"
    + "from aws_lambda_powertools import Logger, Metrics\n"
    + "logger, metrics = Logger(), Metrics(namespace='n')\n"
    + "dynamodb = boto3.resource('dynamodb').Table('t')\n"
    + "s3, events = boto3.client('s3'), boto3.client('events')\n"
    + "secrets = boto3.client('secretsmanager')\n"
)
