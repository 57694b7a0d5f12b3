"""The tests' side of the emulator's workers: what goes wrong inside a function, by command.

Executed in each worker, on an interpreter that has boto3 only. A command is a file
`<state>--<text>--<number>` in a folder: it befalls that state's function once, when its event
contains the text. Its content is JSON:

- `{"kind": "die", "when": "before" | "after"}`: the process ends, having done the work or not.
- `{"kind": "hang", "when": …}`: it does not end, and Lambda kills it at its timeout.
- `{"kind": "twice"}`: the handler runs twice at once, as after a repeated delivery.
- `{"kind": "aws", "operation": "PutItem", "skip": 0, "when": …}`: that call of an AWS service,
  after so many others of its kind, is refused before it is executed or after, is executed twice
  (`"repeat"`: what the SDK does when the first answer got lost), or is answered with a failed entry
  (`"entry"`: how PutEvents refuses).
- `{"kind": "refused", "path": "/v1/key"}`: the first call of that path finds TSB's port closed.
- `{"kind": "listen"}`: nothing goes wrong; the calls of AWS services are noted, in their order.

Whatever has befallen the function leaves a file `<command>.struck` beside the folder, so that a
test knows that it was not spared.
"""

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

KILL = 9
FOR_EVER = 3600
CLOSED_PORT = 1


def strike_and_handle(folder, handler, event, context, *, function, line):
    """Run the handler with whatever has been ordered for it."""
    fault = _ordered(folder, function, line)
    if fault is None:
        return handler(event, context)
    kind = fault["kind"]
    if kind in BETWEEN:
        with BETWEEN[kind](fault):
            return handler(event, context)
    if kind == "twice":
        _tell(fault)
        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(handler, event, context) for _ in range(2)]
        return both[1].result()
    if fault["when"] == "after":
        handler(event, context)
    _tell(fault)
    if kind == "hang":
        time.sleep(FOR_EVER)
    os.kill(os.getpid(), KILL)
    return None


def _ordered(folder, function, line):
    for file in sorted(os.listdir(folder)):
        state, text = file.split("--")[:2]
        if state + "Function" in function and text in line:
            path = os.path.join(folder, file)
            try:
                with open(path) as order:
                    content = order.read()
                os.unlink(path)  # whoever removes it is the one
            except FileNotFoundError:
                continue
            return {**json.loads(content), "confirmedAt": f"{folder}/../{file}.struck"}
    return None


def _tell(fault, text=""):
    with open(fault["confirmedAt"], "w") as told:
        told.write(text)


class _Aws:
    """Between boto3's clients and their services, for the length of one invocation."""

    def __init__(self, fault):
        self._fault = fault
        self._skip = fault.get("skip", 0)
        self._lock = threading.Lock()

    def __enter__(self):
        from botocore.client import BaseClient
        from botocore.exceptions import ClientError

        self._call = call = BaseClient._make_api_call
        fault = self._fault

        def faulty(client, operation, arguments):
            if not self._is_hit(operation):
                return call(client, operation, arguments)
            _tell(fault)
            if fault["when"] == "entry":
                entry = {"ErrorCode": "InternalFailure", "ErrorMessage": "by command"}
                return {"FailedEntryCount": 1, "Entries": [entry]}
            if fault["when"] == "repeat":
                call(client, operation, arguments)
                return call(client, operation, arguments)
            if fault["when"] == "after":
                call(client, operation, arguments)
            said = {"Error": {"Code": "InternalServerError", "Message": "by command"}}
            raise ClientError({**said, "ResponseMetadata": {"HTTPStatusCode": 500}}, operation)

        BaseClient._make_api_call = faulty

    def __exit__(self, *_):
        from botocore.client import BaseClient

        BaseClient._make_api_call = self._call

    def _is_hit(self, operation):
        with self._lock:
            if operation != self._fault["operation"]:
                return False
            self._skip -= 1
            return self._skip == -1


class _Listen:
    """Beside boto3's clients."""

    def __init__(self, fault):
        self._fault = fault
        self._made = []

    def __enter__(self):
        from botocore.client import BaseClient

        self._call = call = BaseClient._make_api_call

        def noting(client, operation, arguments):
            self._made.append(operation)
            return call(client, operation, arguments)

        BaseClient._make_api_call = noting

    def __exit__(self, *_):
        from botocore.client import BaseClient

        BaseClient._make_api_call = self._call
        _tell(self._fault, " ".join(self._made))


class _Refused:
    """Between the TSB client and the network: the kernel itself refuses the connection."""

    def __init__(self, fault):
        self._fault = fault
        self._left = 1

    def __enter__(self):
        import requests

        self._send = send = requests.adapters.HTTPAdapter.send

        def faulty(adapter, request, **more):
            if self._left and request.path_url.startswith(self._fault["path"]):
                self._left -= 1
                _tell(self._fault)
                existing = requests.compat.urlsplit(request.url)
                closed = existing._replace(netloc=f"{existing.hostname}:{CLOSED_PORT}")
                request.url = closed.geturl()
            return send(adapter, request, **more)

        requests.adapters.HTTPAdapter.send = faulty

    def __exit__(self, *_):
        import requests

        requests.adapters.HTTPAdapter.send = self._send


BETWEEN = {"aws": _Aws, "listen": _Listen, "refused": _Refused}
