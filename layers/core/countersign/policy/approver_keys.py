"""Whether an approver's key can approve, and whether others could approve with it.

TSB takes RSA, EC and Ed25519 keys of approvers, and DSA keys, of which nobody makes new ones. It
compares keys byte for byte, so each key has one encoding. Source: TSB documentation, approvals;
NIST SP 800-131A for the sizes.
"""

import math
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from countersign.policy.certificates import approver_public_key
from countersign.spki import approver_spki, der

MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
MIN_EC_BITS = 224
# A modulus has no small factor unless somebody gave it one.
SMALL_PRIMES = math.prod(
    number
    for number in range(2, 2_000)
    if all(number % divisor for divisor in range(2, math.isqrt(number) + 1))
)


@lru_cache(maxsize=1024)
def unfit(kind: str, value: str) -> str | None:
    """Why an approver must not be asked by this key; None: they can be.

    Args:
        kind: `public_key` or `certificate`.
        value: as in `spki.approver_der`.

    Raises:
        ValueError: it is no public key or certificate at all.
    """
    spki = der(approver_public_key(kind, value))
    key = load_der_public_key(spki)
    if isinstance(key, rsa.RSAPublicKey):
        fault = _rsa_fault(key)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        small = key.key_size < MIN_EC_BITS
        fault = f"is on {key.curve.name}, which is too small" if small else None
    elif isinstance(key, ed25519.Ed25519PublicKey):
        fault = None
    else:
        fault = "is of a kind that cannot approve"
    if fault is None and spki != approver_spki(kind, value):
        fault = "has an unusual encoding, which TSB might repeat in another"
    return fault


def _rsa_fault(key: rsa.RSAPublicKey) -> str | None:
    numbers = key.public_numbers()
    if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        return f"has {key.key_size} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted"
    if math.gcd(numbers.n, SMALL_PRIMES) > 1:
        return "has a modulus with a small factor: anybody can find the private key"
    if numbers.e <= 1 or numbers.e % 2 == 0:
        return f"has the exponent {numbers.e}, with which anybody can sign"
    return None
