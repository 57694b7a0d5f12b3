# /// script
# requires-python = "==3.13.*"
# dependencies = [
#     "aws-sam-translator==1.115.0",
#     "boto3>=1.43,<2",
#     "cryptography>=50,<51",
#     "ministack==1.5.33",
# ]
# ///
"""MiniStack on the loopback address, with what AWS does and MiniStack 1.5.33 does not.

Run by `local.stack` as a script with its own locked environment: SAM, MiniStack and the project pin
different botocores. Each function below is one shim: it says what AWS does and what MiniStack does,
and asserts what it patches. tests/e2e/test_shims.py fails when upstream no longer needs one.

Environment: GATEWAY_PORT; LAMBDA_PYTHON (an interpreter with boto3 only); LAMBDA_SLOTS.
"""

import contextlib
import contextvars
import hashlib
import inspect
import json
import os
import re
import threading
import uuid
import zipfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

DEFAULTS = {
    "BIND_HOST": "127.0.0.1",
    "MINISTACK_HOST": "127.0.0.1",
    # Otherwise it listens on every interface, whatever BIND_HOST says.
    "IOT_MTLS_ENABLED": "0",
    "SFTP_ENABLED": "0",
    # Verify signatures and enforce the functions' roles.
    "AUTH": "true",
}
for name, value in DEFAULTS.items():
    os.environ.setdefault(name, value)
os.environ.setdefault("MINISTACK_REGION", os.environ.get("AWS_DEFAULT_REGION", "eu-central-1"))

from ministack import app  # noqa: E402
from ministack.core import iam_actions, iam_evaluator, lambda_runtime  # noqa: E402
from ministack.core.responses import get_account_id  # noqa: E402
from ministack.services import (  # noqa: E402
    apigateway_v1,
    eventbridge,
    lambda_svc,
    sqs,
    stepfunctions,
)

TERMINAL = ("States.Runtime", "States.DataLimitExceeded")


def class_names() -> None:
    """AWS names a Python exception by its class; MiniStack says Runtime.HandlerError always.

    Start-up faults likewise: Runtime.ImportModuleError, Runtime.ExitError, … not RuntimeError.
    """
    script = lambda_runtime._PYTHON_WORKER_SCRIPT
    handler = '"error": str(e), "trace": traceback.format_exc()'
    init = '{"status": "error", "error": str(e)}'
    assert script.count(handler) == 1, "MiniStack changed: review"
    assert script.count(init) == 1, "MiniStack changed: review"
    lambda_runtime._PYTHON_WORKER_SCRIPT = script.replace(
        handler, handler + ', "type": type(e).__name__'
    ).replace(init, '{"status": "error", "error": type(e).__name__ + "|" + str(e)}')
    seen = threading.local()
    invoke, execute = lambda_runtime.Worker.invoke, lambda_svc._execute_function_warm

    def named_invoke(self, *args, **kwargs):
        response = invoke(self, *args, **kwargs)
        seen.type = response.get("type")
        return response

    def named_execute(func, event, request_id):
        seen.type = None
        result = execute(func, event, request_id)
        if not result.get("error"):
            return result
        body, config = result["body"], func.get("config") or func
        message = str(body.get("errorMessage"))
        if body.get("errorType") == "Runtime.HandlerError" and seen.type:
            body["errorType"] = seen.type
        elif message.startswith("Worker init failed: "):
            kind, _, text = message.removeprefix("Worker init failed: ").partition("|")
            body.update(_init_error(kind, text, config["Handler"].rpartition(".")[0]))
        elif message == "Worker process died":
            body.update(errorType="Runtime.ExitError", errorMessage="Runtime exited")
        body.setdefault("requestId", request_id)
        return result

    lambda_runtime.Worker.invoke = named_invoke
    lambda_svc._execute_function_warm = named_execute


def surviving_workers() -> None:
    """AWS goes on with a worker whose handler has raised; MiniStack kills it and starts another."""
    script, raised = lambda_runtime._PYTHON_WORKER_SCRIPT, '{"status": "error", "error": str(e), "t'
    assert script.count(raised) == 1, "MiniStack changed: review"
    lambda_runtime._PYTHON_WORKER_SCRIPT = script.replace(
        raised, '{"status": "ok", "raised": True, "error": str(e), "t'
    )
    invoke = lambda_runtime.Worker.invoke

    def invoke_and_keep(self, *args, **kwargs):
        response = invoke(self, *args, **kwargs)
        return {**response, "status": "error"} if response.get("raised") else response

    lambda_runtime.Worker.invoke = invoke_and_keep


