"""moto's interpreter of the Amazon States Language, changed to run step by step in virtual time.

moto contains LocalStack's interpreter. It has no JSONata engine, waits in real time and starts a
thread for each execution and each task. `install` replaces these places. It also corrects the
following, because AWS behaves differently:

- JSONata variables are bound as values. moto pastes them into the text of the expression, and a
  quotation mark in one of them breaks it.
- Neither Retry nor Catch matches `States.Runtime` and `States.DataLimitExceeded`. Source:
  https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
- The timestamp of a Wait is cut to whole seconds, and the Wait lasts until then. moto also cuts the
  duration, so that the Wait ends up to a second early. Source:
  https://docs.aws.amazon.com/step-functions/latest/dg/state-wait.html
- `states:startExecution` has the names of its arguments and its answer as in the definition, as on
  AWS. moto passes them to boto3 unchanged.
"""

import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import jsonata
from jsonata.utils import Utils
from moto.stepfunctions.parser.api import (
    EvaluationFailedEventDetails,
    HistoryEventType,
    StateMachineType,
)
from moto.stepfunctions.parser.asl.component.common.error_name.error_equals_decl import (
    ErrorEqualsDecl,
)
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import (
    FailureEvent,
    FailureEventException,
)
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import (
    StatesErrorName,
)
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import (
    StatesErrorNameType,
)
from moto.stepfunctions.parser.asl.component.common.retry.max_attempts_decl import (
    MaxAttemptsOutcome,
)
from moto.stepfunctions.parser.asl.component.common.retry.retrier_decl import RetrierDecl
from moto.stepfunctions.parser.asl.component.common.retry.retrier_outcome import RetrierOutcome
from moto.stepfunctions.parser.asl.component.common.string.string_expression import StringJSONata
from moto.stepfunctions.parser.asl.component.eval_component import EvalComponent
from moto.stepfunctions.parser.asl.component.program.program import Program
from moto.stepfunctions.parser.asl.component.state.exec import execute_state
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import (
    state_task_service_aws_sdk,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_callback import (  # noqa: E501
    StateTaskServiceCallback,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_sfn import (  # noqa: E501
    StateTaskServiceSfn,
)
from moto.stepfunctions.parser.asl.component.state.wait.wait_function.timestamp import Timestamp
from moto.stepfunctions.parser.asl.component.state.wait.wait_function.wait_function import (
    WaitFunction,
)
from moto.stepfunctions.parser.asl.eval.callback.callback import (
    CallbackEndpoint,
    CallbackOutcome,
    CallbackOutcomeTimedOut,
)
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.asl.eval.evaluation_details import (
    AWSExecutionDetails,
    EvaluationDetails,
    ExecutionDetails,
    StateMachineDetails,
)
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.asl.utils.encoding import to_json_str
from moto.stepfunctions.parser.backend.execution_worker import ExecutionWorker
from moto.stepfunctions.parser.backend.execution_worker_comm import ExecutionWorkerCommunication

# Nobody can catch them on AWS.
TERMINAL = ("States.Runtime", "States.DataLimitExceeded")
_parse = lru_cache(AmazonStateLanguageParser.parse)

type Json = dict[str, Any]


@dataclass(frozen=True)
class Ways:
    """How the interpreter calls its surroundings. Each is called in the execution's own thread.

    Args:
        start: starts an execution: its ARN, and the function that runs it to its end.
        stop: called when the execution of this ARN was stopped.
        invoke: invokes a Lambda function: the execution's ARN, the function's name, its event as
            JSON text. Returns the answer of Lambda's Invoke, with `Payload` as a JSON value.
        wait: lets so many seconds pass in the execution of this ARN, for a Wait state, before a
            retry or for a task token.
        wake: ends such a wait of the execution of this ARN now.
        client: a boto3 client of a service, for tasks that call AWS.
    """

    start: Callable[[str, Callable[[], None]], None]
    stop: Callable[[str], None]
    invoke: Callable[[str, str, str], Json]
    wait: Callable[[str, float], None]
    wake: Callable[[str], None]
    client: Callable[[str], Any]


def install(ways: Ways) -> Callable[[], None]:  # noqa: PLR0915  one place for all replacements
    """Let moto's interpreter use these functions, until the returned function is called."""
    replaced: list[tuple[Any, str, Any]] = []

    def replace(owner: Any, name: str, new: Any) -> None:
        replaced.append((owner, name, getattr(owner, name)))
        setattr(owner, name, new)

    def undo() -> None:
        while replaced:
            setattr(*replaced.pop())

    def start(worker: Any) -> None:
        arn = worker._evaluation_details.execution_details.arn
        ways.start(arn, worker._execution_logic)

    def stop(worker: Any, stop_date: Any, error: str | None, cause: str | None) -> None:
        worker.env.set_stop(stop_date=stop_date, cause=cause, error=error)
        # moto's own thread does this once it notices the stop.
        Program._eval_body(None, worker.env)  # type: ignore[arg-type]
        worker._execution_communication.terminated()
        ways.stop(worker._evaluation_details.execution_details.arn)

    def invoke(env: Environment, parameters: Json, region: str, state_credentials: Any) -> None:  # noqa: ARG001
        answer = ways.invoke(
            _arn(env), parameters["FunctionName"].rpartition(":")[2], parameters["Payload"].decode()
        )
        if answer.get("FunctionError"):
            if answer["Payload"]["errorType"].startswith("States."):
                failure = answer["Payload"]
                raise _failed(env, failure["errorType"], failure["errorMessage"])
            text = json.dumps(answer["Payload"], separators=(",", ":"), ensure_ascii=False)
            raise lambda_eval_utils.LambdaFunctionErrorException(answer["FunctionError"], text)
        env.stack.append(answer)

    def wait(_: WaitFunction, env: Environment, wait_seconds: float) -> None:
        ways.wait(_arn(env), wait_seconds)

    def wait_for_token(
        _: Any, *, env: Environment, timeout_seconds: float, callback_endpoint: Any, **__: Any
    ) -> Any:
        if callback_endpoint.get_outcome() is None:
            callback_endpoint.arn = _arn(env)
            ways.wait(callback_endpoint.arn, timeout_seconds)
            callback_endpoint.arn = None
        timed_out = CallbackOutcomeTimedOut(callback_id=callback_endpoint.callback_id)
        return callback_endpoint.get_outcome() or timed_out

    def notify(endpoint: Any, outcome: CallbackOutcome) -> None:
        endpoint._outcome = outcome
        if getattr(endpoint, "arn", None):
            ways.wake(endpoint.arn)

    def retry(retrier: Any, env: Environment) -> None:
        _retry(retrier, env, lambda seconds: ways.wait(_arn(env), seconds))

    replace(ExecutionWorker, "start", start)
    replace(ExecutionWorker, "stop", stop)
    # Reading the definition takes half a second, and moto does it for each execution.
    replace(AmazonStateLanguageParser, "parse", staticmethod(_parse))
    replace(Program, "eval", _run)
    # moto writes out the whole definition for each error here. The history has the same content.
    replace(EvalComponent, "_log_failure_event_exception", lambda *_, **__: None)
    replace(EvalComponent, "_log_exception", lambda *_, **__: None)
    replace(execute_state, "Thread", _Inline)
    replace(lambda_eval_utils, "execute_lambda_function_integration", invoke)
    replace(WaitFunction, "_wait_interval", wait)
    replace(StateTaskServiceCallback, "_eval_wait_for_task_token", wait_for_token)
    replace(CallbackEndpoint, "notify", notify)
    # moto makes a client for each call, which takes longer than the call.
    replace(
        state_task_service_aws_sdk, "boto_client_for", lambda service, **_: ways.client(service)
    )
    replace(Timestamp, "_get_wait_seconds", _seconds_until)
    replace(StateTaskServiceSfn, "_normalise_parameters", _as_boto3_says)
    replace(StateTaskServiceSfn, "_normalise_response", _as_definitions_say)
    replace(RetrierDecl, "_eval_body", retry)
    replace(StringJSONata, "_eval_body", _evaluate)
    replace(ErrorEqualsDecl, "_eval_body", _matches(ErrorEqualsDecl._eval_body))
    return undo


def execute(
    definition: str,
    arn: str,
    given: Any,
    invoke: Callable[[str, str], Json],
    client: Callable[[str], Any],
) -> Any:
    """Execute a definition to its end, in the calling thread, without moto's AWS services.

    Args:
        definition: the definition as text.
        arn: the ARN of the execution.
        given: the input of the execution.
        invoke: invokes a Lambda function: its name, its event as JSON text. Returns Invoke's
            answer.
        client: a boto3 client of a service.

    Returns:
        The last state's output; if that is a Fail state, its input. Waits take no time.
    """
    _, _, _, region, account, _, machine, name = arn.split(":", 7)
    worker: Any = ExecutionWorker(
        EvaluationDetails(
            AWSExecutionDetails(account, region, role_arn=""),
            ExecutionDetails(arn, name, "", given, datetime.now(UTC).isoformat()),
            StateMachineDetails("", machine, StateMachineType.STANDARD, definition),
        ),
        _NobodyAsks(),
        cloud_watch_logging_session=None,
        activity_store={},
    )
    undo = install(
        Ways(
            start=lambda *_: None,
            stop=lambda *_: None,
            invoke=lambda _, function, event: invoke(function, event),
            wait=lambda *_: None,
            wake=lambda *_: None,
            client=client,
        )
    )
    try:
        worker._execution_logic()
    finally:
        undo()
    return worker.env.states.get_input()


class _NobodyAsks(ExecutionWorkerCommunication):
    """moto notifies its execution of the worker's end here. There is no execution to notify."""

    def terminated(self) -> None:
        pass


class _Inline:
    """Replaces the thread that moto gives each task, to time it by a clock that stands still."""

    def __init__(self, target: Callable[[], None], **_: Any) -> None:
        self.start = target


def _run(program: Program, env: Environment) -> None:
    """Program.eval, in the calling thread."""
    env.next_state_name = program.start_at.start_at_name
    EvalComponent.eval(program, env)


def _arn(env: Environment) -> str:
    return str(env.states.context_object.context_object_data["Execution"]["Id"])


@lru_cache(maxsize=1_000)
def _compiled(expression: str) -> jsonata.Jsonata:
    return jsonata.Jsonata(expression)


def _value(expression: str, bound: dict[str, Any]) -> Any:
    """The value of an expression now.

    jsonata-python takes $millis() and $now() from the expression that was compiled last, and that
    may have been evaluated long ago: this one is compiled once.
    """
    compiled = _compiled(expression)
    jsonata.Jsonata.CURRENT.jsonata = compiled
    return compiled.evaluate(None, bound)


@lru_cache(maxsize=1_000)
def _parts(expression: str) -> frozenset[str]:
    """The parts of `$states` that an expression names; all of them where it names none of them."""
    named = re.findall(r"\$states(?:\.(\w+))?", expression)
    every = frozenset(("input", "context", "result", "errorOutput"))
    return every if "" in named else frozenset(named)


def _evaluate(string: StringJSONata, env: Environment) -> None:
    """Source: https://docs.aws.amazon.com/step-functions/latest/dg/transforming-data.html."""
    variables = {**env.variable_store._outer_scope, **env.variable_store._inner_scope}
    # As JSON, because the context contains moto's own objects. Only what the expression names,
    # because writing and reading all of it takes a tenth of a run.
    data: Any = env.states._states_data
    parts = _parts(string.expression)
    states = {one: json.loads(to_json_str(data.get(one))) for one in parts}
    if "context" in states:
        for part, name in (("Execution", "StartTime"), ("State", "EnteredTime")):
            states["context"][part][name] = _as_aws_says(states["context"][part][name])
    bindings = {"states": states, **variables}
    bound = {name: Utils.NULL_VALUE if v is None else v for name, v in bindings.items()}
    try:
        result = _value(string.expression, bound)
        missing = result is None and not _value(f"$exists({string.expression})", bound)
    except Exception as error:
        raise _not_evaluated(env, f"'{string.expression}': {error}") from error
    if missing:
        raise _not_evaluated(env, f"'{string.expression}' returned nothing (undefined).")
    # As JSON, because jsonata-python may return its own kind of list, or share its input.
    env.stack.append(json.loads(json.dumps(result)))


def _as_aws_says(moment: str) -> str:
    """A time as in AWS's context object: UTC, milliseconds, Z. moto writes `+00:00`."""
    text = datetime.fromisoformat(moment).astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _as_boto3_says(_: Any, parameters: Json, *__: Any) -> None:
    """Rename `states:startExecution` arguments as in boto3: `stateMachineArn`, input as text."""
    given = {f"{name[0].lower()}{name[1:]}": value for name, value in parameters.items()}
    parameters.clear()
    parameters |= {"name": str(uuid.uuid4()), **given}
    parameters["input"] = to_json_str(given.get("input", {}))


def _as_definitions_say(_: Any, response: Json, *__: Any, **___: Any) -> None:
    """Rename boto3's answer as in a definition: `ExecutionArn`."""
    said = {f"{name[0].upper()}{name[1:]}": value for name, value in response.items()}
    response.clear()
    response |= said


def _not_evaluated(env: Environment, why: str) -> FailureEventException:
    name = StatesErrorName(typ=StatesErrorNameType.StatesQueryEvaluationError)
    details: Any = {
        "evaluationFailedEventDetails": EvaluationFailedEventDetails(
            error=name.error_name, cause=f"The JSONata expression {why}"
        )
    }
    return FailureEventException(
        failure_event=FailureEvent(
            env=env,
            error_name=name,
            event_type=HistoryEventType.EvaluationFailed,
            event_details=details,
        )
    )


def _failed(env: Environment, error: str, cause: str) -> FailureEventException:
    """The failure of a task that Step Functions itself gave up, with one of its own names."""
    name = StatesErrorName(typ=StatesErrorNameType.from_name(error))
    kind = HistoryEventType.TaskFailed
    details: Any = {"taskFailedEventDetails": {"error": error, "cause": cause}}
    if error == "States.Timeout":
        kind = HistoryEventType.TaskTimedOut
        details = {"taskTimedOutEventDetails": {"error": error, "cause": cause}}
    failure = FailureEvent(env=env, error_name=name, event_type=kind, event_details=details)
    return FailureEventException(failure_event=failure)


def _matches(original: Callable[[Any, Environment], None]) -> Callable[[Any, Environment], None]:
    def matches(names: Any, env: Environment) -> None:
        terminal = env.stack[-1].error_name in TERMINAL
        original(names, env)
        env.stack[-1] = env.stack[-1] and not terminal

    return matches


def _seconds_until(timestamp: Timestamp, env: Environment) -> float:
    timestamp.string.eval(env)
    text = env.stack.pop()
    moment = timestamp._from_timestamp_string(text)
    if moment is None:
        raise FailureEventException(timestamp._create_failure_event(env, text))
    return max((moment.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds(), 0)


def _retry(retrier: Any, env: Environment, wait: Callable[[float], None]) -> None:
    """RetrierDecl._eval_body with our own `wait`, and without random numbers.

    The wait is the longest one that JitterStrategy FULL allows.
    """
    retrier.error_equals.eval(env)
    if not env.stack.pop():
        env.stack.append(RetrierOutcome.Skipped)
        return
    retrier.max_attempts.eval(env=env)
    if env.stack.pop() == MaxAttemptsOutcome.EXHAUSTED:
        env.stack.append(RetrierOutcome.Failed)
        return
    for part in ("interval_seconds", "backoff_rate", "max_delay_seconds"):
        getattr(retrier, part).eval(env=env)
    wait(env.stack.pop())
    env.stack.append(RetrierOutcome.Executed)
