"""Runs each minute: wakes who waits for news at the TSB, and sees what is stuck. Not a state."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from countersign import reminders, waits, watch
from countersign.aws import executions, metrics, profiles, stack, tsb
from countersign.settings import settings

logger = Logger()


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    due = watch.watch_enrollments(
        scheduled=event.get("scheduledTime"),
        records=stack.records(),
        polling_settings=stack.polling_settings(),
        directory=lambda: profiles.profiles().directory,
        report=metrics.sighting,
        fractions=lambda profile: reminders.by_profile(profiles.profiles().get, profile),
    )
    # What needs neither TSB nor its secrets has been said. Here a missing secret ends the run.
    client = tsb.tsb(waits.TSB_TIMEOUT_SECONDS, report=False)
    metrics.expiring(watch.tls_days_left(stack.tls()))
    with ThreadPoolExecutor(waits.AT_ONCE) as pool:
        waits.wake_the_decided(
            records=stack.records(),
            ask=client.request_status,
            wake=executions.wake,
            limit=settings().watch_requests_per_minute,
            many=pool.map,
            pending=client.pending_requests,
            by_list=settings().watch_by_list,
            report=metrics.woken,
        )
    reminders.announce(due, records=stack.records(), ask=client.request_status, bus=stack.bus())
