"""The reason that an exception has, for a message of one sentence."""


def reason_of(error: BaseException) -> str:
    """Returns the first line of an error's message without its final period, or the error's class if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
