"""Derive random seeds from names, e.g. of a trial."""

from __future__ import annotations

import hashlib


def derive(*parts: object) -> int:
    """A seed (63 bits) from the text of its arguments: ``derive(study_seed, "explore", method, block, i)``."""
    digest = hashlib.blake2b("\x1f".join(str(p) for p in parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
