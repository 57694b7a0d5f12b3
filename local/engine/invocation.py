"""A Lambda function that runs in this process: its real handler, and the faults ordered for it.

It pauses before every call to AWS or the TSB, so that others may move. A fault is ordered for one
invocation of a function: the next one whose event contains a text (mostly an enrollment's id).

- `{"kind": "die", "when": "before" | "after"}`: its process ends before or after the work.
- `{"kind": "hang", "when": …}`: it does not end, so Lambda kills it at its timeout.
- `{"kind": "error", "name": "Lambda.Unknown", "when": …}`: Step Functions gets this error name.
- `{"kind": "twice"}`: the event is delivered twice, and both invocations run at once.
- `{"kind": "aws", "operation": "PutItem", "skip": 0, "when": …}`: one call of an AWS service fails,
  after `skip` other calls of its kind. It is refused before or after it is executed, or it is
  executed twice (`"repeat"`: as the SDK does if the first answer was lost), or it is answered with
  a failed entry (`"entry"`: as PutEvents refuses). `code` is the error's, if given.
- `{"kind": "refused", "path": "/v1/key"}`: the first call to that path finds the TSB's port closed.
- `{"kind": "listen"}`: nothing fails; the calls to AWS are recorded in order.

`next_fault` is the fault of the call that the invocation is about to make, whatever call that is:
`before`, `after` or `repeat` of an AWS call; of a call to the TSB one of `TSB_FAULTS`.
"""

import importlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError

from local.engine.clock import CALL_SECONDS
from local.engine.schedule import FOR_EVER, Process, Schedule

# What may become of a call to the TSB. The first two are not executed.
TSB_FAULTS = (
    "refused",  # the TSB's port is closed
    "page",  # something in front of the TSB answers 404 with a page of its own
    "dropped",  # executed, but the connection ends without an answer
    "unreadable",  # executed, but the answer is HTML with status 200
    "repeat",  # executed twice
    "late",  # the function's read time-out passes, then the TSB executes the call
)

type Json = dict[str, Any]


@dataclass
class AwsCall:
    """A call to AWS as boto3 makes it, and the error's code; empty if it succeeded."""

    service: str
    operation: str
    parameters: Json
    error: str = ""


@dataclass
class Order:
    """A fault for one invocation, and whether it has happened."""

    function: str
    text: str
    fault: Json
    taken: bool = False
    struck: bool = False
    calls: list[str] = field(default_factory=list)


