"""The bucket: requests, TSB's answers, and issued CSRs."""

import hashlib
from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from countersign.aws.clients import client, named_errors

MAX_ANSWERS = 20  # kept for one state; more answers mean a loop, and the first ones explain it


class Objects:
    """Objects of a bucket. No object is ever overwritten."""

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket

    def put_once(self, key: str, body: bytes, content_type: str) -> str | None:
        """Write an object, unless this very object exists.

        Idempotent: an existing object with the same content counts as written.

        Returns:
            Its version id (if the bucket has versioning).

        Raises:
            FileExistsError: another object exists under this key; it stays.
            AwsCallError: S3 refused or did not answer.
        """
        version, existing = self._put(key, body, content_type)
        if existing != body:
            raise FileExistsError(key)
        return version

    def keep_first(
        self, key: str, body: bytes, content_type: str = "application/octet-stream"
    ) -> bytes:
        """Write an object, or read the one written before: the first one counts.

        Idempotent: every later call gets the first content, whatever it wants to write.

        Returns:
            The content that is stored now.

        Raises:
            AwsCallError: S3 refused or did not answer.
        """
        return self._put(key, body, content_type)[1]

    def keep_answer(
        self, enrollment_id: str, state: str, raw: str, *, decides: bool = False
    ) -> None:
        """Keep TSB's answer unchanged, as `tsb/<state>-<n>.json`: it cannot be fetched later.

        Where all numbers are taken, by whomever, an answer that decides is named for its SHA-256.

        Idempotent: an answer that exists is not written again.

        Args:
            enrollment_id: whose it is.
            state: the state that asked.
            raw: the answer.
            decides: whether an end may rest on it; then it is kept however many there are.
        """
        body = raw.encode()
        prefix = f"enrollments/{enrollment_id}/tsb/{state}-"
        for number in range(1, MAX_ANSWERS + 1):
            if self._put(f"{prefix}{number}.json", body, "application/json")[1] == body:
                return
        if decides:
            self._put(f"{prefix}{hashlib.sha256(body).hexdigest()}.json", body, "application/json")

    def read(self, key: str) -> bytes | None:
        """An object's content as it is now; None if there is no object.

        Raises:
            AwsCallError: S3 refused or did not answer.
        """
        with named_errors(f"reading {key}"):
            try:
                return self._get(key)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") != "NoSuchKey":
                    raise
        return None

    def below(self, prefix: str) -> dict[str, bytes]:
        """All objects below a prefix, by the rest of their key."""
        with named_errors(f"reading {prefix}"):
            return {key.removeprefix(prefix): self._get(key) for key in self._keys(prefix)}

    def _keys(self, prefix: str) -> Iterator[str]:
        # Without the SDK's paginator: the first one takes 5 ms of each cold start (botocore 1.44.5
        # looks through all of its data files for it), and most folders are one page.
        place: dict[str, Any] = {"Bucket": self.bucket, "Prefix": prefix}
        is_truncated = True
        while is_truncated:
            page = client("s3").list_objects_v2(**place)
            yield from (one["Key"] for one in page.get("Contents", ()))
            place["ContinuationToken"] = page.get("NextContinuationToken")
            is_truncated = place["ContinuationToken"] is not None

    def _put(self, key: str, body: bytes, content_type: str) -> tuple[str | None, bytes]:
        """The version and the content of the object that is stored now."""
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

    def _get(self, key: str) -> bytes:
        content: bytes = client("s3").get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return content