def _init_error(kind: str, text: str, module: str) -> dict[str, str]:
    if kind in ("ImportError", "ModuleNotFoundError"):
        text = f"Unable to import module '{module}': {text}"
        kind = "Runtime.ImportModuleError"
    elif kind == "SyntaxError":
        kind = "Runtime.UserCodeSyntaxError"
    elif kind == "AttributeError" and "has no attribute" in text:
        kind = "Runtime.HandlerNotFound"
    return {"errorType": kind, "errorMessage": text}


def capped_retries() -> None:
    """AWS honours a Retry's MaxDelaySeconds; MiniStack ignores it."""
    find = stepfunctions._find_matching_retrier

    def capped(retriers, error, counts):
        retrier, index = find(retriers, error, counts)
        if retrier and "MaxDelaySeconds" in retrier:
            delay = retrier.get("IntervalSeconds", 1) * retrier.get("BackoffRate", 2.0) ** (
                counts.get(index, 0)
            )
            retrier = {
                **retrier,
                "IntervalSeconds": min(delay, retrier["MaxDelaySeconds"]),
                "BackoffRate": 1,
            }
        return retrier, index

    stepfunctions._find_matching_retrier = capped


def terminal_errors() -> None:
    """AWS neither retries nor catches these two; MiniStack's States.ALL matches them, too.

    Source: https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
    """
    matches = stepfunctions._error_matches

    def matches_others(names, error):
        return error not in TERMINAL and matches(names, error)

    stepfunctions._error_matches = matches_others


def callback_waits() -> None:
    """AWS evaluates a JSONata `TimeoutSeconds`; MiniStack compares the expression as it stands.

    MiniStack scales a Wait, so a wait for a task token is scaled as well: its time-out, and how
    long it seems to have lasted when somebody wakes it.
    """
    execute, assign = stepfunctions._execute_task, stepfunctions._apply_state_assign

    def is_callback(state):
        return ".waitForTaskToken" in state.get("Resource", "")

    def scaled(state, raw_input, execution, ctx):
        if is_callback(state) and isinstance(state.get("TimeoutSeconds"), str):
            seconds = stepfunctions._jsonata_state_field(
                state, "TimeoutSeconds", "number", raw_input, ctx
            )
            state = {**state, "TimeoutSeconds": seconds * stepfunctions._SFN_WAIT_SCALE}
        return execute(state, raw_input, execution, ctx)

    def as_long_as_it_seems(state, raw_input, ctx, result=None, error_output=None):
        if is_callback(state) and stepfunctions._SFN_WAIT_SCALE > 0:
            entered = datetime.fromisoformat(ctx["State"]["EnteredTime"])
            now = datetime.now(UTC)
            seemed = (now - entered) / stepfunctions._SFN_WAIT_SCALE
            moment = (now - seemed).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            ctx.setdefault("variables", {})
            ctx = {**ctx, "State": {**ctx["State"], "EnteredTime": moment}}
        assign(state, raw_input, ctx, result=result, error_output=error_output)

    stepfunctions._execute_task = scaled
    stepfunctions._apply_state_assign = as_long_as_it_seems


def idempotent_start() -> None:
    """AWS answers a repeated StartExecution (name, input, still running); MiniStack refuses it."""
    start = stepfunctions._start_execution

    def start_once(data):
        answer = start(data)
        if answer[0] == 400 and b"ExecutionAlreadyExists" in answer[2] and data.get("name"):
            arn = json.loads(answer[2])["message"].split("'")[1]
            running = stepfunctions._executions.get(arn)
            if running["status"] == "RUNNING" and running["input"] == data.get("input", "{}"):
                return stepfunctions.json_response(
                    {"executionArn": arn, "startDate": running["startDate"]}
                )
        return answer

    stepfunctions._start_execution = start_once


