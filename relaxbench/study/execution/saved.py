"""The content of a checkpoint file: a trial on its way, and the stamp that says which trial of which study it is.

A file may be left by another life of its database: a backup was restored, or a copy was extended otherwise, and the
same number now is another trial. A checkpoint is used only where its stamp is that of the trial, and where an older
claim wrote it.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from typing import Any, cast

import torch
from torch import Tensor

from relaxbench.store.facts import Manifest
from relaxbench.store.schema import Trial
from relaxbench.training.ledger import Ledger
from relaxbench.training.trial import Checkpoint

HEAD = b"relaxbench checkpoint 2\n"
"""How a file begins; then the digest of the rest, 32 bytes."""


class UnusableCheckpointError(Exception):
    """Raised for a checkpoint that is not used; the message says why."""


def stamp_of(trial: Trial, manifest: Manifest) -> dict[str, Any]:
    """Describe a trial: its place in the plan, its seed and params, and a digest of what it is trained by."""
    place = {key: getattr(trial, key) for key in ("problem", "method", "phase", "block", "number", "seed", "params")}
    identity, engine = manifest["identity"], manifest["engines"][trial.problem]
    problem, method = identity["problems"][trial.problem], identity["methods"][trial.method]
    what = {
        "problem": {key: value for key, value in problem.items() if key not in ("file", "text")},
        "method": {**method, "options": method["options"].get(trial.problem)},
        "engine": {key: engine[key] for key in ("path", "device", "dtype", "precision", "threads")},
    }
    text = json.dumps(what, sort_keys=True)
    return {**place, "identity": hashlib.sha256(text.encode()).hexdigest()}


def pack(checkpoint: Checkpoint, stamp: dict[str, Any], claim: int) -> bytes:
    """Return the content of a file.

    Args:
        checkpoint: the trial.
        stamp: see `stamp_of`.
        claim: token of the claim that writes it.
    """
    file = io.BytesIO()
    torch.save({"stamp": stamp, "claim": claim, "checkpoint": dict(checkpoint)}, file)
    content = file.getvalue()
    return HEAD + hashlib.sha256(content).digest() + content


def unpack(data: bytes, stamp: dict[str, Any], claim: int) -> Checkpoint:
    """Return the checkpoint of a file.

    Args:
        data: content of the file.
        stamp: of the trial that is to go on.
        claim: token of its present claim.

    Raises:
        UnusableCheckpointError: if the file is damaged, or is not that of this trial.
    """
    digest, content = data[len(HEAD) : len(HEAD) + 32], data[len(HEAD) + 32 :]
    if not data.startswith(HEAD):
        raise UnusableCheckpointError("is not one of this version")
    if hashlib.sha256(content).digest() != digest:
        raise UnusableCheckpointError("is damaged")
    try:
        found = torch.load(io.BytesIO(content), weights_only=True)
        known, written, checkpoint = found["stamp"], found["claim"], found["checkpoint"]
    except Exception as error:  # torch.load raises many kinds
        raise UnusableCheckpointError("is damaged") from error
    if known != stamp or not isinstance(written, int):
        raise UnusableCheckpointError("belongs to another trial, or to another problem, method or engine")
    if written >= claim:
        raise UnusableCheckpointError("belongs to a later state of the database, which was restored since")
    if not _is_whole(checkpoint):
        raise UnusableCheckpointError("is damaged")
    return cast(Checkpoint, checkpoint)


def _is_whole(value: Any) -> bool:
    """Whether a value has the form of a `Checkpoint`; whether it fits the problem is seen by the population."""
    if not isinstance(value, dict) or value.keys() != Checkpoint.__annotations__.keys():
        return False
    state, ledger, curve, reached = value["state"], value["ledger"], value["curve"], value["reached"]
    return (
        isinstance(state, dict)
        and all(isinstance(rows, Tensor) for rows in state.values())
        and isinstance(value["done"], int)
        and value["done"] >= 0
        and isinstance(ledger, dict)
        and ledger.keys() == Ledger().as_dict().keys()
        and all(isinstance(bill, (int, float)) and math.isfinite(bill) and bill >= 0 for bill in ledger.values())
        and isinstance(curve, list)
        and all(isinstance(row, list) and len(row) == 5 for row in curve)
        and all(isinstance(number, (int, float)) for row in curve for number in row)
        and (reached is None or isinstance(reached, (int, float)))
    )
