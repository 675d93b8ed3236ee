"""What is said when something needs a person: to a Slack-style webhook and by e-mail, where Airflow has a connection for it.

The connection ``ragworks_slack`` is an incoming webhook (Slack, Mattermost, Rocket.Chat, Google Chat): its address in the
password, or host and password as the Slack provider has them. ``ragworks_smtp`` is a connection of type SMTP whose extra names
``to`` and ``from_email``. Without them everything is said in the log alone.
"""

from __future__ import annotations

import asyncio
import html
import logging
import time
from collections.abc import Mapping  # noqa: TC003 - Airflow reads the signature at run time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier, Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from include.errors import BadConfiguration, BadData, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

logger = logging.getLogger(__name__)

SLACK_CONN_ID, SMTP_CONN_ID = "ragworks_slack", "ragworks_smtp"
TIMEOUT = 10.0  # seconds for a webhook to answer
LONGEST = 3000  # characters: Slack cuts a block there


@dataclass(frozen=True, slots=True)
class Message:
    """What is said.

    :param subject: one line.
    :param text: the rest, plain text.
    """

    subject: str
    text: str = ""


class SlackNotifier(BaseNotifier):
    """Post a text to a Slack-style incoming webhook, as a callback of any DAG or task.

    :param text: what to say (templated).
    :param conn_id: the connection that holds the webhook's address (templated).
    """

    template_fields: Sequence[str] = ("text", "conn_id")

    def __init__(self, *, text: str, conn_id: str = SLACK_CONN_ID, context: Context | None = None) -> None:
        super().__init__(context)
        self.text = text
        self.conn_id = conn_id

    def notify(self, context: Context) -> None:
        """Post it.

        :raises BadConfiguration: the connection holds no address, or the webhook refuses it.
        :raises ServiceUnavailable: the webhook does not answer.
        """
        del context
        _post(webhook_url(_connection(self.conn_id)), self.text[:LONGEST], self.conn_id)

    async def async_notify(self, context: Context) -> None:
        """The same from the triggerer."""
        await asyncio.to_thread(self.notify, context)


class EmailNotifier(BaseNotifier):
    """Send an e-mail, as a callback of any DAG or task.

    :param subject: (templated).
    :param text: plain text (templated).
    :param conn_id: of type SMTP; ``to`` and ``from_email`` stand in its extra (templated).
    """

    template_fields: Sequence[str] = ("subject", "text", "conn_id")

    def __init__(self, *, subject: str, text: str, conn_id: str = SMTP_CONN_ID, context: Context | None = None) -> None:
        super().__init__(context)
        self.subject = subject
        self.text = text
        self.conn_id = conn_id

    def notify(self, context: Context) -> None:
        """Send it.

        :raises BadConfiguration: the connection names nobody to send to.
        :raises ServiceUnavailable: the mail server does not take it.
        """
        del context
        _mail(_connection(self.conn_id), self.subject, self.text)

    async def async_notify(self, context: Context) -> None:
        """The same from the triggerer."""
        await asyncio.to_thread(self.notify, context)


def channels() -> list[str]:
    """The connections that there are, of the two."""
    return [conn_id for conn_id in (SLACK_CONN_ID, SMTP_CONN_ID) if _known(conn_id)]


def send(channel: str, message: Message) -> None:
    """Say something through one channel.

    :raises BadConfiguration: its connection cannot be used.
    :raises ServiceUnavailable: it does not answer; say it again.
    :raises BadData: this cannot be said through it, now or later.
    """
    if channel == SLACK_CONN_ID:
        SlackNotifier(text=f"*{message.subject}*\n{message.text}").notify({})
    else:
        EmailNotifier(subject=message.subject, text=message.text).notify({})


def tell(message: Message, *, pauses: Sequence[float] = ()) -> list[str]:
    """Say something everywhere, and in the log; a channel that fails is logged and fails nothing.

    :param pauses: seconds before each further try of a channel that does not answer.
    :return: the channels that took it.
    """
    logger.warning("%s: %s", message.subject, message.text)
    return [channel for channel in channels() if _reached(channel, message, pauses)]


def _reached(channel: str, message: Message, pauses: Sequence[float]) -> bool:
    for pause in (*pauses, None):
        try:
            send(channel, message)
        except (BadConfiguration, BadData) as error:
            logger.error("Not told through %s: %s", channel, error)
            return False
        except ServiceUnavailable as error:
            logger.error("Not told through %s: %s", channel, error)
            if pause is not None:
                time.sleep(pause)
        else:
            return True
    return False


