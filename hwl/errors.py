"""The one exception that `hwl` raises for anything a user can put right."""


class HwlError(Exception):
    """Bad input, told in one sentence that names the file, the entry and the remedy.

    The command line prints the message without a traceback and exits with status 1.
    """