def universal_schedule() -> None:
    """AWS fills in a schedule's context attributes and starts executions by universal target.

    MiniStack drops the target and replaces nothing.
    """
    invoke = eventbridge._invoke_target
    target_arn = "arn:aws:scheduler:::aws-sdk:sfn:startExecution"

    def invoke_target(target, event, rule, view=None):
        if not str((rule or {}).get("Arn", "")).startswith("arn:aws:scheduler:"):
            return invoke(target, event, rule, view)
        text = target.get("Input", "{}")
        for attribute, value in {
            "schedule-arn": rule["Arn"],
            "execution-id": uuid.uuid4().hex[:16],
            "scheduled-time": _scheduled_time(rule),
            "attempt-number": "1",
        }.items():
            text = text.replace(f"<aws.scheduler.{attribute}>", value)
        if target.get("Arn") != target_arn:
            return invoke({**target, "Input": text}, event, rule, view)
        data = json.loads(text)
        return stepfunctions._start_execution({k[0].lower() + k[1:]: v for k, v in data.items()})

    eventbridge._invoke_target = invoke_target


def _scheduled_time(schedule: dict) -> str:
    """To the second, as AWS says it: of a one-time schedule its own time, else the present."""
    once = schedule["ScheduleExpression"].removeprefix("at(").removesuffix(")")
    with contextlib.suppress(ValueError):
        return f"{datetime.fromisoformat(once):%Y-%m-%dT%H:%M:%SZ}"
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def nested_failures() -> None:
    """AWS fails a `.sync` task with States.TaskFailed and the child's description as the Cause.

    MiniStack hands on the child's own error. Measured on AWS by others: the fields come in the
    order of the alphabet, those that the child has not are left out, dates are milliseconds.
    """

    def failure(child):
        output = json.loads(child.get("output") or "{}")
        described = {
            "Cause": child.get("cause") or output.get("Cause"),
            "Error": child.get("error") or output.get("Error"),
            "ExecutionArn": child["executionArn"],
            "Input": child["input"],
            "InputDetails": {"Included": True},
            "Name": child["name"],
            "RedriveCount": 0,
            "RedriveStatus": "REDRIVABLE",
            "StartDate": _milliseconds(child["startDate"]),
            "StateMachineArn": child["stateMachineArn"],
            "Status": child["status"],
            "StopDate": _milliseconds(child["stopDate"]),
        }
        described = {name: value for name, value in described.items() if value is not None}
        return "States.TaskFailed", json.dumps(described, separators=(",", ":"))

    known = stepfunctions._nested_execution_failure({"executionArn": "arn", "status": "FAILED"})
    assert known[1].startswith("Nested execution arn ended"), "MiniStack changed: review"
    stepfunctions._nested_execution_failure = failure


def nested_events() -> None:
    """AWS announces the status of executions that others wait for, too; MiniStack keeps silent."""
    emit = stepfunctions._emit_execution_status_event
    assert 'if execution.get("sync"):' in inspect.getsource(emit), "MiniStack changed: review"

    def emit_always(execution):
        emit({**execution, "sync": False})

    stepfunctions._emit_execution_status_event = emit_always


def _milliseconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1000)


def archives() -> None:
    """CloudFormation knows AWS::Events::Archive; MiniStack's refuses it, though its API has it."""
    from ministack.services.cloudformation import provisioners  # noqa: PLC0415

    def create(logical_id, props, stack_name):
        archive = props.get("ArchiveName") or f"{stack_name}-{logical_id}"[:48]
        request = {**props, "ArchiveName": archive, "EventSourceArn": props["SourceArn"]}
        if isinstance(request.get("EventPattern"), dict):
            request["EventPattern"] = json.dumps(request["EventPattern"])
        status, _, body = eventbridge._create_archive(request)
        if status >= 400:
            raise ValueError(body.decode())
        return archive, {"Arn": json.loads(body)["ArchiveArn"], "ArchiveName": archive}

    def delete(physical_id, props):
        eventbridge._delete_archive({"ArchiveName": physical_id})

    provisioners._RESOURCE_HANDLERS.setdefault(
        "AWS::Events::Archive", {"create": create, "delete": delete}
    )


