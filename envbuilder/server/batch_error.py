"""Why a batch run cannot go on."""


class BatchFailedError(Exception):
    """A run that cannot go on."""


class InvalidBatchError(BatchFailedError):
    """A run that cannot go on as it was asked for, however often it is tried."""


class TooManyFailuresError(BatchFailedError):
    """More rows failed than may."""
