"""What can go wrong, in sentences a person can act on.

Every message is one sentence: what is wrong, where, and what to do about it.  The exit code of the command line belongs to the
class, so that a refusal means the same wherever it is raised.
"""


class SuiteError(Exception):
    """An expected failure whose message is shown to the user as it is."""

    exit_code = 3


class DataRefused(SuiteError):
    """The data cannot give correct numbers (no time axis, no bolus, missing slices ...)."""

    exit_code = 1


class RequestRefused(SuiteError):
    """The request cannot be met: arguments, paths, permissions, masks that do not fit."""

    exit_code = 2


class Canceled(SuiteError):
    """The user stopped the work."""

    exit_code = 130
