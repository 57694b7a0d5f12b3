"""Saves time in botocore and moto on what no test checks: three quarters of a run otherwise.

The stores' content and answers stay the same: `tests/workflow/test_engine.py` compares.
"""

import json
from base64 import b64decode
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from io import BytesIO
from typing import Any

import jsonpath_ng.ext
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.response import StreamingBody
from moto import backend_index
from moto.core import responses
from moto.core.base_backend import BaseBackend
from moto.core.exceptions import JsonRESTError
from moto.core.utils import method_names_from_class
from moto.dynamodb.models.dynamo_type import DynamoType, LimitedSizeDict
from moto.dynamodb.parsing import validators
from moto.dynamodb.parsing.ast_nodes import (  # type: ignore[attr-defined]
    DepthFirstTraverser,
    Expression,
    Node,
    UpdateExpressionFunction,
)
from moto.dynamodb.parsing.expressions import UpdateExpressionParser  # type: ignore[attr-defined]
from moto.dynamodb.responses import DynamoHandler
from moto.events.models import events_backends
from moto.s3.models import FakeKey, s3_backends
from moto.secretsmanager.models import secretsmanager_backends
from moto.sqs.models import sqs_backends

from local.engine.surroundings import ACCOUNT, REGION

TABLE = ("GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "Scan")
OK: Any = {"HTTPStatusCode": 200}
SERVICES = (
    "dynamodb", "events", "kms", "s3", "secretsmanager", "sesv2", "sns", "sqs", "stepfunctions",
)  # fmt: skip

PUT = {"Bucket", "Key", "Body", "ContentType", "ChecksumAlgorithm", "IfNoneMatch"}
PAGE = 1_000

type Json = dict[str, Any]
type Put = Callable[[Any, str, Any], Any]


def take(put: Put) -> None:
    """Replace attributes with `put(owner, name, new)`, which remembers the old values."""
    # moto searches the service of a URL among two hundred, for each call.
    found = [one for one in backend_index.backend_url_patterns if one[0] in SERVICES]
    put(backend_index, "backend_url_patterns", found)
    # It reads its own URLs and methods again for each call.
    put(BaseBackend, "urls", property(cache(BaseBackend.urls.fget)))  # type: ignore[attr-defined]
    put(responses, "method_names_from_class", cache(method_names_from_class))
    # It creates a JSONPath parser for each event, although the paths are always the same.
    put(jsonpath_ng.ext, "parse", cache(jsonpath_ng.ext.parse))  # type: ignore[attr-defined]
    # It copies a value once for each level above it, and counts an item's bytes for each attribute
    # that is set.
    put(DynamoType, "__deepcopy__", _copied)
    put(DynamoType, "to_regular_json", _regular)
    put(LimitedSizeDict, "__setitem__", dict.__setitem__)
    # It parses the same few expressions for each call, and copies before it changes one.
    make = UpdateExpressionParser.make
    put(UpdateExpressionParser, "make", staticmethod(cache(make)))
    # Ten checks go through the tree of an update's expression, and ask each node three times what
    # it is. Its classes are abstract, and there Python's answer takes a microsecond.
    put(validators, "deepcopy", _copied_tree)
    put(DepthFirstTraverser, "traverse_node_recursively", _traversed)
    put(Node, "find_clauses", _clauses)


def _copied(value: DynamoType, memo: object) -> DynamoType:
    made = DynamoType.__new__(DynamoType)
    made.type, made.value = value.type, value.value
    if isinstance(value.value, dict):
        made.value = {name: _copied(one, memo) for name, one in value.value.items()}
    elif isinstance(value.value, list):
        made.value = [
            _copied(one, memo) if isinstance(one, DynamoType) else one for one in value.value
        ]
    return made


def _regular(value: DynamoType) -> Json:
    plain = value.value
    if isinstance(plain, dict):
        plain = {name: _regular(one) for name, one in plain.items()}
    elif isinstance(plain, list):
        plain = [_regular(one) if isinstance(one, DynamoType) else one for one in plain]
    elif value.is_binary() and isinstance(plain, str):
        plain = b64decode(plain)
    return {value.type: plain}


_is_kind: Callable[[type, tuple[type, ...]], bool] = cache(issubclass)


def _is(node: object, one_of: tuple[type, ...]) -> bool:
    return _is_kind(type(node), one_of)


def _copied_tree(node: Any, parent: Any = None) -> Any:
    if not _is(node, (Node,)):
        return node if isinstance(node, str) else deepcopy(node)
    made = object.__new__(type(node))
    made.__dict__ |= node.__dict__
    made.parent = parent
    if node.children is not None:
        made.children = [_copied_tree(one, made) for one in node.children]
    return made


def _traversed(traverser: Any, node: Any, child_id: int = -1, wanted: Any = None) -> Any:
    if not _is(node, (Node,)):
        return node
    wanted = traverser.nodes_to_be_processed() if wanted is None else wanted
    parent = node.parent
    for number, child in enumerate(node.children or ()):
        traverser.pre_processing_of_child(node, number)
        _traversed(traverser, child, number, wanted)
    if _is(node, wanted):
        node = traverser.process(node)
        node.parent = parent
        if parent:
            parent.children[child_id] = node
    return node


def _clauses(node: Any, kinds: list[type]) -> list[Any]:
    found = []
    for child in node.children or ():
        if type(child) in kinds:
            found.append(child)
        elif _is(child, (Expression, UpdateExpressionFunction)):
            found.extend(_clauses(child, kinds))
    return found


# The product's most frequent calls go to moto's stores directly, without HTTP ---------------------


def answer(  # noqa: PLR0911  one for each shortcut
    service: str, operation: str, parameters: Json
) -> Json | None:
    """The answer of a call to AWS; None for calls without a shortcut.

    Raises:
        ClientError: the service refuses.
    """
    match service, operation:
        case "dynamodb", _ if operation in TABLE:
            return _table(operation, parameters)
        case "s3", "PutObject" if set(parameters) <= PUT:
            return _put_object(parameters)
        case "s3", "GetObject" if set(parameters) == {"Bucket", "Key"}:
            return _get_object(parameters)
        case "s3", "ListObjectsV2" if set(parameters) <= {"Bucket", "Prefix"}:
            return _list_objects(parameters)
        case "events", "PutEvents":
            entries = events_backends[ACCOUNT][REGION].put_events(parameters["Entries"])
            failed = sum("ErrorCode" in one for one in entries)
            return {"FailedEntryCount": failed, "Entries": entries, "ResponseMetadata": OK}
        case "sqs", "ReceiveMessage" if set(parameters) <= {"QueueUrl", "MaxNumberOfMessages"}:
            return _receive(parameters["QueueUrl"], parameters.get("MaxNumberOfMessages", 1))
        case "secretsmanager", "GetSecretValue" if set(parameters) == {"SecretId"}:
            return _secret(parameters["SecretId"])
    return None


def _receive(url: str, most: int) -> Json:
    queues, name = sqs_backends[ACCOUNT][REGION], url.rpartition("/")[2]
    hidden_for = queues.get_queue(name).visibility_timeout  # type: ignore[attr-defined]
    messages = [
        {"MessageId": one.id, "ReceiptHandle": one.receipt_handle, "Body": one.body}
        for one in queues.receive_message(name, most, 0, hidden_for)
    ]
    return {**({"Messages": messages} if messages else {}), "ResponseMetadata": OK}


def _secret(name: str) -> Json | None:
    try:
        # moto's signature has no None, and its own caller passes it.
        value = secretsmanager_backends[ACCOUNT][REGION].get_secret_value(name, None, None)  # type: ignore[arg-type]
    except JsonRESTError:
        return None
    return {**value, "ResponseMetadata": OK}


def _table(operation: str, parameters: Json) -> Json:
    handler = DynamoHandler()
    handler.body = json.loads(json.dumps(parameters))
    handler.headers, handler.region, handler.current_account = {}, REGION, ACCOUNT
    try:
        result = getattr(handler, xform_name(operation))().result
    except JsonRESTError as error:
        said = json.loads(str(error.description))
        item = {"Item": said["Item"]} if "Item" in said else {}
        code = said["__type"].rpartition("#")[2]
        raise _refused(
            code, said.get("message") or said.get("Message", ""), operation, item
        ) from None
    return {**json.loads(json.dumps(result)), "ResponseMetadata": OK}


def _put_object(parameters: Json) -> Json:
    backend = s3_backends[ACCOUNT]["aws"]
    bucket, key = parameters["Bucket"], parameters["Key"]
    if "IfNoneMatch" in parameters and backend.get_object(bucket, key) is not None:
        raise _refused("PreconditionFailed", "It is there.", "PutObject", {}, 412)
    made = backend.put_object(bucket, key, parameters["Body"])
    if "ContentType" in parameters:
        made.set_metadata({"Content-Type": parameters["ContentType"]})
    return {"VersionId": made.version_id, "ETag": made.etag, "ResponseMetadata": OK}


def _get_object(parameters: Json) -> Json:
    found = s3_backends[ACCOUNT]["aws"].get_object(parameters["Bucket"], parameters["Key"])
    if not isinstance(found, FakeKey):
        raise _refused("NoSuchKey", "It is not there.", "GetObject", {}, 404)
    body = StreamingBody(BytesIO(found.value), len(found.value))
    return {"Body": body, "VersionId": found.version_id, "ResponseMetadata": OK}


def _list_objects(parameters: Json) -> Json | None:
    keys = s3_backends[ACCOUNT]["aws"].get_bucket(parameters["Bucket"]).keys
    found = [
        {"Key": name, "Size": keys[name].size}
        for name in sorted(keys)
        if name.startswith(parameters.get("Prefix", "")) and isinstance(keys[name], FakeKey)
    ]
    if len(found) > PAGE:
        return None
    listed = {"Contents": found} if found else {}
    return {**listed, "KeyCount": len(found), "IsTruncated": False, "ResponseMetadata": OK}


def _refused(code: str, message: str, operation: str, more: Json, status: int = 400) -> ClientError:
    meta = {"HTTPStatusCode": status, "RequestId": "in-process"}
    said: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": meta, **more}
    return ClientError(said, operation)
