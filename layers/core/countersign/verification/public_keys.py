"""What a public key is, by its own bytes: kind, size and curve, whatever is claimed beside them.

Source: RFC 5280, 4.1.2.7; RFC 5480; RFC 8017; RFC 8410.
"""

from typing import NamedTuple

from countersign import der
from countersign.algorithms import CURVES
from countersign.der import DerError

EMPTY = der.write(der.NULL)
FIELD_BITS = {
    "P-224": 224,
    "P-256": 256,
    "P-384": 384,
    "P-521": 521,
    "secp256k1": 256,
    "brainpoolP256r1": 256,
    "brainpoolP384r1": 384,
    "brainpoolP512r1": 512,
}
SMALLEST_EXPONENT, LARGEST_EXPONENT_BITS = 65_537, 256  # FIPS 186-5, A.1.1
SMALL_PRIMES = tuple(
    one for one in range(3, 1000, 2) if all(one % other for other in range(3, 32, 2) if other < one)
)
ED25519_BYTES = 32


class PublicKey(NamedTuple):
    """What the bytes of a public key say.

    Args:
        algorithm: TSB's name: RSA, EC or ED.
        bits: of the modulus or of the curve's field.
        curve_oid: of an EC key.
    """

    algorithm: str
    bits: int
    curve_oid: str | None = None

    def __str__(self) -> str:
        """As people call it."""
        if self.algorithm == "ED":
            return "Ed25519"
        if self.curve_oid is not None:
            return f"EC {CURVES[self.curve_oid]}"
        return f"{self.algorithm} {self.bits}"


def read(spki: bytes) -> PublicKey:
    """What a DER SubjectPublicKeyInfo says, whatever stands beside it.

    Whether the point of an EC key is on its curve is not looked at.

    Raises:
        DerError: it is no key of these kinds, or one that nobody should use: an RSA modulus or
            exponent that no generator makes.
    """
    identifier, key = _two(der.element(spki, der.SEQUENCE).inside(der.SEQUENCE))
    match identifier.inside(der.SEQUENCE):
        case [first, *parameters]:
            algorithm = der.dotted(first.of(der.OID))
        case _:
            raise DerError("names no algorithm")
    content = der.bits(key.of(der.BIT_STRING))
    match algorithm, parameters:
        case "1.2.840.113549.1.1.1", [one] if one.whole == EMPTY:
            return PublicKey("RSA", _modulus(content).bit_length())
        case "1.2.840.10045.2.1", [one]:
            curve = der.dotted(one.of(der.OID))
            if curve not in CURVES:
                raise DerError(f"is on curve {curve}, which this product cannot read")
            return PublicKey("EC", FIELD_BITS[CURVES[curve]], curve)
        case "1.3.101.112", []:
            if len(content) != ED25519_BYTES:
                raise DerError("is no Ed25519 key of 32 bytes")
            return PublicKey("ED", ED25519_BYTES * 8)
        case _:
            raise DerError(f"is of algorithm {algorithm}, in a form that this product cannot read")


def _two(found: list[der.Element]) -> tuple[der.Element, der.Element]:
    if len(found) != 2:  # noqa: PLR2004
        raise DerError("is no public key")
    return found[0], found[1]


def _modulus(content: bytes) -> int:
    first, second = _two(der.element(content, der.SEQUENCE).inside(der.SEQUENCE))
    modulus = der.number(first.of(der.INTEGER))
    exponent = der.number(second.of(der.INTEGER))
    if not modulus % 2 or not all(modulus % prime for prime in SMALL_PRIMES):
        raise DerError("has an RSA modulus with a small factor")
    if not exponent % 2 or exponent < SMALLEST_EXPONENT:
        raise DerError("has an RSA exponent that is even or smaller than 65537")
    if exponent.bit_length() > LARGEST_EXPONENT_BITS:
        raise DerError("has an RSA exponent of more than 256 bits")
    return modulus
