"""Asking a store again that is away: what may pass, how long, and what is said meanwhile."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from typing import TypeVar

import aiohttp
import tenacity

from agent_scaling.data.shards.storage import Damaged
from agent_scaling.data.shards.threads import ENDED
from agent_scaling.runtime.errors import InputError

T = TypeVar("T")

PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotImplementedError)
NOBODY = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")
"""What botocore and google-auth raise where nobody has said who asks."""
INVALID = ("ParamValidationError",)
"""What botocore raises at a bucket's name that cannot be one."""
REFUSED = ("CERTIFICATE_VERIFY_FAILED", "Forbidden: ")
"""What errors say that are of no class of their own: Python's ssl, gcsfs at a status of 403."""
TOO_BUSY = (408, 425, 429)
"""HTTP statuses below 500 that may be another the next time."""
LONGEST_PAUSE = 30.0
SAID_AFTER = 30.0
"""Seconds of waiting after which a line says so."""

logger = logging.getLogger(__name__)


class Cut(OSError):  # noqa: N818  # as Damaged
    """An answer that has another length than was asked for."""


class Patience:
    """Asks again what may be answered the next time, after random pauses that grow to 30 s.

    A store that does not answer is given ``seconds``; one that answers with other bytes than
    were asked for, ``attempts``. Safe to share between threads.
    """

    def __init__(self, seconds: float, attempts: int, pause: float) -> None:
        """``pause``: seconds that the first pause lasts at most."""
        if seconds < 0:
            raise InputError(f"data.patience_minutes={seconds / 60:g}: must be at least 0")
        self.seconds, self.attempts = seconds, attempts
        self._wait = tenacity.wait_random_exponential(multiplier=pause, max=LONGEST_PAUSE)
        self._away = False
        self._lock = threading.Lock()

    def ask(self, where: str, request: Callable[[], T]) -> T:
        """What the request gives, sooner or later; raises what it raised last, if it is given up.

        A :class:`InputError` names ``where``, but for :class:`Damaged`.
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
        """Whether a request has got too many."""
        wrong = 0

        def enough(state: tenacity.RetryCallState) -> bool:
            nonlocal wrong
            assert state.outcome is not None
            wrong += isinstance(state.outcome.exception(), Damaged | Cut)
            return wrong >= self.attempts

        return enough

    def _say(self, where: str, state: tenacity.RetryCallState) -> None:
        """A line for all threads, when one has waited for long."""
        assert state.outcome is not None
        assert state.seconds_since_start is not None
        why, waited = state.outcome.exception(), state.seconds_since_start
        if waited < SAID_AFTER:
            return
        with self._lock:
            known, self._away = self._away, True
        if not known:
            logger.warning(
                "%s: no answer for %.0f s (%s); it is asked for %g minutes in all "
                "(data.patience_minutes), then the run ends",
                *(where, waited, why and one_line(why), self.seconds / 60),
            )


def given_up(where: str, error: Exception, statistics: dict[str, object]) -> InputError:
    """The line for a request that is not made again."""
    why = one_line(error)
    if isinstance(error, FileNotFoundError) and not may_pass(error):
        return InputError(f"{where} is missing: upload the whole folder of shards")
    times = ""
    if may_pass(error):
        seconds = float(str(statistics["delay_since_first_attempt"]))
        times = f" in {statistics['attempt_number']} attempts and {seconds:.0f} s"
    return InputError(
        f"{where} cannot be read{times} ({why}): check network and credentials; "
        "the same command with ckpt_path=last goes on"
    )


def may_pass(error: BaseException) -> bool:
    """Whether the same request may be answered the next time."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and isinstance(cause, aiohttp.ClientError):
        return may_pass(cause)  # fsspec calls a file missing if a HEAD fails for any reason
    if (status := status_of(error)) is not None:
        return status >= 500 or status in TOO_BUSY
    if type(error).__name__ in NOBODY + INVALID or any(text in str(error) for text in REFUSED):
        return False
    return isinstance(error, Exception) and not isinstance(error, PERMANENT)


def status_of(error: BaseException) -> int | None:
    """The HTTP status, where aiohttp, gcsfs, Azure's and Hugging Face's clients keep it."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status", "code", "status_code"):
            if isinstance(value := getattr(holder, name, None), int):
                return value
    return None


def one_line(error: BaseException) -> str:
    """An error's kind and the first line of what it says, without users' names and passwords."""
    said = re.sub(r"://[^/@\s]*@", "://", str(error).strip().partition("\n")[0])
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