async def report_missed_deadline(context: Mapping[str, Any] | None = None) -> str:
    """Tell people the DAG and the run that are late, and what to do; Airflow keeps the text with the deadline.

    :param context: what Airflow hands to deadline callbacks: ``dag_run`` and ``deadline``.
    """
    run = (context or {}).get("dag_run") or {}
    deadline = (context or {}).get("deadline") or {}
    message = (
        f"DAG {run.get('dag_id', 'unknown')}, run {run.get('dag_run_id', 'unknown')}: not finished at its deadline"
        f" {deadline.get('deadline_time', '')} (state {run.get('state', 'unknown')}). Queries are still answered from the"
        " last published index. Look at the log of the run's running or failed task; a run that is cleared or triggered"
        " again goes on where this one stopped."
    )
    logger.error(message)
    await asyncio.to_thread(tell, Message(f"{run.get('dag_id', 'A DAG')} is late", message))
    return message


def webhook_url(connection: Any) -> str:
    """The address of an incoming webhook: the password if it is one, else host and password.

    :raises BadConfiguration: there is none.
    """
    secret, host = connection.password or "", connection.host or ""
    if secret.startswith(("http://", "https://")):
        return str(secret)
    if not host:
        raise BadConfiguration(
            f"the Airflow connection {connection.conn_id}", "it has no address", "Put the webhook's address into its password"
        )
    base = host if host.startswith(("http://", "https://")) else f"{connection.schema or 'https'}://{host}"
    if connection.port:
        base = f"{base.rstrip('/')}:{connection.port}"
    return f"{base.rstrip('/')}/{secret.lstrip('/')}"


def _post(url: str, text: str, conn_id: str) -> None:
    import httpx

    try:
        answer = httpx.post(url, json={"text": text}, timeout=TIMEOUT)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        why = type(error).__name__  # its text may hold the address, which is the secret
        raise ServiceUnavailable(f"the webhook of {conn_id} does not answer", why, "Look at its address") from None
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS or answer.is_server_error:
        raise ServiceUnavailable(f"the webhook of {conn_id}", f"it answers {answer.status_code}", "Try again later")
    if answer.is_error:
        why = f"it answers {answer.status_code}: {answer.text[:200]}"
        raise BadConfiguration(f"the webhook of {conn_id}", why, "Correct its address")


def _mail(connection: Any, subject: str, text: str) -> None:
    import smtplib
    from email.errors import MessageError

    from airflow.providers.smtp.hooks.smtp import SmtpHook

    extra = connection.extra_dejson or {}
    if not extra.get("to") or not extra.get("from_email"):
        raise BadConfiguration(
            f"the Airflow connection {connection.conn_id}", "its extra names no to or no from_email",
            'Write {"to": "team@example.org", "from_email": "ragworks@example.org"}',
        )  # fmt: skip
    try:
        with SmtpHook(smtp_conn_id=connection.conn_id) as hook:
            hook.send_email_smtp(
                to=extra["to"], from_email=extra["from_email"], subject=_line(subject),
                html_content=f"<pre>{html.escape(_clean(text))}</pre>",
            )  # fmt: skip
    except (MessageError, ValueError) as error:
        raise BadData("a message is no e-mail", f"{type(error).__name__}: {error}", "It stands in the log") from error
    except (OSError, smtplib.SMTPException) as error:
        raise ServiceUnavailable(f"the mail server of {connection.conn_id}", str(error), "Look at the connection") from error


def _line(text: str) -> str:
    """One line: other systems' words stand in a subject, and a line break in it would begin another header."""
    return " ".join("".join(one if one.isprintable() else " " for one in _clean(text)).split())


def _clean(text: str) -> str:
    """Without what no encoding writes."""
    return text.encode("utf-8", "replace").decode()


def _connection(conn_id: str) -> Any:
    try:
        return Connection.get(conn_id)
    except AirflowNotFoundException as error:
        raise BadConfiguration(
            f"connection {conn_id}", "Airflow has no such connection", "Add it: docs/monitoring-airflow.md"
        ) from error


def _known(conn_id: str) -> bool:
    try:
        Connection.get(conn_id)
    except AirflowNotFoundException:
        return False
    return True
