"""What can be wrong with a clip, as typed errors; all of them are `ValueError`s."""


class ClipError(ValueError):
    """A clip that cannot be used as asked. The message names the file, what was found, what is accepted, the remedy."""

    @classmethod
    def about(cls, source: str, *, found: str, accepted: str, remedy: str) -> "ClipError":
        """Make the error in the wording that all clip errors share."""
        return cls(f"{source}: found {found}; accepted is {accepted}. {remedy}")


class UnreadableMediaError(ClipError):
    """Missing, empty, damaged or foreign file, or one that claims what no recording has."""


class MissingVideoError(ClipError):
    """No pictures, and they were asked for."""


class MissingAudioError(ClipError):
    """No sound track, and it was asked for."""


class MissingFaceError(ClipError):
    """No face in any frame."""


class SilentAudioError(ClipError):
    """A sound track in which nothing is heard."""


class EmptyClipError(ClipError):
    """Zero length, or nothing left of what was asked for."""


class ClipTooLongError(ClipError):
    """More than fits into the result that was asked for, or than any recording lasts."""
