"""The one exception that a user's mistake raises, and an error in one line."""


class UserError(Exception):
    """A configuration, trace, profile or request that cannot be used.

    The message names the file or key, what was expected, and what to do. The command line
    prints the message without a traceback and exits with code 2.
    """


def reason(error: Exception) -> str:
    """Return why a file could not be used, in one line that leaves the file's name out."""
    return getattr(error, "strerror", None) or first_line(error)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its repr if the message is empty."""
    return (str(error).strip() or repr(error)).splitlines()[0].strip()
