"""The state of a whole stack as a short text: two stacks with the same one go on alike.

It holds everything that what follows depends on: the stores, the TSB, queues and events, and what
each process is about to do. Left out on purpose, so that more schedules meet again:

- times: only the order in which processes are due counts, and roughly how far apart they are;
- how often a state was retried (two faults exhaust no Retry), how often the same event was put on
  the bus, and how often the same answer of the TSB was kept;
- what a warm worker keeps (secrets, the answer of a profile), which is the same everywhere here.

Ids, keys, signatures and hashes differ in each run. They are numbered in the order in which they
appear, so that it still counts where two of them are equal.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from moto.dynamodb.models import dynamodb_backends
from moto.s3.models import FakeKey, s3_backends
from moto.sqs.models import sqs_backends

from local.engine.invocation import Invocation
from local.engine.network import Executed
from local.engine.resources import LISTENER
from local.engine.schedule import Process
from local.engine.stack import InProcessStack
from local.engine.surroundings import ACCOUNT, REGION

VOLATILE = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)|\b1[678]\d{8}(?:\d{3})?(?:\.\d+)?\b)"
    r"|-----BEGIN [A-Z ]+-----.*?-----END"
    r"|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|\b[0-9a-f]{64}\b|\b[0-9a-f]{32}\b|\b[0-9a-f]{16}\b"
    r"|[A-Za-z0-9+/]{60,}={0,2}",
    re.DOTALL,
)
NUMBERS = re.compile(r"\d+")
COARSE = re.compile(r'("(?:age|wait)Seconds": ?)(\d+)')  # in powers of two
SIZE = re.compile(r'"[sS]ize": ?\d+')  # of an object: signatures differ in length

type Piece = tuple[str, tuple[str, ...]]  # a text without what is volatile, and what was


class Fingerprints:
    """Makes fingerprints; keeps the pieces that it has read before."""

    def __init__(self, stack: InProcessStack) -> None:
        self._stack = stack
        self._pieces: dict[str, Piece] = {}
        self._kept: dict[int, tuple[Any, Piece]] = {}  # of what never changes, by its identity
        self._stores: tuple[int, list[Piece]] = (-1, [])  # and after how many writes

    def take(self, notes: object) -> bytes:
        """The fingerprint of the stack as it is.

        Args:
            notes: what the caller knows beside it, and what follows depends on.
        """
        order: dict[str, int] = {}
        digest = hashlib.blake2b(repr(notes).encode(), digest_size=16)
        for text, volatile in self._all():
            digest.update(text.encode())
            for one in volatile:
                digest.update(b"%d," % order.setdefault(one, len(order)))
        return digest.digest()

    def _all(self) -> Iterator[Piece]:
        if self._stores[0] != Executed.writes:
            self._stores = Executed.writes, list(self._in_stores())
        yield from self._stores[1]
        yield from self._tsb()
        for name, queue in sqs_backends[ACCOUNT][REGION].queues.items():
            for message in queue._messages if name != LISTENER else ():
                yield self._piece(f"{name} {message.visible} {message.body}")
        yield from dict.fromkeys(self._once(event, _event) for event in self._stack.events())
        now = self._stack.clock.now
        for process in sorted(self._stack.schedule.processes, key=lambda one: (one.due, one.turn)):
            if not process.ended:
                yield f"due {max(int(process.due - now), 0).bit_length()}", ()
                yield from self._process(process)
        for arn in self._stack.waits:
            yield self._piece(f"{arn} {self._stack.has_ended(arn)}")

    def _in_stores(self) -> Iterator[Piece]:
        for table in dynamodb_backends[ACCOUNT][REGION].tables.values():
            items: dict[str, Any] = table.items
            for name, item in sorted(items.items()):
                values = {key: one.to_regular_json() for key, one in item.attrs.items()}
                yield self._piece(f"item {name} {json.dumps(values, sort_keys=True)}")
        for name, bucket in s3_backends[ACCOUNT]["aws"].buckets.items():
            yield f"bucket {name}", ()
            yield from self._objects(bucket.keys)

    def _tsb(self) -> Iterator[Piece]:
        broker = self._stack.simulator.broker
        for key in (*broker.deleted, *broker.keys.values()):
            yield self._piece(f"{key.label} {key.deleted} {key.blocked} {id(key):032x}")
            held = hashlib.sha256(key.certificate or b"").hexdigest()
            yield self._piece(f"{key.certificate is None} {held}")
        for one in broker.requests.values():
            votes = [(vote.approver, vote.approves) for vote in one.votes]
            asked = f"{one.id} {one.kind} {broker.assess(one)} {votes} {len(one.tasks)}"
            yield self._piece(f"{asked} {id(one.key):032x}")

    def _process(self, process: Process) -> Iterator[Piece]:
        at = NUMBERS.sub("", self._piece(process.at)[0])
        yield f"{type(process).__name__} {at} {process.is_movable} {process.is_lost}", ()
        if isinstance(process, Invocation):
            yield self._piece(f"{process.function} {process.event}")
            yield self._piece(f"{process.calls}")
            for answer in process.answers:
                yield self._once(answer, _answer)
        else:
            position = self._stack.position(process)
            yield self._piece(json.dumps(position, sort_keys=True, default=_coarse))

    def _objects(self, found: Any) -> Iterator[Piece]:
        answers = set()
        for name in found:
            one = found[name]
            if not isinstance(one, FakeKey):
                yield self._piece(name)
                continue
            piece = self._once(one, lambda one: _text(one.value))
            if "/tsb/" in name:
                answers.add((NUMBERS.sub("", self._piece(name)[0]) + piece[0], ()))
            else:
                yield self._piece(name)
                yield piece
        yield from sorted(answers)

    def _once(self, found: Any, text: Callable[[Any], str]) -> Piece:
        if id(found) not in self._kept:
            self._kept[id(found)] = found, self._piece(text(found))
        return self._kept[id(found)][1]

    def _piece(self, text: str) -> Piece:
        if text not in self._pieces:
            volatile: list[str] = []

            def named(match: re.Match[str]) -> str:
                if match["time"] is None:
                    volatile.append(match[0])
                return "_"

            sized = SIZE.sub("", text)
            coarse = COARSE.sub(lambda found: f"{found[1]}{int(found[2]).bit_length()}", sized)
            self._pieces[text] = VOLATILE.sub(named, coarse), tuple(volatile)
        return self._pieces[text]


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:  # a signature; its hash is as volatile
        return hashlib.sha256(content).hexdigest()


def _event(event: Any) -> str:
    return f"{event['detail-type']} {json.dumps(event['detail'], sort_keys=True)}"


def _coarse(value: object) -> str:
    return type(value).__name__


def _answer(answer: Any) -> str:
    if isinstance(answer, bytes):
        return _text(answer)
    if isinstance(answer, dict):
        kept = {name: one for name, one in answer.items() if name != "ResponseMetadata"}
        return json.dumps(kept, default=_coarse)
    return _coarse(answer)