def api_destinations() -> None:
    """AWS's CloudFormation makes connections and API destinations; MiniStack's refuses them."""
    from ministack.services.cloudformation import provisioners  # noqa: PLC0415

    def handlers(create, delete, arn_name):
        def made(logical_id, props, stack_name):
            name = props.get("Name") or f"{stack_name}-{logical_id}"[:64]
            status, _, body = create({**props, "Name": name})
            if status >= 400:
                raise ValueError(body.decode())
            return name, {"Arn": json.loads(body)[arn_name]}

        return {"create": made, "delete": lambda name, _: delete({"Name": name})}

    for kind, create, delete in (
        ("Connection", eventbridge._create_connection, eventbridge._delete_connection),
        (
            "ApiDestination",
            eventbridge._create_api_destination,
            eventbridge._delete_api_destination,
        ),
    ):
        provisioners._RESOURCE_HANDLERS.setdefault(
            f"AWS::Events::{kind}", handlers(create, delete, f"{kind}Arn")
        )


def api_extensions() -> None:
    """AWS reads binary media types and gateway responses from an API's OpenAPI body.

    MiniStack knows both, from calls of their own, and leaves them out where it reads the body.
    """
    read = apigateway_v1._import_rest_api
    assert "binary-media" not in inspect.getsource(apigateway_v1), "MiniStack changed: review"

    def read_all(spec, base_data=None):
        api_id = read(spec, base_data)
        types = spec.get("x-amazon-apigateway-binary-media-types", [])
        apigateway_v1._rest_apis[api_id]["binaryMediaTypes"] = types
        for kind, answer in spec.get("x-amazon-apigateway-gateway-responses", {}).items():
            status, _, body = apigateway_v1._put_gateway_response(api_id, kind, answer)
            assert status == 201, body
        return api_id

    apigateway_v1._import_rest_api = read_all


def role_boundaries() -> None:
    """CloudFormation gives a role its PermissionsBoundary; MiniStack's IAM knows it, that does not.

    Without it the functions' roles would reach further here than on AWS.
    """
    from ministack.services import iam  # noqa: PLC0415
    from ministack.services.cloudformation import provisioners  # noqa: PLC0415

    handlers = provisioners._RESOURCE_HANDLERS["AWS::IAM::Role"]
    create = handlers["create"]
    assert "PermissionsBoundary" not in inspect.getsource(create), "MiniStack changed: review"

    def create_bounded(logical_id, props, stack_name):
        answer = create(logical_id, props, stack_name)
        if props.get("PermissionsBoundary"):
            iam._roles[answer[0]]["PermissionsBoundary"] = props["PermissionsBoundary"]
        return answer

    handlers["create"] = create_bounded


def object_locks() -> None:
    """CloudFormation gives a bucket its Object Lock; MiniStack's S3 knows it, that does not."""
    from ministack.services import s3  # noqa: PLC0415
    from ministack.services.cloudformation import provisioners  # noqa: PLC0415

    handlers = provisioners._RESOURCE_HANDLERS["AWS::S3::Bucket"]
    create = handlers["create"]
    assert "ObjectLock" not in inspect.getsource(provisioners), "MiniStack changed: review"

    def create_locked(logical_id, props, stack_name):
        answer = create(logical_id, props, stack_name)
        if props.get("ObjectLockEnabled"):
            rule = props.get("ObjectLockConfiguration", {}).get("Rule", {})
            retention = rule.get("DefaultRetention")
            if retention:
                retention = {**retention, "Days": int(retention["Days"])}
            s3._bucket_object_lock[answer[0]] = {"enabled": True, "default_retention": retention}
        return answer

    handlers["create"] = create_locked


def metric_math() -> None:
    """CloudFormation knows alarms on an expression; MiniStack refuses them.

    Here such an alarm watches its first metric: alarms are the template's tests' to judge.
    """
    from ministack.services.cloudformation import provisioners  # noqa: PLC0415

    record = provisioners._cw_metric_alarm_record

    def record_first(name, props):
        if props.get("Metrics"):
            first = props["Metrics"][0]["MetricStat"]
            rest = {key: value for key, value in props.items() if key != "Metrics"}
            stat = {"Period": first["Period"], "Statistic": first["Stat"]}
            props = {**rest, **first["Metric"], **stat}
        return record(name, props)

    provisioners._cw_metric_alarm_record = record_first


