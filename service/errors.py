"""Everything that can go wrong, in the words of the domain; nothing here knows HTTP.

    HourglassError
    ├── ConfigurationError            the server cannot start as it was asked to
    │   ├── DeviceUnavailableError    the wanted execution provider does not work here
    │   └── QuestionError             a command must be told what cannot be found out
    ├── PackageError                  a model on disk cannot be trusted or used
    ├── RequestError                  the sender can mend it
    │   ├── MalformedBodyError        bytes that do not parse
    │   ├── SlowRequestError          a head that did not come in time
    │   ├── LongTargetError           a path and query that are too long
    │   ├── LongHeadError             too many headers, or too long ones
    │   ├── UnauthorizedError         no key, or not one of ours
    │   ├── ForbiddenError            a key that is for something else
    │   ├── UnknownModelError         no such model or version
    │   ├── NotAcceptableError        no answer format that the client accepts
    │   ├── UnsupportedOperationError this model has no such operation, metric, layer or label
    │   ├── TooLargeError             over the byte, row or pixel limit
    │   ├── UnsupportedMediaError     unknown body type, or not one for this model
    │   └── InvalidRowsError          parsed, but not what the model takes
    ├── OverloadedError               the queue is full; says when to come back
    ├── UnavailableError              not ready, draining or not loaded
    ├── DeadlineExceededError         the client's or the server's deadline has passed
    ├── ClientGoneError               nobody is left to answer
    └── InferenceError                the model failed on rows that looked right
        ├── AllocationError           there was no memory for the run
        └── DeviceLostError           the device is gone until the process restarts

``service.api.errors`` holds the one table that maps these to status codes.
"""

from collections.abc import Sequence
from typing import Final, TypeVar

# of one request are named; whoever mends these will find the rest by sending it again
MAX_FAULTS: Final = 10


class HourglassError(Exception):
    """The root of the tree."""


class ConfigurationError(HourglassError):
    """The settings ask for something that this machine or these files cannot give."""


class DeviceUnavailableError(ConfigurationError):
    """The configured device cannot run a graph here."""


class QuestionError(ConfigurationError):
    """A command cannot find something out and must be told it."""


class PackageError(HourglassError):
    """A model package is incomplete, damaged or does not do what its manifest says."""


class RequestError(HourglassError):
    """The request is at fault.

    Args:
        detail: What is wrong, for the sender; never the data itself.
        row: Zero-based index of the first offending row, where one is to blame.
        expected: What would have been right.
        received: What came instead.

    Attributes:
        others: What else is wrong with the request, in the order of its rows.
        total: How many faults there are in all, where that is known.
    """

    others: tuple["RequestError", ...] = ()
    total: int | None = None

    def __init__(
        self,
        detail: str,
        *,
        row: int | None = None,
        expected: str | None = None,
        received: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.row = row
        self.expected = expected
        self.received = received


R = TypeVar("R", bound=RequestError)


def together(faults: Sequence[R], total: int | None = None) -> R:
    """Make one error of the *faults* of a request: the first of them, which names the others.

    To be raised as it is returned: a frame that still held *faults* would be part of a cycle
    with its own traceback, and keep the request's body until the next garbage collection.
    """
    first, *others = faults[:MAX_FAULTS]
    first.others = tuple(others)
    first.total = total
    return first


class MalformedBodyError(RequestError):
    """The bytes or headers cannot be parsed as what they claim to be."""


class SlowRequestError(RequestError):
    """The rest of a request did not come in time."""


class LongTargetError(RequestError):
    """Path and query are longer than any that the service knows."""


class LongHeadError(RequestError):
    """The headers are too many or too long."""


class UnauthorizedError(RequestError):
    """No API key was sent, or one that is not known."""


class ForbiddenError(RequestError):
    """The API key lacks the scope.

    Args:
        detail: What is wrong, for the sender.
        expected: Which scope it would take.
        key: Name of the key, for the log.
    """

    def __init__(self, detail: str, *, expected: str, key: str) -> None:
        super().__init__(detail, expected=expected)
        self.key = key


class UnknownModelError(RequestError):
    """No such model, or no such version of it."""


class NotAcceptableError(RequestError):
    """None of the formats in ``Accept`` can be given for this operation."""


class UnsupportedOperationError(RequestError):
    """The model exists but lacks the operation, metric, layer or label."""


class TooLargeError(RequestError):
    """A byte, row or pixel limit is exceeded."""


class UnsupportedMediaError(RequestError):
    """The Content-Type or Content-Encoding is unknown, or not for this model."""


class InvalidRowsError(RequestError):
    """The body parses but shape, dtype, values or options are wrong."""


class OverloadedError(HourglassError):
    """The queue is full.

    Args:
        detail: Which queue, and its limit.
        retry_after_s: When the queue is expected to have room.
    """

    def __init__(self, detail: str, *, retry_after_s: float) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class UnavailableError(HourglassError):
    """The model or the server does not serve at the moment.

    Args:
        detail: Why.
        retry_after_s: When asking again makes sense.
    """

    def __init__(self, detail: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class DeadlineExceededError(HourglassError):
    """The request's time is up, in the queue or during its run."""


class ClientGoneError(HourglassError):
    """The client closed the connection before its answer was ready."""


class InferenceError(HourglassError):
    """The model failed on these rows.

    Args:
        detail: What failed, without the runtime's own text (that goes to the log).
        row: Zero-based row of the request that causes it, where it was found.
    """

    def __init__(self, detail: str, *, row: int | None = None) -> None:
        super().__init__(detail)
        self.row = row


class AllocationError(InferenceError):
    """There was no memory for a run: fewer rows may fit, and the same ones another time.

    Attributes:
        retry_after_s: When asking again makes sense; batches end in less.
    """

    retry_after_s: Final = 1.0


class DeviceLostError(InferenceError):
    """An error after which the device answers nothing until the process restarts.

    Attributes:
        retry_after_s: When asking again makes sense; about as long as a process takes to come back.
    """

    retry_after_s: Final = 5.0
