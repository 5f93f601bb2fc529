"""Models of ``notifications.channels``: where messages go, one model a kind.

What lets somebody write into a group chat (token, key, the address of a webhook) is as secret as a
password. Not in here: what is sent to whom (``notifications``), and how (``notify``).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from email.errors import MessageError
from email.headerregistry import Address
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator

from cdc_daemon.config.connections import secret as masked
from cdc_daemon.config.conninfo import is_loopback
from cdc_daemon.config.scalars import AsTuple, Complaint
from cdc_daemon.config.strict import Model

Language = Literal["zh", "en"]

_TOKEN = re.compile(r"[^\s/?=&#%\x00-\x1f\x7f]{1,256}")
_ADDRESS = re.compile(r"[^\s@<>,;:\"\\\x00-\x1f\x7f]+@[^\s@<>,;:\"\\\x00-\x1f\x7f]+")
_NO_URL = re.compile(r"[\x00-\x20\x7f]|[^\x00-\x7f]")
_CURE = "write https://host/path"
_SHORTEST_KEY = 16  # bytes


class Channel(Model):
    """What every channel has."""

    language: Language | None = Field(
        default=None, description="Of the texts, in place of `notifications.language`."
    )
    recovery: bool = Field(
        default=True, description="Whether a message follows when an alert is over."
    )


class WebChannel(Channel):
    """A channel that is reached by HTTPS."""

    ca: str | None = Field(
        default=None,
        description="File with the authority of the server's certificate. Default: the system's.",
    )
    allow_plain: bool = Field(
        default=False, description="Whether http is allowed, which everybody on the way can read."
    )
    allow_private: Annotated[tuple[str, ...], AsTuple] = Field(
        default=(),
        description="Hosts that may have a private or loopback address; all others are refused "
        "there, so that no name can lead into your network.",
        examples=[["hooks.corp"]],
    )


class TokenChannel(WebChannel):
    """A robot whose address is that of its service and a token."""

    BEHIND: ClassVar[str]

    token: SecretStr = Field(description="The secret part of the robot's address.")
    base: str = Field(description="The service's address.")

    _mask_token = field_validator("token", mode="before")(masked)

    @field_validator("token")
    @classmethod
    def _check_token(cls, token: SecretStr) -> SecretStr:
        if not _TOKEN.fullmatch(token.get_secret_value()):
            raise Complaint("this is no token", f"write only what stands behind {cls.BEHIND}")
        return token

    @field_validator("base")
    @classmethod
    def _check_base(cls, url: str, info: ValidationInfo) -> str:
        found = check_url(url, plain=bool(info.data.get("allow_plain")))
        if found.path.strip("/") or found.query:
            raise Complaint("the address has a path", "write https://host")
        return url.rstrip("/")


class DingtalkChannel(TokenChannel):
    """A DingTalk group's custom robot."""

    BEHIND = "access_token="

    kind: Literal["dingtalk"] = Field(description="Which kind of channel this is.")
    token: SecretStr = Field(description="What stands behind `access_token=` in its address.")
    secret: SecretStr | None = Field(
        default=None, description="Of its security setting *sign* (加签): `SEC…`."
    )
    base: str = Field(default="https://oapi.dingtalk.com", description="The service's address.")

    _mask = field_validator("secret", mode="before")(masked)


class WecomChannel(TokenChannel):
    """A WeCom group's robot."""

    BEHIND = "key="

    kind: Literal["wecom"] = Field(description="Which kind of channel this is.")
    token: SecretStr = Field(description="What stands behind `key=` in its address.")
    base: str = Field(default="https://qyapi.weixin.qq.com", description="The service's address.")


class FeishuChannel(TokenChannel):
    """A Feishu or Lark group's custom bot."""

    BEHIND = "/hook/"

    kind: Literal["feishu"] = Field(description="Which kind of channel this is.")
    token: SecretStr = Field(description="What stands behind `/hook/` in its address.")
    secret: SecretStr | None = Field(
        default=None, description="Of its security setting *signature verification* (签名校验)."
    )
    base: str = Field(
        default="https://open.feishu.cn",
        description="The service's address; for Lark `https://open.larksuite.com`.",
    )

    _mask = field_validator("secret", mode="before")(masked)


class UrlChannel(WebChannel):
    """A channel whose whole address is given, and is secret."""

    url: SecretStr = Field(description="The whole address.")

    _mask_url = field_validator("url", mode="before")(masked)

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: SecretStr, info: ValidationInfo) -> SecretStr:
        check_url(url.get_secret_value(), plain=bool(info.data.get("allow_plain")))
        return url


class SlackChannel(UrlChannel):
    """A Slack channel's incoming webhook."""

    kind: Literal["slack"] = Field(description="Which kind of channel this is.")
    url: SecretStr = Field(
        description="The webhook's whole address, `https://hooks.slack.com/services/…`."
    )