class FunctionFailedError(Exception):
    """The failure of an invocation, as Lambda or Step Functions reports it: name and message."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
        self.message = message


LOST = FunctionFailedError("Lambda.Unknown", "the answer got lost")


class Invocation(Process):
    """One invocation of a function.

    Attributes:
        number: the port of its connection. It distinguishes its calls to the TSB from other calls.
        calls: its calls so far: `PutItem`, `POST /v1/key`.
        aws_calls: those to AWS, in full.
        event: its event, as JSON text.
    """

    def __init__(
        self,
        schedule: Schedule,
        function: str,
        event: str,
        *,
        number: int,
        timeout: float,
        order: Order | None = None,
    ) -> None:
        self.function, self.number = function, number
        self.calls: list[str] = []
        self.aws_calls: list[AwsCall] = []
        self.event = event
        self._clock = schedule.clock
        self._deadline = schedule.clock.now + timeout
        self._timeout = timeout
        self._order = order
        self._fault: Json = order.fault if order else {"kind": "none"}
        self._skip = self._fault.get("skip", 0)
        self.next_fault = ""
        self.answers: list[Any] = []  # to its calls
        super().__init__(schedule, f"{function} {number}", self._handle)

    # The function's own thread ----------------------------------------------------------------

    def pause(self, at: str, seconds: float = 0) -> None:
        """As `Process.pause`, but Lambda kills the function at its timeout."""
        left = self._deadline - self._clock.now
        super().pause(at, min(seconds, left))
        if seconds >= left:
            self.kill(
                FunctionFailedError(
                    "Sandbox.Timedout",
                    f"RequestId: {self.number} Error: Task timed out after {self._timeout:.2f}"
                    " seconds",
                )
            )
            self.vanish()

    def aws(self, made: AwsCall, call: Callable[[], Any]) -> Any:
        """A call to AWS, executed normally or with the ordered fault."""
        self.aws_calls.append(made)
        self.calls.append(made.operation)
        self.pause(made.operation)
        self._clock.advance(CALL_SECONDS)
        try:
            answer = self._answer(self._when(made.operation), made.operation, call)
        except ClientError as error:
            made.error = error.response["Error"]["Code"]
            raise
        self.answers.append(answer)
        return answer

    def _answer(self, when: str, operation: str, call: Callable[[], Any]) -> Any:
        if not when:
            return call()
        if when == "entry":
            entry = {"ErrorCode": "InternalFailure", "ErrorMessage": "by command"}
            return {"FailedEntryCount": 1, "Entries": [entry]}
        if when == "repeat":
            call()
            self.pause(f"{operation} again")
            return call()
        if when == "after":
            call()
        code = self._fault.get("code", "InternalServerError")
        raise _client_error(code, "by command", operation)

    def tsb(self, method: str, path: str) -> str:
        """Called before a call to the TSB; returns one of `TSB_FAULTS`, or an empty text."""
        self.calls.append(f"{method} {path}")
        self.pause(f"{method} {path}")
        self._clock.advance(CALL_SECONDS)
        refused = (
            self._fault["kind"] == "refused"
            and not (self._order and self._order.struck)
            and path.startswith(self._fault["path"])
        )
        if refused:
            self._strike()
        return "refused" if refused else self._take_fault()

    def _handle(self) -> Any:
        self._befall("before")
        module = importlib.import_module(f"functions.{_snake(self.function)}")
        context = SimpleNamespace(
            function_name=self.function,
            memory_limit_in_mb=512,
            invoked_function_arn=f"arn:aws:lambda:::function:{self.function}",
            aws_request_id=str(self.number),
            get_remaining_time_in_millis=lambda: (self._deadline - self._clock.now) * 1_000,
        )
        result = json.dumps(module.handler(json.loads(self.event), context))
        if self._order and self._fault["kind"] == "listen":
            self._order.calls = [one for one in self.calls if " " not in one]
            self._strike()
        self._befall("after")
        self.pause("its return")
        return json.loads(result)

    def _befall(self, when: str) -> None:
        if self._fault.get("when") != when:
            return
        kind = self._fault["kind"]
        if kind == "die":
            self._strike()
            raise FunctionFailedError(
                "Runtime.ExitError", "Error: Runtime exited with error: signal: killed"
            )
        if kind == "error":
            self._strike()
            raise FunctionFailedError(self._fault["name"], "by command")
        if kind == "hang":
            self._strike()
            self.pause("for ever", FOR_EVER)

    def _when(self, operation: str) -> str:
        """How this call to AWS fails; empty if it does not."""
        if self._fault["kind"] == "aws" and operation == self._fault["operation"]:
            self._skip -= 1
            if self._skip == -1:
                self._strike()
                return str(self._fault["when"])
        return self._take_fault()

    def _take_fault(self) -> str:
        fault, self.next_fault = self.next_fault, ""
        return fault

    def _strike(self) -> None:
        if self._order:
            self._order.struck = True

    # The caller -------------------------------------------------------------------------------

    def kill(self, error: FunctionFailedError | None = None) -> None:
        """End it wherever it is. No further line of it is run."""
        message = "Error: Runtime exited with error: signal: killed"
        self.end(error or FunctionFailedError("Runtime.ExitError", message))

    def lose(self) -> None:
        """Give its caller `Lambda.Unknown` while it goes on."""
        self.is_lost = True

    def answer(self) -> Json:
        """The answer of Lambda's Invoke.

        Raises:
            ClientError: an error of Lambda's own.
        """
        if self.error is None and not self.is_lost:
            return {"StatusCode": 200, "ExecutedVersion": "$LATEST", "Payload": self.result}
        error = LOST if self.is_lost else self.error
        name, message = type(error).__name__, str(error)
        if isinstance(error, FunctionFailedError):
            name, message = error.name, error.message
        if name.startswith("Lambda."):
            raise _client_error(name.removeprefix("Lambda."), message, "Invoke")
        failure = {"errorMessage": message, "errorType": name, "stackTrace": []}
        return {"StatusCode": 200, "FunctionError": "Unhandled", "Payload": failure}


def _client_error(code: str, message: str, operation: str) -> ClientError:
    answer: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": 500, "RequestId": "by-command"},
    }
    return ClientError(answer, operation)


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
