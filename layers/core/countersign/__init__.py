"""Countersign: certificate signing requests that a quorum of people agreed to."""
