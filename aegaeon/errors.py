"""The one exception a user's mistake may raise: a message, never a traceback."""


class UserError(Exception):
    """A configuration, trace, profile or request that cannot be used.

    The message names the file or key, says what was expected and what to do. The command line
    prints it alone and exits with code 2.
    """