class WebhookChannel(UrlChannel):
    """Any service that takes JSON, signed as Standard Webhooks says."""

    kind: Literal["webhook"] = Field(description="Which kind of channel this is.")
    url: SecretStr = Field(description="Where to POST to; kept secret, for it may hold a token.")
    secret: SecretStr = Field(
        description="Key of the signature: `whsec_` and Base64, or any text of 16 bytes or more."
    )

    _mask = field_validator("secret", mode="before")(masked)

    @field_validator("secret")
    @classmethod
    def _is_a_key(cls, value: SecretStr) -> SecretStr:
        cure = "make one with: openssl rand -hex 32"
        try:
            key = webhook_key(value.get_secret_value())
        except ValueError:
            raise Complaint("what follows whsec_ is no Base64", cure) from None
        if len(key) < _SHORTEST_KEY:
            raise Complaint("the secret is too short", cure)
        return value


def webhook_key(secret: str) -> bytes:
    """The bytes that a webhook's secret stands for. Raises ValueError.

    As https://www.standardwebhooks.com has it: Base64 behind ``whsec_``; else the text itself.
    """
    if secret.startswith("whsec_"):
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    return secret.encode()


class EmailChannel(Channel):
    """Mail through an SMTP server."""

    kind: Literal["email"] = Field(description="Which kind of channel this is.")
    host: str = Field(min_length=1, description="The SMTP server.", examples=["smtp.corp"])
    tls: Literal["starttls", "implicit", "none"] = Field(
        default="starttls",
        description="How it is encrypted: from the first command on (`starttls`), from the first "
        "byte on (`implicit`), or not at all, which goes with `allow_plain` and without a "
        "password only, beyond this machine.",
    )
    port: int | None = Field(
        default=None, ge=1, le=65535, description="Its port. Default: 587, 465 or 25, as `tls` is."
    )
    ca: str | None = Field(
        default=None,
        description="File with the authority of the server's certificate. Default: the system's.",
    )
    allow_plain: bool = Field(
        default=False, description="Whether mail may leave this machine unencrypted."
    )
    from_: str = Field(alias="from", description="The sender's address.", examples=["cdc@corp"])
    to: Annotated[tuple[str, ...], AsTuple] = Field(
        min_length=1, description="The receivers' addresses.", examples=[["ops@corp"]]
    )
    user: str | None = Field(default=None, description="The account, where the server wants one.")
    password: SecretStr | None = Field(default=None, description="Its password.")

    _mask = field_validator("password", mode="before")(masked)

    @field_validator("port", mode="before")
    @classmethod
    def _from_a_variable(cls, value: Any) -> Any:
        """A number that comes from ``${VAR}`` is a text."""
        return int(value) if isinstance(value, str) and value.isdecimal() else value

    @field_validator("from_", "to")
    @classmethod
    def _check(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for address in (value,) if isinstance(value, str) else value:
            if not _is_address(address):
                raise Complaint("this is no mail address", "write name@host alone")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> EmailChannel:
        if (self.user is None) != (self.password is None):
            raise Complaint("user and password belong together", "give both or neither")
        if self.tls == "none" and not is_loopback({"host": self.host}):
            if not self.allow_plain:
                raise Complaint(
                    "mail would leave this machine unencrypted",
                    "write tls: starttls, or allow_plain: true in a network that you trust",
                )
            if self.password is not None:
                raise Complaint(
                    "the password would leave this machine unencrypted", "write tls: starttls"
                )
        return self

    @property
    def effective_port(self) -> int:
        """The port, by ``tls`` where none is given."""
        return self.port or {"starttls": 587, "implicit": 465, "none": 25}[self.tls]


AnyChannel = (
    DingtalkChannel | WecomChannel | FeishuChannel | SlackChannel | WebhookChannel | EmailChannel
)
"""A channel of any kind."""

CHANNEL_KINDS: Mapping[str, type[AnyChannel]] = {
    "dingtalk": DingtalkChannel,
    "wecom": WecomChannel,
    "feishu": FeishuChannel,
    "slack": SlackChannel,
    "webhook": WebhookChannel,
    "email": EmailChannel,
}
"""The kinds of channel that exist, with their models."""


def _is_address(text: str) -> bool:
    """Whether mail can be sent there, as far as its form tells."""
    try:
        return bool(_ADDRESS.fullmatch(text)) and bool(Address(addr_spec=text).domain)
    except (ValueError, IndexError, MessageError):  # what the standard library's parser raises
        return False


def check_url(url: str, *, plain: bool) -> SplitResult:
    """The parts of an address that may be sent to. Raises Complaint, which never quotes it."""
    if _NO_URL.search(url):
        raise Complaint("the address holds blanks or characters that are not ASCII", _CURE)
    try:
        found = urlsplit(url)
        port, host = found.port, found.hostname
    except ValueError:
        raise Complaint("this is no address", _CURE) from None
    if found.scheme == "http" and not plain:
        raise Complaint("the address is not encrypted", "write https, or allow_plain: true")
    if found.scheme not in {"http", "https"} or not host or port == 0:
        raise Complaint("this is no address", _CURE)
    if "@" in found.netloc or "#" in url:
        raise Complaint("the address holds an account or a #", _CURE)
    return found