def bus_policies() -> None:
    """CloudFormation knows AWS::Events::EventBusPolicy; MiniStack's refuses even one left out.

    Its bus keeps a policy and nobody is held to it: what the policy says is read by a unit test.
    """
    from ministack.services.cloudformation import provisioners  # noqa: PLC0415

    def create(logical_id, props, stack_name):
        bus, sid = props.get("EventBusName", "default"), props["StatementId"]
        policy = {"Version": "2012-10-17", **(eventbridge._event_bus_policies.get(bus) or {})}
        others = [one for one in policy.get("Statement", []) if one["Sid"] != sid]
        policy["Statement"] = [*others, {"Sid": sid, **props["Statement"]}]
        eventbridge._event_bus_policies[bus] = policy
        return f"{bus}|{sid}", {}

    def delete(physical_id, props):
        eventbridge._remove_permission(props)

    provisioners._RESOURCE_HANDLERS.setdefault(
        "AWS::Events::EventBusPolicy", {"create": create, "delete": delete}
    )


def moved_messages() -> None:
    """SQS moves a dead-letter queue's messages where they are told; MiniStack lacks the action."""
    assert "StartMessageMoveTask" not in sqs._HANDLERS, "MiniStack changed: review"

    def move(data, _url):
        queues = [sqs._queue_by_arn(data[name]) for name in ("SourceArn", "DestinationArn")]
        source, destination = queues
        for message in source["messages"]:
            destination["messages"].append({**message, "receive_count": 0, "visible_at": 0})
        source["messages"] = []
        sqs.esm_wake.set()
        return {"TaskHandle": uuid.uuid4().hex}

    sqs._HANDLERS["StartMessageMoveTask"] = move


def secure_loopback() -> None:
    """AWS's endpoints speak https; MiniStack speaks http on loopback, where nobody listens in.

    Its evaluator is right to deny by aws:SecureTransport, and our policies are right to demand it.
    """
    resolve = iam_evaluator._resolve_condition_key
    assert "aws:securetransport" in inspect.getsource(resolve), "MiniStack changed: review"

    def resolve_as_secure(key, ctx):
        return "true" if key.lower() == "aws:securetransport" else resolve(key, ctx)

    iam_evaluator._resolve_condition_key = resolve_as_secure


def mail_senders() -> None:
    """AWS asks IAM about the identity by which a mail is sent, and says the sender's address.

    MiniStack asks about `*` and says no ses:FromAddress: who may send as one sender may not send.
    Source: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonses.html
    """
    enforce = app._enforce_ses_v2
    assert "service_context" not in inspect.getsource(enforce), "MiniStack changed: review"

    def enforce_as_sender(method, path, headers, body, *rest):
        if path != "/v2/email/outbound-emails":
            return enforce(method, path, headers, body, *rest)
        sender, region = json.loads(body)["FromEmailAddress"], app.extract_region(headers, rest[0])
        identity = f"arn:aws:ses:{region}:{get_account_id()}:identity/{sender}"
        return app._enforce_data_plane(
            "sesv2",
            "ses:SendEmail",
            headers,
            *rest,
            resource_arn=identity,
            service_context={"ses:FromAddress": sender},
            named_resource=identity,
        )

    app._enforce_ses_v2 = enforce_as_sender


def event_keys() -> None:
    """AWS tells IAM an event's source and detail type; MiniStack tells neither.

    So a statement with ForAllValues, which holds for no value at all, would allow every event.
    Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-conditions.html
    """
    keys_of = iam_actions.request_tag_context

    def keys_with_event(service, action, body, params):
        keys = keys_of(service, action, body, params)
        if action != "events:PutEvents":
            return keys
        entries = json.loads(body)["Entries"]
        return {
            **keys,
            "events:detail-type": [one.get("DetailType") for one in entries],
            "events:source": [one.get("Source") for one in entries],
        }

    iam_actions.request_tag_context = keys_with_event


def bounded_workers() -> None:
    """AWS has room for a thousand workers; here each is a process with its own layers (50 MB)."""
    slots = threading.BoundedSemaphore(int(os.environ.get("LAMBDA_SLOTS", "3")))
    execute = lambda_svc._execute_function_warm

    def queued(func, event, request_id):
        with slots:
            return execute(func, event, request_id)

    lambda_svc._execute_function_warm = queued


