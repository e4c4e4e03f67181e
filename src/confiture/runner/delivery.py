"""Deliver a notice: by a webhook, through apprise, or by a hook. Each raises nothing: it returns what happened.

No reason contains an address, an answer or a text of the receiver's server, because those may contain a secret.
"""

from __future__ import annotations

import http.client
import json
import logging
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import tenacity

from confiture import __version__
from confiture.notices import Notice
from confiture.runner.hooks import TIMED_OUT, Hook, run_command

#: Seconds for one attempt at a webhook, and the number of attempts.
ATTEMPT_SECONDS, ATTEMPTS = 10.0, 4
#: Seconds between the first two attempts, the factor of the next pause, and the longest pause. Together they are less
#: than a command waits at its end, so that the journal has the reason of a receiver that answers with errors.
FIRST_PAUSE, PAUSE_FACTOR, LONGEST_PAUSE = 0.5, 2, 2.0
#: Answers to a request that may be accepted later (RFC 9110, RFC 8470, RFC 6585). Any other 4xx stays.
LATER = (408, 425, 429)
#: Seconds after which the hook of an event is ended.
HOOK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a delivery.

    :ivar reason: why it was not delivered; None when it was.
    """

    attempts: int
    reason: str | None = None


#: Delivers a notice, and takes as long as it takes.
Deliver = Callable[[Notice], Outcome]


class _Failed(Exception):
    """An attempt that did not deliver; its text is the reason."""


class _Rejected(_Failed):
    """An attempt that would end in the same way again."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the notice would be sent to a server that the operator did not name."""

    def redirect_request(self, *_: object) -> None:
        """No request."""


def webhook(url: str) -> Deliver:
    """Deliver by POST with a body in JSON. It is tried again without an answer, and after one that may change."""

    def deliver(notice: Notice) -> Outcome:
        return _repeated(lambda: _post(url, notice))

    return deliver


def apprise(url: str) -> Deliver:
    """Deliver through apprise, which has its own time limits.

    :raises ImportError: when it is not installed.
    """
    import apprise as library

    for name in ("apprise", "requests", "urllib3"):
        # Their messages contain parts of the address. The outcome of the notice names the failure.
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False

    def deliver(notice: Notice) -> Outcome:
        return _repeated(lambda: _notify(library, url, notice))

    return deliver


def hook(command: Hook, environment: dict[str, str]) -> Deliver:
    """Deliver by running the operator's command, once: it need not be repeatable.

    :param environment: of the command, to which the event is added.
    """

    def deliver(notice: Notice) -> Outcome:
        more = {"CONFITURE_EVENT": notice.event, "CONFITURE_TEXT": notice.text}
        code = run_command(command.words, {**environment, **more}, HOOK_SECONDS)
        if code == TIMED_OUT:
            return Outcome(1, f"the hook was ended after {HOOK_SECONDS:.0f} s")
        return Outcome(1, f"the hook exited with code {code}" if code else None)

    return deliver


def _repeated(attempt: Callable[[], None]) -> Outcome:
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda e: isinstance(e, _Failed) and not isinstance(e, _Rejected)),
        wait=tenacity.wait_exponential(FIRST_PAUSE, LONGEST_PAUSE, PAUSE_FACTOR),
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        reraise=True,
    )
    try:
        retrying(attempt)
    except _Failed as error:
        return Outcome(int(retrying.statistics["attempt_number"]), str(error))
    return Outcome(int(retrying.statistics["attempt_number"]))


def _post(url: str, notice: Notice) -> None:
    """:raises _Failed: when the receiver did not accept the notice."""
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"confiture/{__version__}",
        "Idempotency-Key": notice.key,
    }
    try:
        request = urllib.request.Request(url, json.dumps(notice.as_json()).encode(), headers, method="POST")
        with _limited(ATTEMPT_SECONDS) as opener, opener.open(request, timeout=ATTEMPT_SECONDS):
            return
    except urllib.error.HTTPError as error:
        error.close()
        if 300 <= error.code < 400:
            raise _Rejected(f"HTTP {error.code}: it redirects, which is not followed") from None
        stays = 400 <= error.code < 500 and error.code not in LATER
        raise (_Rejected if stays else _Failed)(f"HTTP {error.code}") from None
    except urllib.error.URLError as error:
        raise _Failed(_reason(error.reason)) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Failed(_reason(error)) from None


@contextmanager
def _limited(seconds: float) -> Iterator[urllib.request.OpenerDirector]:
    """An opener for one request, whose connection is ended after some seconds, however slowly an answer arrives.

    The timeout of a socket is for one piece of the answer.

    :raises TimeoutError: when it was ended.
    """
    connections: list[http.client.HTTPConnection] = []
    ended = threading.Event()

    class Http(urllib.request.HTTPHandler):
        def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(_kept(http.client.HTTPConnection, connections), request)

    class Https(urllib.request.HTTPSHandler):
        def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(_kept(http.client.HTTPSConnection, connections), request)

    def end() -> None:
        ended.set()
        for connection in connections:
            with suppress(OSError, AttributeError):  # it is closed already, or has no socket yet
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield urllib.request.build_opener(_NoRedirect(), Http(), Https())
    except (OSError, http.client.HTTPException, ValueError):
        if ended.is_set():
            raise TimeoutError from None
        raise
    else:
        if ended.is_set():  # within the header of the answer
            raise TimeoutError
    finally:
        timer.cancel()


def _kept(kind: type[http.client.HTTPConnection], into: list[http.client.HTTPConnection]) -> Any:
    def made(*words: Any, **options: Any) -> http.client.HTTPConnection:
        into.append(kind(*words, **options))
        return into[-1]

    return made


def _reason(error: object) -> str:
    """The reason of a failed attempt, without any text that contains a part of the address."""
    if isinstance(error, TimeoutError):
        return f"no answer within {ATTEMPT_SECONDS:.0f} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return "the certificate of the receiver is not trusted"
    if isinstance(error, socket.gaierror):
        return "the name of the receiver's server cannot be resolved"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"no valid answer ({type(error).__name__})"


def _notify(library: object, url: str, notice: Notice) -> None:
    """:raises _Failed: when apprise reports that the notice was not delivered."""
    sender = library.Apprise()  # type: ignore[attr-defined]
    if not sender.add(url):
        raise _Failed("apprise does not accept the URL")
    if not sender.notify(body=notice.text, title=f"confiture: {notice.event}"):
        raise _Failed("apprise could not deliver it")
