"""The stack's signing key: anybody can verify its signatures with its public key."""

import hashlib

from countersign.aws.clients import client, named_errors


class SigningKey:
    """An asymmetric KMS key (NIST P-256). Its private key never leaves KMS."""

    def __init__(self, arn: str) -> None:
        self._arn = arn

    def sign(self, content: bytes) -> bytes:
        """An ECDSA signature (DER) over the SHA-256 of `content`. It differs each time.

        Raises:
            AwsCallError: KMS refused or did not answer.
        """
        with named_errors("signing with the stack's signing key"):
            # Send the digest: KMS signs messages of at most 4,096 bytes.
            answer = client("kms").sign(
                KeyId=self._arn,
                Message=hashlib.sha256(content).digest(),
                MessageType="DIGEST",
                SigningAlgorithm="ECDSA_SHA_256",
            )
        signature: bytes = answer["Signature"]
        return signature

    def public_key(self) -> bytes:
        """The public key (DER SPKI) that verifies its signatures.

        Raises:
            AwsCallError: KMS refused or did not answer.
        """
        with named_errors("reading the public key of the stack's signing key"):
            public: bytes = client("kms").get_public_key(KeyId=self._arn)["PublicKey"]
        return public