def ready_workers() -> None:
    """AWS starts functions on as many machines as it takes; here the first call of each would wait.

    A worker of each function is started beside the deploy, which needs one core only. If that
    fails, the first call tries again and says why.
    """
    from ministack.services.cloudformation import provisioners  # noqa: PLC0415

    handlers = provisioners._RESOURCE_HANDLERS["AWS::Lambda::Function"]
    create = handlers["create"]
    one_at_a_time = ThreadPoolExecutor(1)

    def start(name, func):
        worker, reason = lambda_runtime.acquire_worker(name, func["config"], func["code_zip"])
        try:
            if reason == "spawn":
                lambda_runtime.ensure_spawned(worker)
        finally:
            lambda_runtime.release_worker(worker)

    def create_ready(logical_id, props, stack_name):
        answer = create(logical_id, props, stack_name)
        func = lambda_svc._functions[answer[0]]
        one_at_a_time.submit(contextvars.copy_context().run, start, answer[0], func)
        return answer

    handlers["create"] = create_ready


def shared_layers() -> None:
    """AWS mounts a layer that is unpacked already; MiniStack unpacks all for each worker anew.

    That takes it as long as everything else it does for a dozen enrollments.
    """
    spawn = inspect.getsource(lambda_runtime.Worker._spawn)
    assert spawn.count("zipfile.ZipFile(") == spawn.count(".extractall(") == 2, "review"
    one_at_a_time = threading.Lock()

    class UnpackedOnce:
        def __init__(self, path):
            self._path = path

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def namelist(self):
            return []  # for MiniStack to look through: ours name nothing outside of them

        def extractall(self, folder):
            digest = hashlib.sha256(Path(self._path).read_bytes()).hexdigest()
            unpacked = Path(self._path).parents[1] / "unpacked" / digest
            with one_at_a_time:
                if not unpacked.exists():
                    half = unpacked.with_suffix(".half")
                    with zipfile.ZipFile(self._path) as content:
                        content.extractall(half)
                    half.rename(unpacked)
            Path(folder).rmdir()
            Path(folder).symlink_to(unpacked)

    lambda_runtime.zipfile = SimpleNamespace(**{**vars(zipfile), "ZipFile": UnpackedOnce})


def clean_interpreter() -> None:
    """AWS's runtime has boto3 and nothing else; MiniStack's workers see all it is made of."""
    python = os.environ.get("LAMBDA_PYTHON")
    detect = lambda_runtime._detect_runtime_binary

    def detect_clean(runtime):
        binary, script = detect(runtime)
        return (python or binary) if runtime.startswith("python") else binary, script

    lambda_runtime._detect_runtime_binary = detect_clean


def api_hosts() -> None:
    """AWS serves a REST API at a host name of its own; MiniStack knows those below its own only."""
    ours = re.escape(".execute-api.") + r"(?:[a-z0-9-]+\.amazonaws\.com|"
    pattern = app._EXECUTE_API_RE.pattern
    assert pattern.count(r"\.execute-api\.") == 1, "MiniStack changed: review"
    assert pattern.endswith(r"(?::\d+)?$"), "MiniStack changed: review"
    start, _, host = pattern.removesuffix(r"(?::\d+)?$").partition(r"\.execute-api\.")
    app._EXECUTE_API_RE = re.compile(f"{start}{ours}{host})" + r"(?::\d+)?$")


def faulty_workers(folder: Path) -> None:
    """The tests' side: functions die, run twice, or are refused by AWS, when the folder says so."""
    script = lambda_runtime._PYTHON_WORKER_SCRIPT
    handled = "            result = handler_fn(event, context)\n"
    assert script.count(handled) == 1, "MiniStack changed: review"
    faults = str(Path(__file__).with_name("worker_faults.py"))
    lambda_runtime._PYTHON_WORKER_SCRIPT = (
        f"exec(compile(open({faults!r}).read(), {faults!r}, 'exec'))\n"
        + script.replace(
            handled,
            f"            result = strike_and_handle({str(folder)!r}, handler_fn, event, context, "
            "function=_function_name, line=line)\n",
        )
    )
    folder.mkdir(exist_ok=True)


SHIMS = (
    class_names,
    surviving_workers,
    capped_retries,
    terminal_errors,
    callback_waits,
    idempotent_start,
    universal_schedule,
    nested_failures,
    nested_events,
    archives,
    api_destinations,
    api_extensions,
    role_boundaries,
    object_locks,
    metric_math,
    bus_policies,
    moved_messages,
    secure_loopback,
    mail_senders,
    event_keys,
    bounded_workers,
    ready_workers,
    shared_layers,
    clean_interpreter,
    api_hosts,
)

if __name__ == "__main__":
    for shim in SHIMS:
        shim()
    faulty_workers(Path(os.environ["TMPDIR"]) / "faults")
    app.main()
