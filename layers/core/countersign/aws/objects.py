"""The bucket: what was asked, what TSB answered, what was issued."""

from typing import Any

from botocore.exceptions import ClientError

from countersign.aws.clients import client, named_errors

MAX_ANSWERS = 20  # kept for one state; more is a loop, and the first ones tell the story


class Objects:
    """Objects below `enrollments/<id>/`, written once and never over another."""

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket

    def put_once(self, key: str, body: bytes, content_type: str) -> str | None:
        """Write an object that must not exist, or that must be this one.

        Idempotent: an object there with the same content counts as written.

        Returns:
            Its version id (of a bucket with versioning).

        Raises:
            FileExistsError: another object lies there; it stays.
            AwsCallError: S3 refused or was silent.
        """
        version, there = self._put(key, body, content_type)
        if there != body:
            raise FileExistsError(key)
        return version

    def keep_first(
        self, key: str, body: bytes, content_type: str = "application/octet-stream"
    ) -> bytes:
        """Write an object, or find what was written there before: the first one counts.

        Idempotent: whoever comes again, with whatever, gets the first.

        Returns:
            The object's content as it stands.

        Raises:
            AwsCallError: S3 refused or was silent.
        """
        return self._put(key, body, content_type)[1]

    def keep_answer(self, enrollment_id: str, state: str, raw: str) -> None:
        """Keep TSB's answer as it came, as `tsb/<state>-<n>.json`: evidence cannot be made later.

        Idempotent: an answer that is there already is not written again.
        """
        for number in range(1, MAX_ANSWERS + 1):
            key = f"enrollments/{enrollment_id}/tsb/{state}-{number}.json"
            _, there = self._put(key, raw.encode(), "application/json")
            if there == raw.encode():
                return

    def _put(self, key: str, body: bytes, content_type: str) -> tuple[str | None, bytes]:
        """The version and content of what lies there now."""
        with named_errors(f"writing {key}"):
            try:
                answer: Any = client("s3").put_object(
                    Bucket=self.bucket,
                    Key=key,
                    Body=body,
                    ContentType=content_type,
                    ChecksumAlgorithm="SHA256",
                    IfNoneMatch="*",
                )
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") != "PreconditionFailed":
                    raise
                answer = client("s3").get_object(Bucket=self.bucket, Key=key)
                return answer.get("VersionId"), answer["Body"].read()
        return answer.get("VersionId"), body
