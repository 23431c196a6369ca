"""Whether another installation writes to the media from which an archive is restored: it may still run, and two would write to one medium."""

from __future__ import annotations

from hornetmail.archive.media.medium import Medium, MediumAway, told
from hornetmail.archive.media.writer import Writer
from hornetmail.compose.setting_up.setup import SetupError


class Written:
    """``here``: this installation. What blocks belongs in threads."""

    def __init__(self, here: Writer) -> None:
        self.here = here

    def writer_of(self, medium: Medium) -> str:
        """Which other installation writes there, for people; ``""``: none. A mirror is only read. Raises MediumError."""
        held = medium.writer() if medium.number else None
        return told(held) if held is not None else ""

    def refuse(self, medium: Medium, take_over: bool) -> None:
        """Raises SetupError: another one writes there, and it was not said that it ended; MediumError."""
        other = self.writer_of(medium)
        if other and not take_over:
            raise SetupError(
                f"another installation writes to medium {medium.number} at {medium.where} ({other}), and has not said that it ended: stop it (SIGTERM, until it is gone) and repeat this; "
                "or, if it is lost for good and never starts again, restore with --take-over"
            )

    def become(self, medium: Medium, take_over: bool) -> None:
        """From now on this installation writes there. One that is away is left as it is. Raises SetupError, MediumError."""
        try:
            self.refuse(medium, take_over)
            medium.take_over()
        except MediumAway:
            return
