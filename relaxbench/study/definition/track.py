"""The table ``[track]`` of a study file: the experiment tracker that gets the runs while the study goes on."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, ValidationError

from relaxbench.errors import UserError
from relaxbench.trackers.tracker import PROJECT, Destination, Which, check_destination


class Track(BaseModel):
    """A destination as a study file states it, see `trackers.tracker.Destination`."""

    model_config = ConfigDict(extra="forbid")
    to: str
    project: str = PROJECT
    runs: Which = "winners"
    where: str = ""

    @property
    def destination(self) -> Destination:
        """The same for the trackers."""
        return Destination(**self.model_dump())


def check_track(track: Track) -> None:
    """Check that the tracker exists; its library may be missing where a study is only read.

    Raises:
        UserError: naming the key and the nearest tracker.
    """
    try:
        check_destination(track.destination)
    except UserError as error:
        raise UserError(f"track: {error}") from None


def stored_destination(stored: Mapping[str, object] | None, study: str) -> Destination | None:
    """Return the destination of a stored study; None without one.

    Raises:
        UserError: for a table that this version cannot read.
    """
    if not stored:
        return None
    try:
        return Track.model_validate(stored).destination
    except ValidationError:
        raise UserError(f"study {study!r} has a table [track] that cannot be read: name the tracker", "to") from None
