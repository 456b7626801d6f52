"""Retries of requests to an unreachable store: for transient errors, for a limited time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

import aiohttp
import tenacity

from agent_scaling.data.shards.storage import Damaged
from agent_scaling.data.shards.threads import ENDED
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.secrets import mask

T = TypeVar("T")

PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotImplementedError)
NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")
"""Errors that botocore and google-auth raise for missing credentials."""
INVALID_NAME = ("ParamValidationError",)
"""Errors that botocore raises for an invalid bucket name."""
REFUSED = ("CERTIFICATE_VERIFY_FAILED", "Forbidden: ")
"""Texts of permanent errors that have no class of their own: Python's ssl, gcsfs at status 403."""
TOO_BUSY = (408, 425, 429)
"""Transient HTTP statuses below 500."""
LONGEST_PAUSE = 30.0
SAID_AFTER = 30.0
"""Seconds of waiting after which a warning is logged."""

logger = logging.getLogger(__name__)


class Cut(OSError):  # noqa: N818  # as Damaged
    """An answer whose length differs from the requested one."""


class Patience:
    """Retrier of transient failures, after random pauses that grow to 30 s.

    An unreachable store is retried for ``seconds``; one that answers with wrong bytes, for
    ``attempts``. Safe to share between threads.
    """

    def __init__(self, seconds: float, attempts: int, pause: float) -> None:
        """Set the limits; ``pause`` is the longest first pause, in seconds."""
        if seconds < 0:
            raise InputError(f"data.patience_minutes={seconds / 60:g}: must be at least 0")
        self.seconds, self.attempts = seconds, attempts
        self._wait = tenacity.wait_random_exponential(multiplier=pause, max=LONGEST_PAUSE)
        self._away = False
        self._lock = threading.Lock()

    def ask(self, where: str, request: Callable[[], T]) -> T:
        """Make the request until it succeeds, and return its result.

        Raises:
            Damaged: The last answer was damaged.
            InputError: The request failed for another reason; the message names ``where``.
        """
        ended, enough = ENDED.get(), self._wrong_answers()
        late = tenacity.stop_any(
            tenacity.stop_after_delay(self.seconds), tenacity.stop_when_event_set(ended)
        )
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(may_pass),
            wait=self._wait,
            stop=lambda state: late(state) or enough(state),
            sleep=tenacity.sleep_using_event(ended),
            before_sleep=lambda state: self._say(where, state),
            reraise=True,
        )
        try:
            answer = retrying(request)
        except Damaged:
            raise
        except Exception as error:  # each file system has errors of its own
            raise given_up(where, error, retrying.statistics) from None
        with self._lock:
            back, self._away = self._away, False
        if back:
            logger.warning("%s: answers again", where)
        return answer

    def _wrong_answers(self) -> Callable[[tenacity.RetryCallState], bool]:
        """Return a predicate that is True once a request has had too many wrong answers."""
        wrong = 0

        def enough(state: tenacity.RetryCallState) -> bool:
            nonlocal wrong
            assert state.outcome is not None
            wrong += isinstance(state.outcome.exception(), Damaged | Cut)
            return wrong >= self.attempts

        return enough

    def _say(self, where: str, state: tenacity.RetryCallState) -> None:
        """Log one warning for all threads, when one has waited for :data:`SAID_AFTER` seconds."""
        assert state.outcome is not None
        assert state.seconds_since_start is not None
        why, waited = state.outcome.exception(), state.seconds_since_start
        if waited < SAID_AFTER:
            return
        with self._lock:
            known, self._away = self._away, True
        if not known:
            logger.warning(
                "%s: no answer for %.0f s (%s); it is retried for %g minutes in all "
                "(data.patience_minutes), then the run ends",
                *(where, waited, why and one_line(why), self.seconds / 60),
            )


def given_up(where: str, error: Exception, statistics: dict[str, object]) -> InputError:
    """Return the error of a request that is given up."""
    why = one_line(error)
    if isinstance(error, FileNotFoundError) and not may_pass(error):
        return InputError(f"{where} is missing: upload the whole folder of shards")
    times = ""
    if may_pass(error):
        seconds = float(str(statistics["delay_since_first_attempt"]))
        times = f" in {statistics['attempt_number']} attempts and {seconds:.0f} s"
    return InputError(
        f"{where} cannot be read{times} ({why}): check network and credentials; "
        "the same command with ckpt_path=last resumes"
    )


def may_pass(error: BaseException) -> bool:
    """Return True for a transient error, after which the same request may succeed."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and isinstance(cause, aiohttp.ClientError):
        return may_pass(cause)  # fsspec calls a file missing if a HEAD fails for any reason
    if (status := status_of(error)) is not None:
        return status >= 500 or status in TOO_BUSY
    if type(error).__name__ in NO_CREDENTIALS + INVALID_NAME:
        return False
    if any(text in str(error) for text in REFUSED):
        return False
    return isinstance(error, Exception) and not isinstance(error, PERMANENT)


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of an error of aiohttp, gcsfs, or Azure's or Hugging Face's client."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status", "code", "status_code"):
            if isinstance(value := getattr(holder, name, None), int):
                return value
    return None


def one_line(error: BaseException) -> str:
    """Return an error's class and the first line of its message, without credentials in URLs."""
    said = mask(str(error).strip().partition("\n")[0])
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
