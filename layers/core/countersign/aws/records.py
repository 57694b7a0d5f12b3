"""The table of enrollments and of label claims. Every write is conditional."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, cast

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from countersign.aws.clients import client, named_errors
from countersign.errors import AwsCallError
from countersign.record import Record
from countersign.stores import Item

SLOT_ROUNDS = 3  # a slot is lost to a rival only if the queue is new or has run empty

_serialize = TypeSerializer().serialize
_deserialize = TypeDeserializer().deserialize


class Records:
    """Items by id: an enrollment's, or `label#<label>` for the claim of a key label.

    A write whose condition does not hold changes nothing and returns the item as it is. A write
    that took place returns None. The SDK's retries are harmless: if our own first attempt made the
    condition false, the returned item is ours, and callers recognize it.
    """

    def __init__(self, table_name: str) -> None:
        self._table_name = table_name

    def get(self, item_id: str, *, consistent: bool = True) -> Record | None:
        """The item as it stands now, or None. Not consistent, it may be a second old, for half."""
        with named_errors(f"reading record {item_id}"):
            answer = client("dynamodb").get_item(
                TableName=self._table_name, Key=_key(item_id), ConsistentRead=consistent
            )
        return _item(answer.get("Item"))

    def newest(
        self,
        index: str,
        partition: Item,
        *,
        since: str,
        until: str,
        limit: int,
        after: Item | None = None,
    ) -> tuple[list[Record], Item | None]:
        """The items of an index's partition accepted between two moments, newest first.

        Args:
            index: its name; its sort key is `acceptedAt`.
            partition: the partition key and its value.
            since: first time (ISO 8601, UTC).
            until: last time.
            limit: how many items at most.
            after: where the previous page ended: `id` and `acceptedAt`.

        Returns:
            The items as the index has them, and where this page ended; None on the last page.
        """
        expression = _Expression()
        condition = (
            f"{expression.all_equal(partition)} AND {expression.name('acceptedAt')} BETWEEN"
            f" {expression.value(since)} AND {expression.value(until)}"
        )
        return self._page(
            index,
            partition,
            "acceptedAt",
            after,
            KeyConditionExpression=condition,
            ScanIndexForward=False,
            Limit=limit,
            **expression.arguments(),
        )

    def page(
        self, index: str, partition: Item, *, sort: str, limit: int, after: Item | None = None
    ) -> tuple[list[Record], Item | None]:
        """A page of an index's partition in the order of its sort key, and where it ended.

        Args:
            index: its name.
            partition: the partition key and its value.
            sort: the sort key.
            limit: how many items at most.
            after: where the previous page ended: `id` and the sort key.

        Returns:
            The items as the index has them, and where this page ended; None on the last page.
        """
        expression = _Expression()
        condition = expression.all_equal(partition)
        return self._page(
            index,
            partition,
            sort,
            after,
            KeyConditionExpression=condition,
            Limit=limit,
            **expression.arguments(),
        )

    def _page(
        self, index: str, partition: Item, sort: str, after: Item | None, **query: Any
    ) -> tuple[list[Record], Item | None]:
        start = {name: _serialize(value) for name, value in {**(after or {}), **partition}.items()}
        with named_errors(f"reading {index}"):
            answer = client("dynamodb").query(
                TableName=self._table_name,
                IndexName=index,
                **({"ExclusiveStartKey": start} if after else {}),
                **query,
            )
        last = _item(answer.get("LastEvaluatedKey"))
        ended = {name: last[name] for name in ("id", sort)} if last else None  # type: ignore[literal-required]
        return [_item(one) or Record() for one in answer["Items"]], ended

    def at_status(self, status: str) -> Iterator[Record]:
        """What the list shows of every enrollment with this status, oldest first."""
        expression = _Expression()
        pages = client("dynamodb").get_paginator("query")
        with named_errors(f"listing records at status {status}"):
            for page in pages.paginate(
                TableName=self._table_name,
                IndexName="ByStatus",
                KeyConditionExpression=expression.all_equal({"status": status}),
                **expression.arguments(),
            ):
                yield from (_item(one) or Record() for one in page["Items"])

    def take_slot(self, item_id: str, now: int, interval: int) -> int:
        """The next free slot of a queue in which each slot takes `interval`.

        Not idempotent: a repeated call takes another slot, and one stays unused.

        Args:
            item_id: the queue's item, created at first use; it holds the time of the next free
                slot.
            now: in milliseconds since 1970, like the result.
            interval: how long a slot takes, in milliseconds.
        """
        for _ in range(SLOT_ROUNDS):
            for moment, condition in (
                ("#next + :interval", "#next >= :now"),
                (":now + :interval", "attribute_not_exists(#next) OR #next < :now"),
            ):
                taken = self._taken(item_id, moment, condition, now, interval)
                if taken is not None:
                    return taken - interval
        raise AwsCallError(
            f"{item_id}: others were faster each time",
            action="Nothing; the state machine tries again.",
        )

    def _taken(
        self, item_id: str, moment: str, condition: str, now: int, interval: int
    ) -> int | None:
        with named_errors(f"taking a turn at {item_id}"):
            try:
                answer = client("dynamodb").update_item(
                    TableName=self._table_name,
                    Key=_key(item_id),
                    UpdateExpression=f"SET #next = {moment}",
                    ConditionExpression=condition,
                    ExpressionAttributeNames={"#next": "next"},
                    ExpressionAttributeValues={
                        ":now": _serialize(now),
                        ":interval": _serialize(interval),
                    },
                    ReturnValues="UPDATED_NEW",
                )
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") != "ConditionalCheckFailedException":
                    raise
                return None
        return int(answer["Attributes"]["next"]["N"])

    def put(self, item: Item, *, when: Item | None = None) -> Record | None:
        """Write a whole item: where there is none, or where the one there has the values `when`."""
        condition = _Expression()
        text = condition.all_equal(when) if when else "attribute_not_exists(id)"
        return self._write(
            f"claiming {item['id']}",
            client("dynamodb").put_item,
            Item={name: _serialize(value) for name, value in item.items()},
            ConditionExpression=text,
            **condition.arguments(),
        )

    def update(
        self,
        item_id: str,
        values: Item,
        *,
        when: Item | None = None,
        absent: tuple[str, ...] = (),
        remove: tuple[str, ...] = (),
    ) -> Record | None:
        """Set some attributes of an item that exists, and remove others.

        Args:
            item_id: its id.
            values: by attribute; a dot reaches into an existing map (`times.ended`).
            when: values that the item must have, by attribute.
            absent: attributes that it must not have.
            remove: attributes to delete.
        """
        expression = _Expression()
        sets = ", ".join(
            f"{expression.name(name)} = {expression.value(value)}" for name, value in values.items()
        )
        removes = ", ".join(expression.name(name) for name in remove)
        conditions = [
            "attribute_exists(id)",
            *([expression.all_equal(when)] if when else []),
            *(f"attribute_not_exists({expression.name(name)})" for name in absent),
        ]
        return self._write(
            f"updating record {item_id}",
            client("dynamodb").update_item,
            Key=_key(item_id),
            UpdateExpression=" ".join(
                f"{verb} {part}" for verb, part in (("SET", sets), ("REMOVE", removes)) if part
            ),
            ConditionExpression=" AND ".join(conditions),
            **expression.arguments(),
        )

    def delete(self, item_id: str, *, when: Item | None = None) -> None:
        """Delete an item, or only one that has the values `when`; else do nothing."""
        condition = _Expression()
        only = {"ConditionExpression": condition.all_equal(when)} if when else {}
        self._write(
            f"deleting {item_id}",
            client("dynamodb").delete_item,
            Key=_key(item_id),
            **only,
            **condition.arguments(),
        )

    def _write(self, doing: str, call: Any, **arguments: Any) -> Record | None:
        with named_errors(doing):
            try:
                call(
                    TableName=self._table_name,
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                    **arguments,
                )
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") != "ConditionalCheckFailedException":
                    raise
                existing: Any = error.response.get("Item")
                return _item(existing) or Record()
        return None


class _Expression:
    """Placeholders for names and values: any attribute name may be a reserved word."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._values: dict[str, Any] = {}

    def name(self, path: str) -> str:
        for part in path.split("."):
            self._names[f"#{part}"] = part
        return ".".join(f"#{part}" for part in path.split("."))

    def value(self, value: Any) -> str:
        placeholder = f":v{len(self._values)}"
        self._values[placeholder] = _serialize(value)
        return placeholder

    def all_equal(self, values: Item) -> str:
        return " AND ".join(
            f"{self.name(name)} = {self.value(value)}" for name, value in values.items()
        )

    def arguments(self) -> dict[str, Any]:
        arguments = {
            "ExpressionAttributeNames": self._names,
            "ExpressionAttributeValues": self._values,
        }
        return {name: value for name, value in arguments.items() if value}


def _key(item_id: str) -> dict[str, Any]:
    return {"id": {"S": item_id}}


def _item(raw: dict[str, Any] | None) -> Record | None:
    if not raw:
        return None
    # What the table holds is what this code wrote there.
    return cast(Record, {name: _plain(_deserialize(value)) for name, value in raw.items()})


def _plain(value: Any) -> Any:
    """The value without DynamoDB's Decimal: every number that we write is an integer."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return int(value) if isinstance(value, Decimal) else value
