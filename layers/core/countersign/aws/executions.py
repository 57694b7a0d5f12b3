"""Step Functions' executions, for what their events leave out."""

from countersign.aws.clients import client, named_errors


def describe_input(execution_arn: str) -> str:
    """The input (JSON text) that an execution was started with."""
    with named_errors(f"describing {execution_arn}"):
        text: str = client("stepfunctions").describe_execution(executionArn=execution_arn)["input"]
    return text
