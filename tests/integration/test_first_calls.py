"""The benchmark of start-ups: a process gets the same answers as the recorded call did."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError

from benchmarks import first_calls, minimum
from benchmarks.answers import Answers
from benchmarks.bare import AwsCall, TsbCall
from benchmarks.first_calls import Exchange, Recorded
from local.engine.surroundings import REGION

ROOT = Path(__file__).parents[2]
LOOKED_AT = ("Item", "Items", "Attributes", "SecretString", "Signature", "FailedEntryCount")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("first-calls")


@pytest.fixture(scope="module")
def answers(folder: Path) -> Iterator[Answers]:
    made = Answers(folder)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def recorded(folder: Path, answers: Answers) -> Recorded:
    return first_calls.record(folder, answers.ca_bundle)


def test_each_function_is_measured(recorded: Recorded) -> None:
    files = {file.stem for file in (ROOT / "functions").glob("*.py")}

    assert {one.function for one in recorded.calls.values()} == files == set(minimum.MINIMUM)


def client(service: str, answers: Answers) -> Any:
    return boto3.client(  # type: ignore[call-overload]
        service,
        region_name=REGION,
        endpoint_url=answers.aws,
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106
        config=Config(retries={"total_max_attempts": 1}),
    )


def ask(one: Exchange, answers: Answers, folder: Path) -> Any:
    """Make a recorded call; what came, as it was recorded."""
    if isinstance(one.call, TsbCall):
        response = requests.request(
            one.call.method,
            answers.tsb + one.call.path,
            data=one.call.body,
            verify=str(folder / "tsb.pem"),
            timeout=5,
        )
        return {"status": response.status_code, "body": response.content}
    try:
        answer = getattr(client(one.call.service, answers), xform_name(one.call.operation))(
            **one.call.params
        )
    except ClientError as error:
        return error.response
    if "Body" in answer:
        answer["Body"] = answer["Body"].read()
    return answer


def test_every_answer_comes_over_the_wire_as_it_was_recorded(
    recorded: Recorded, answers: Answers, folder: Path
) -> None:
    for case in recorded.calls:
        exchanges = recorded.exchanges(case)
        answers.expect(exchanges)

        came = [ask(one, answers, folder) for one in exchanges]

        assert (answers.unexpected, answers.left) == ("", []), case
        for one, answer in zip(exchanges, came, strict=True):
            if isinstance(one.call, TsbCall):
                assert answer == {name: one.answer[name] for name in ("status", "body")}
            elif one.refused:
                assert answer["Error"]["Code"] == one.answer["Error"]["Code"]
                assert answer.get("Item") == one.answer.get("Item")
            else:
                for name in (*LOOKED_AT, "Body"):
                    assert answer.get(name) == one.answer.get(name), f"{one.call} of {case}"
                keys = [[o["Key"] for o in a.get("Contents", ())] for a in (answer, one.answer)]
                assert keys[0] == keys[1]


def test_a_key_that_a_call_makes_is_made_now(recorded: Recorded) -> None:
    """The records are of a virtual day; CreateKey would find the HSM's clock off by their age."""
    (made,) = [one for one in recorded.exchanges("create_key") if str(one.call) == "POST /v1/key"]
    shown = json.loads(made.answer["body"])["xml"]
    (created,) = re.findall("<create_time>(.*)</create_time>", shown)

    assert abs(datetime.now(UTC) - datetime.fromisoformat(created)) < timedelta(minutes=1)


def test_a_call_that_was_not_recorded_is_named(recorded: Recorded, answers: Answers) -> None:
    first, *_ = [one for one in recorded.exchanges("notify") if isinstance(one.call, AwsCall)]
    answers.expect([first])

    with pytest.raises(ClientError):
        client("dynamodb", answers).get_item(TableName="t", Key={"id": {"S": "a"}})

    assert answers.unexpected == ".GetItem where ['sns.Publish'] was expected"
    assert answers.left == ["sns.Publish"]
