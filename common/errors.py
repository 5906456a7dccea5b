"""The error of a user's mistake: one sentence that says what was given, what is accepted and what to do."""


class UserError(ValueError):
    """A value, file or command that the user has to change; the command line prints its sentence and exits with 2.

    Any other exception is a bug of the project, and the command line shows its traceback.
    """
