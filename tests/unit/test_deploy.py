"""`make deploy`: what it says before it begins, and where it deploys to."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from local import deploy
from local.template import ROOT

GIVEN: dict[str, Any] = {"stack_name": "countersign"}


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No region and no credentials, whatever this machine has."""
    for name in [one for one in os.environ if one.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


@pytest.mark.parametrize(
    ("environment", "given", "region"),
    [
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-east-1"}, {}, "eu-west-1"),
        ({"AWS_REGION": "eu-west-1"}, {"region": "us-east-1"}, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "us-east-1"}, {}, "us-east-1"),
        ({}, {"region": "eu-north-1"}, "eu-north-1"),
    ],
    ids=str,
)
def test_the_region_that_is_asked_for_is_the_one(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    given: dict[str, str],
    region: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        # moto sets a region for itself.
        if "AWS_DEFAULT_REGION" not in environment:
            monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
        found = deploy.target(GIVEN | given)

    assert found["region"] == region
    assert found["stack"] == "countersign"
    assert found["account"] == "123456789012"


def test_a_profile_s_region_is_the_last_resort(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(
        "[profile release]\nregion = eu-south-1\n"
        "aws_access_key_id = test\naws_secret_access_key = test\n"
    )
    with mock_aws():
        monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
        found = deploy.target(GIVEN | {"profile": "release"})

    assert found["region"] == "eu-south-1"


@pytest.mark.parametrize(
    ("environment", "given", "said"),
    [
        ({}, {}, "no region: AWS_REGION=<region> make deploy"),
        (
            {"AWS_REGION": "eu-west-1"},
            {},
            "no usable AWS credentials: Unable to locate credentials",
        ),
        ({"AWS_REGION": "eu-west-1"}, {"profile": "x"}, "profile (x) could not be found"),
        ({}, {"stack_name": "a" * 25}, "at most 24 characters"),
        ({}, {"stack_name": "pki--csr"}, "no two dashes side by side"),
    ],
    ids=str,
)
def test_without_region_credentials_or_a_usable_name_nothing_begins(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environment: dict[str, str],
    given: dict[str, str],
    said: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(deploy, "settings", lambda: GIVEN | given)

    status = deploy.main()

    assert status == 1
    assert said in capsys.readouterr().err


def test_stack_account_and_region_are_said_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    with mock_aws():
        status = deploy.main()
    said = capsys.readouterr()

    assert status == 0
    assert said.out == "eu-west-1\n"
    for word in ("countersign", "123456789012", "eu-west-1", "arn:aws:"):
        assert word in said.err


def test_make_deploy_stops_there_or_goes_on_in_that_region() -> None:
    command = subprocess.run(
        ["make", "--dry-run", "deploy"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.replace("\\\n", " ")
    before, *steps = [" ".join(one.split()) for one in command.splitlines()[-1].split("&&")]

    assert before.startswith("region=$(")
    assert before.endswith("python -m local.deploy)")
    assert len(steps) == 3
    assert steps[-1].endswith('sam deploy --region "$region"')
