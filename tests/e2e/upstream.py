"""What MiniStack does without our shims: run by its own interpreter, prints JSON by shim's name."""

import inspect
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "local"))

import emulator
from ministack import app
from ministack.core import iam_actions, iam_evaluator, lambda_runtime
from ministack.services import (
    apigateway_v1,
    eventbridge,
    iam,
    lambda_svc,
    s3,
    sqs,
    stepfunctions,
)
from ministack.services.cloudformation import provisioners

WAITING = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 60, "End": True}}}
RETRIER = {"ErrorEquals": ["E"], "IntervalSeconds": 10, "BackoffRate": 2, "MaxDelaySeconds": 15}


def class_names() -> bool:
    return '"type": type(e).__name__' not in lambda_runtime._PYTHON_WORKER_SCRIPT


def surviving_workers() -> bool:
    killed = (
        'if response.get("status") == "error":\n                proc, self._proc = self._proc, None'
    )
    return killed in inspect.getsource(lambda_runtime.Worker.invoke)


def capped_retries() -> bool:
    found, _ = stepfunctions._find_matching_retrier([RETRIER], "E", {})
    return "MaxDelaySeconds" not in inspect.getsource(stepfunctions) and found == RETRIER


def terminal_errors() -> bool:
    return any(stepfunctions._error_matches(["States.ALL"], one) for one in emulator.TERMINAL)


def callback_waits() -> bool:
    seconds = {"Resource": "x.waitForTaskToken", "TimeoutSeconds": "{% 1 %}"}
    try:
        stepfunctions._invoke_with_callback("x.waitForTaskToken", {}, "token", seconds)
    except TypeError:  # it was compared with a number
        return True
    return False


def idempotent_start() -> bool:
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    iam._create_role({"RoleName": ["role"], "AssumeRolePolicyDocument": [trust]})
    made = stepfunctions._create_state_machine(
        {
            "name": "waiting",
            "definition": json.dumps(WAITING),
            "roleArn": "arn:aws:iam::000000000000:role/role",
        }
    )
    again = {"stateMachineArn": json.loads(made[2])["stateMachineArn"], "name": "once"}
    first, second = stepfunctions._start_execution(again), stepfunctions._start_execution(again)
    return bool(first[0] == 200 and second[0] == 400)


def universal_schedule() -> bool:
    return "aws.scheduler." not in inspect.getsource(eventbridge._invoke_target)


def nested_failures() -> bool:
    child = {"executionArn": "arn", "status": "FAILED", "output": '{"Error": "E", "Cause": "why"}'}
    return bool(stepfunctions._nested_execution_failure(child) == ("E", "why"))


def nested_events() -> bool:
    announced: list[Any] = []
    eventbridge._put_events = lambda data, **_: announced.append(data)
    execution = {"executionArn": "arn", "stateMachineArn": "arn", "name": "x", "sync": True}
    stepfunctions._emit_execution_status_event({**execution, "status": "SUCCEEDED"})
    return not announced


def archives() -> bool:
    return "AWS::Events::Archive" not in provisioners._RESOURCE_HANDLERS


def api_destinations() -> bool:
    known = provisioners._RESOURCE_HANDLERS
    return not {"AWS::Events::Connection", "AWS::Events::ApiDestination"} & known.keys()


def api_extensions() -> bool:
    spec = {"openapi": "3.0.1", "x-amazon-apigateway-binary-media-types": ["application/pkcs10"]}
    made = apigateway_v1._import_rest_api(spec)
    return not apigateway_v1._rest_apis[made].get("binaryMediaTypes")


def role_boundaries() -> bool:
    made = provisioners._RESOURCE_HANDLERS["AWS::IAM::Role"]["create"](
        "Bounded", {"PermissionsBoundary": "arn:aws:iam::aws:policy/ReadOnlyAccess"}, "stack"
    )
    return not iam._roles[made[0]].get("PermissionsBoundary")


def object_locks() -> bool:
    made = provisioners._RESOURCE_HANDLERS["AWS::S3::Bucket"]["create"](
        "Locked", {"ObjectLockEnabled": True}, "stack"
    )
    return made[0] not in s3._bucket_object_lock


def metric_math() -> bool:
    try:
        provisioners._cw_metric_alarm_record("alarm", {"Metrics": [{}]})
    except ValueError:
        return True
    return False


def bus_policies() -> bool:
    return "AWS::Events::EventBusPolicy" not in provisioners._RESOURCE_HANDLERS


def moved_messages() -> bool:
    return "StartMessageMoveTask" not in sqs._HANDLERS


def secure_loopback() -> bool:
    context: Any = type("Context", (), {"secure_transport": False})()
    return iam_evaluator._resolve_condition_key("aws:SecureTransport", context) != "true"


def mail_senders() -> bool:
    asked: list[Any] = []
    app._enforce_data_plane = lambda *_, **more: asked.append(more)
    body = b'{"FromEmailAddress": "countersign@example.com"}'
    app._enforce_ses_v2("POST", "/v2/email/outbound-emails", {}, body, {}, "id")
    return asked[0]["resource_arn"] == "*" or not asked[0].get("service_context")


def event_keys() -> bool:
    known = (app, iam_actions, iam_evaluator)
    return not any("events:detail-type" in inspect.getsource(one) for one in known)


def bounded_workers() -> bool:
    return "Semaphore" not in inspect.getsource(lambda_svc)


def ready_workers() -> bool:
    return "ensure_spawned" not in inspect.getsource(provisioners._lambda_create)


def shared_layers() -> bool:
    return ".extractall(" in inspect.getsource(lambda_runtime.Worker._spawn)


def clean_interpreter() -> bool:
    return lambda_runtime._detect_runtime_binary("python3.13")[0] == sys.executable


def api_hosts() -> bool:
    host = "0123abcd.execute-api.eu-central-1.amazonaws.com"
    return app._parse_execute_api_url(host, "/v1/enrollments") is None


print(json.dumps({shim.__name__: globals()[shim.__name__]() for shim in emulator.SHIMS}))
