"""The one kind of error that a user can mend."""


class UserError(ValueError):
    """A file, an option or a machine is not as a run needs it, and the message says what to do.

    The command line prints it as one line, without traceback. Any other exception is a bug and keeps its traceback.
    """
