"""What can go wrong by a user's hand. Each message is one sentence: what is wrong, with the value, and the mend."""


class AthaError(Exception):
    """Base of all errors that a user can mend; the command line exits with code 2 on it."""

    def __str__(self) -> str:
        """In one line, whatever values are named in it; a long one without its middle."""
        line = " ".join(super().__str__().splitlines())
        return line if len(line) <= 1000 else f"{line[:700]} ... {line[-200:]}"


class DataError(AthaError):
    """Images, folders, tables or class names cannot be used as they are."""


class RecipeError(AthaError):
    """A recipe, or a ``key=value`` override of one, is not valid."""


class BackboneError(AthaError):
    """A backbone cannot be loaded, or cannot do what is asked of it."""


class AdapterError(AthaError):
    """A saved adapter cannot be read or written."""


class ExportError(AthaError):
    """A classifier cannot be exported as it is asked for."""


class TrainingError(AthaError):
    """Training cannot go on."""


def reason(error: BaseException) -> str:
    """What another library's error says, short enough for a sentence of ours: its first line, or its name."""
    lines = str(error).strip().splitlines() or [""]
    first = lines[0].strip().rstrip(".:")
    # torch puts what it means below a heading.
    if first.startswith("Error(s) in loading state_dict") and len(lines) > 1:
        first = lines[1].strip().rstrip(".")
    return first[:300] or type(error).__name__


def is_fault(error: BaseException) -> bool:
    """Whether it says that code has failed. Panics of libraries in Rust do, and are no `Exception`."""
    return not isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit)


class AthaWarning(UserWarning):
    """Something a user should know, that does not stop the work."""
