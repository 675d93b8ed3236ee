"""What can go wrong, sorted by what the caller should do: try again (Transient) or change something (Terminal)."""

from __future__ import annotations

import re

_CODE = re.compile(r"[A-Za-z0-9_.-]{1,60}")


class RagworksError(Exception):
    """An error a person can act on.

    :param what: what happened, naming the file, key, document or service.
    :param why: the cause, when it is known.
    :param fix: what to do about it.
    """

    exit_code = 1

    def __init__(self, what: str, why: str = "", fix: str = "") -> None:
        super().__init__(what, why, fix)
        self.what, self.why, self.fix = what, why, fix

    def __str__(self) -> str:
        cause = f"{self.what}: {self.why}" if self.why else self.what
        return f"{cause}. {self.fix}" if self.fix else cause


class Transient(RagworksError):
    """Trying again later may succeed; Airflow retries it."""

    exit_code = 75


class ServiceUnavailable(Transient):
    """A service that the work needs does not answer."""

    exit_code = 69


class Terminal(RagworksError):
    """Trying again changes nothing; Airflow fails the task at once."""

    exit_code = 65


class BadConfiguration(Terminal):
    """A setting, a collection file or an argument is wrong."""


class BadData(Terminal):
    """The documents themselves are refused: too many rejected rows, an empty listing, too many deletions."""


def reply_codes(error: Exception) -> str:
    """What an endpoint refused, in its codes: its words may repeat the texts that it was sent, and errors are kept.

    :param error: of the openai client: ``status_code``, ``type``, ``code`` and ``param`` where the reply had them.
    """
    found = {"status": getattr(error, "status_code", None)}
    found |= {name: getattr(error, name, None) for name in ("type", "code", "param")}
    told = {name: str(value) for name, value in found.items() if value is not None and _CODE.fullmatch(str(value))}
    if told.get("code") == told.get("status"):
        told.pop("code", None)
    codes = ", ".join(f"{name} {value}" for name, value in told.items()) or type(error).__name__
    return f"{codes}; its log has the words"
