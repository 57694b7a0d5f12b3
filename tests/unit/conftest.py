"""Unit tests open no sockets; some have the table."""

from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws
from pytest_socket import disable_socket

from countersign.aws import clients
from countersign.aws.records import Records
from tests.unit.test_template import of


@pytest.fixture(autouse=True)
def _no_sockets() -> None:
    disable_socket(allow_unix_socket=True)


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Iterator[Records]:
    """The table as the template has it."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    clients.client.cache_clear()
    with mock_aws():
        properties = of("AWS::DynamoDB::Table")["EnrollmentsTable"]
        boto3.client("dynamodb").create_table(
            TableName="table",
            **{
                name: properties[name]
                for name in (
                    "BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes"
                )
            },
        )  # fmt: skip
        yield Records("table")
    clients.client.cache_clear()
