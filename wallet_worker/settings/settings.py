"""Settings from the environment, each with the prefix WALLET_; secrets and keys may be in files that it names."""

import re
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import NoDecode

from wallet_schemas.keys import loaded_secrets
from wallet_schemas.money import minor_digits
from wallet_schemas.names import DEFAULT_ACCOUNT_TYPE, DEFAULT_CURRENCIES
from wallet_schemas.values import AccountType, ChannelType
from wallet_worker.broker import addresses
from wallet_worker.broker.amqp.seal import SealKey
from wallet_worker.core.channels import ANY_CHANNEL
from wallet_worker.core.context import INQUIRY_AGES, Policy
from wallet_worker.core.senders import Senders
from wallet_worker.core.webhooks import Network
from wallet_worker.settings.channels import AGE_MAX_SECONDS, ChannelSettings, check_ages, checked_names
from wallet_worker.settings.database_address import wrong_database_address
from wallet_worker.settings.keys import NONE, PaymentKeys, RequestKey, read_seal, refuse_shared
from wallet_worker.settings.limits import LimitSettings, limit_minor
from wallet_worker.settings.operators import ApprovalLimits
from wallet_worker.settings.sender_rights import ANYONE, EXAMPLE, read_senders
from wallet_worker.settings.sources import FromEnvironment

_DRAIN_MAX_SECONDS = 86_400  # a day: whoever stops a process for longer has forgotten it


def _ages(seconds: tuple[int, ...]) -> tuple[timedelta, ...]:
    return tuple(timedelta(seconds=second) for second in seconds)


class Settings(FromEnvironment):
    """What a deployment chooses."""

    amqp_url: SecretStr = Field(
        description="The broker: amqp://user:password@host:5672/vhost. Of a cluster the address of each node, "
        "separated by commas or blanks."
    )
    database_url: SecretStr = Field(description="The database: postgresql://user:password@host:5432/name")
    management_url: SecretStr | None = Field(
        default=None,
        description="RabbitMQ's management API, used by `wallet topology` and, where it is set, by keepers, which show "
        "how many nodes and members there are. Of a cluster the address of each node. Default: port 15672 of the "
        "broker's host, with the broker's user. With amqps, no default: set https://user:password@host:15671.",
    )
    senders: str | None = Field(
        default=None,
        description="Rights of senders by the broker's user: JSON, `@` and the path of a JSON file, or `anyone`. "
        "Required by workers. See Senders.",
    )
    payment_keys: Annotated[dict[str, SecretStr], NoDecode] = Field(
        default_factory=dict,
        description='Signing keys of the payment gateway: {"key id": "secret of at least 16 bytes"}. '
        "Without a key here or in the file, every result is refused.",
    )
    payment_keys_file: Path | None = Field(
        default=None,
        description="File of the gateways' keys, also with public keys, channels, kinds and dates. "
        "Read again when it changes. See Keys.",
    )
    request_key_file: str | None = Field(
        default=None,
        description="File of the key that signs payment requests, or `none`. Required by workers. See Keys.",
    )
    seal_key_file: str | None = Field(
        default=None,
        description="File of the key that seals dead letters and payment requests in the outbox, the same for workers "
        "and keepers, or `none`. Required by workers. See Keys.",
    )
    environment: str = Field(
        default="default",
        description="Name of the deployment in signatures, so that a signature of staging is not valid in production.",
    )
    demo: bool = Field(
        default=False,
        description="Accept the simulated gateway's keys, whose ids begin with `test-`.",
    )
    http_host: str = Field(
        default="127.0.0.1",
        description="Address of /healthz, /readyz and /metrics, which ask for no password.",
    )
    http_port: int = Field(
        default=9300,
        ge=0,
        le=65_535,
        description="Port of /healthz, /readyz and /metrics; 0 takes a free port.",
    )
    currencies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=DEFAULT_CURRENCIES, description="Allowed currencies, separated by commas."
    )
    lanes: int = Field(
        default=16,
        ge=1,
        le=1_000,
        description="Rows of each system account in each currency: as many batches work at once. Two for each worker.",
    )
    batch_max: int = Field(
        default=500,
        ge=1,
        le=500,
        description="Messages of a batch. With more than four workers, 500 divided by the square root of their number.",
    )
    account_types: Annotated[tuple[AccountType, ...], NoDecode] = Field(
        default=(DEFAULT_ACCOUNT_TYPE,),
        min_length=1,
        description="Allowed account types, separated by commas.",
    )
    recharge_expires_seconds: int = Field(
        default=86_400,
        ge=1,
        le=AGE_MAX_SECONDS,
        description="Seconds after which a pending recharge expires.",
    )
    payment_inquiry_seconds: Annotated[tuple[int, ...], NoDecode] = Field(
        default=tuple(int(age.total_seconds()) for age in INQUIRY_AGES),
        description="Ages (seconds, separated by commas) at which the gateway is asked about a pending order. "
        "After the last age, the question repeats at that interval.",
    )
    payment_inquiry_seconds_by_channel: dict[ChannelType, tuple[int, ...]] = Field(
        default_factory=dict,
        description='WALLET_PAYMENT_INQUIRY_SECONDS of single channels: {"card": [60, 300]}.',
    )
    channels: dict[str, ChannelSettings] = Field(
        default_factory=dict,
        description="Rules of payment channels, as JSON by recharge_type or payout_type: see Channels.",
    )
    limits: LimitSettings = Field(
        default_factory=LimitSettings,
        description="Limits of orders and balances, as JSON by account type and currency: see Limits.",
    )
    keeper: bool = Field(
        default=True,
        description="Run a keeper of dead letters in each worker. If false, run `wallet keeper`.",
    )
    dlq_single_person_max: int = Field(
        default=100,
        ge=0,
        le=1_000_000_000,
        description="Dead letters that one person may replay or discard per hour without approval.",
    )
    dlq_single_person_amounts: dict[str, str] = Field(
        default_factory=dict,
        description='Sum of messages that one person may replay per hour without approval: {"TWD": "5000.00"}. A '
        "currency that is left out then always needs approval.",
    )
    drain_seconds: float = Field(
        default=25.0,
        gt=0,
        le=_DRAIN_MAX_SECONDS,
        description="Seconds that a stopping worker may take to finish its messages.",
    )
    console_host: str = Field(
        default="127.0.0.1",
        description="Address of `wallet console`. For access from other machines, set WALLET_CONSOLE_ORIGIN too.",
    )
    console_port: int = Field(
        default=9310, ge=0, le=65_535, description="Port of `wallet console`; 0 takes a free port."
    )
    console_origin: str | None = Field(
        default=None,
        description="URL at which people open the console, such as https://console.example. "
        "Forms from other origins are refused.",
    )
    console_users: Path = Field(
        default=Path("wallet-console-users.json"),
        description="File of the console's users, written by `wallet console user`.",
    )
    console_idle_seconds: float = Field(
        default=1_800.0,
        gt=0,
        le=AGE_MAX_SECONDS,
        description="Seconds without a click after which a session ends.",
    )
    console_session_seconds: float = Field(
        default=43_200.0,
        gt=0,
        le=AGE_MAX_SECONDS,
        description="Seconds after which a session ends in any case.",
    )
    console_proxies: Annotated[tuple[str, ...] | None, NoDecode] = Field(
        default=None,
        description="Addresses of trusted proxies, whose X-Forwarded-For is used; separated by commas.",
    )
    api_host: str = Field(
        default="127.0.0.1",
        description="Address of `wallet api`. For access from other machines it needs TLS, its own or a proxy's.",
    )
    api_port: int = Field(
        default=9320, ge=0, le=65_535, description="Port of `wallet api`; 0 takes a free port."
    )
    api_health_port: int = Field(
        default=9330,
        ge=0,
        le=65_535,
        description="Port of the API's /healthz, /readyz and /metrics, on WALLET_HTTP_HOST.",
    )
    api_url: str | None = Field(
        default=None,
        description="URL at which clients reach the API behind a proxy, such as https://wallet.example.",
    )
    api_tls_certificate: Path | None = Field(
        default=None, description="PEM file of the API's certificate and chain, if the API speaks TLS itself."
    )
    api_tls_key: Path | None = Field(default=None, description="PEM file of the certificate's key.")
    api_proxies: Annotated[tuple[str, ...] | None, NoDecode] = Field(
        default=None,
        description="Addresses of trusted proxies before the API, whose X-Forwarded-For is used; separated by commas.",
    )
    api_wait_seconds: float = Field(
        default=10.0,
        ge=0,
        le=30,
        description="Seconds that a POST waits for its outcome, unless the request says otherwise.",
    )
    api_in_flight: int = Field(
        default=1_000, ge=2, le=1_000_000, description="Requests that may wait for an outcome in one process."
    )
    api_queue_max: int = Field(
        default=100_000,
        ge=1,
        le=1_000_000_000,
        description="Commands in the queue above which the API accepts no more.",
    )
    api_lame_seconds: float = Field(
        default=0.0,
        ge=0,
        le=_DRAIN_MAX_SECONDS,
        description="Seconds that the API still accepts requests after SIGTERM, while /readyz says 503. "
        "Set what a load balancer needs to notice.",
    )
    api_signature_age_seconds: float = Field(
        default=0.0,
        ge=0,
        le=AGE_MAX_SECONDS,
        description="Greatest age in seconds of a payment result's signature over HTTP; 0 is no limit.",
    )
    webhooks_networks: Annotated[tuple[Network, ...] | None, NoDecode] = Field(
        default=None,
        description="Networks that webhooks may be posted to beside public addresses, such as 10.2.0.0/16; "
        "separated by commas.",
    )
    webhooks_ca: Path | None = Field(
        default=None,
        description="PEM file of certificates that webhook endpoints may have beside those that the system trusts.",
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto",
        description="json, console, or auto (console on a terminal, else json).",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error."
    )

    @field_validator(
        "currencies",
        "account_types",
        "payment_inquiry_seconds",
        "console_proxies",
        "api_proxies",
        "webhooks_networks",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            tuple(part.strip() for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("currencies")
    @classmethod
    def _known_types(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for currency in value:
            minor_digits(currency)
        return value

    @field_validator("console_origin", "api_url")
    @classmethod
    def _is_an_origin(cls, value: str | None) -> str | None:
        if not value:
            return None
        try:
            parts = urlsplit(value.lower())
        except ValueError:
            parts = urlsplit("")
        is_bare = bool(parts.hostname) and "@" not in value and parts.path in {"", "/"} and not parts.query
        if parts.scheme not in {"https", "http"} or not is_bare:
            msg = "it should look like https://console.example, without a path"
            raise ValueError(msg)
        return f"{parts.scheme}://{parts.netloc}"

    @field_validator("environment")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z0-9-]{1,32}", value):
            raise ValueError("it should be 1 to 32 small letters, digits and -, such as production")
        return value

    @field_validator("amqp_url")
    @classmethod
    def _is_a_broker(cls, value: SecretStr) -> SecretStr:
        try:
            addresses.parse(value.get_secret_value())
        except addresses.WrongUrlError as exc:
            raise ValueError(str(exc)) from None
        return value

    @field_validator("database_url")
    @classmethod
    def _is_a_database(cls, value: SecretStr) -> SecretStr:
        if wrong := wrong_database_address(value.get_secret_value()):
            raise ValueError(wrong)
        return value

    @field_validator("payment_inquiry_seconds", "payment_inquiry_seconds_by_channel")
    @classmethod
    def _ages_grow(
        cls, value: tuple[int, ...] | dict[str, tuple[int, ...]]
    ) -> tuple[int, ...] | dict[str, tuple[int, ...]]:
        for ages in value.values() if isinstance(value, dict) else [value]:
            check_ages(ages)
        return value

    @field_validator("console_proxies", "api_proxies")
    @classmethod
    def _proxies_are_named(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and "*" in value:
            raise ValueError(
                "it should be addresses: with * everybody chooses the address that they are held by"
            )
        return value

    @field_validator("dlq_single_person_amounts")
    @classmethod
    def _amounts_are_of_currencies(cls, value: dict[str, str]) -> dict[str, str]:
        for currency, amount in value.items():
            limit_minor(amount, currency)
        return value

    @field_validator("channels")
    @classmethod
    def _are_channels(cls, value: dict[str, ChannelSettings]) -> dict[str, ChannelSettings]:
        return checked_names(value)

    @field_validator("payment_keys", mode="before")
    @classmethod
    def _secrets_are_secret(cls, value: object) -> object:
        return loaded_secrets(value or "{}") if isinstance(value, str) else value

    @field_validator("senders")
    @classmethod
    def _is_a_policy(cls, value: str | None) -> str | None:
        if value is not None:
            read_senders(value)
        return value

    @model_validator(mode="after")
    def _keys_can_be_used(self) -> Self:
        for variable, use in (
            ("WALLET_PAYMENT_KEYS", lambda: self.keys),
            ("WALLET_REQUEST_KEY_FILE", lambda: refuse_shared(self.keys, self.request_key.key)),
            ("WALLET_SEAL_KEY_FILE", lambda: self.seal_key),
        ):
            try:
                use()
            except ValueError as exc:
                raise ValueError(f"{variable}: {exc}") from None
        return self

    @property
    def missing_senders(self) -> list[str]:
        """What nobody has said of who may speak, a sentence for each: without, a worker would be open by silence."""
        ways = (
            (
                self.senders,
                f"WALLET_SENDERS is not set: say who may send what, such as {EXAMPLE}, or {ANYONE}",
            ),
            (
                self.request_key_file,
                (
                    "WALLET_REQUEST_KEY_FILE is not set: name the file that `wallet keys make request` has made, "
                    f"or {NONE}, and nothing proves to a gateway that a request is the wallet's"
                ),
            ),
            (
                self.seal_key_file,
                (
                    "WALLET_SEAL_KEY_FILE is not set: name the file that `wallet keys make seal` has made, "
                    f"or {NONE}, and nothing proves that a dead letter is a worker's"
                ),
            ),
        )
        return [sentence for value, sentence in ways if value is None]

    @property
    def rules(self) -> Policy:
        """What the core may know of the settings."""
        ages_of_channels = self.payment_inquiry_seconds_by_channel | {
            name: channel.inquiry_seconds
            for name, channel in self.channels.items()
            if channel.inquiry_seconds is not None
        }
        return Policy(
            currencies=frozenset(self.currencies),
            recharge_expires_after=timedelta(seconds=self.recharge_expires_seconds),
            inquiry_ages=_ages(ages_of_channels.pop(ANY_CHANNEL, self.payment_inquiry_seconds)),
            ask_after_by_channel={channel: _ages(seconds) for channel, seconds in ages_of_channels.items()},
            channels={name: channel.channel for name, channel in self.channels.items()},
            limits=self.limits.limits,
            senders=self.sender_policy,
            account_types=frozenset(self.account_types),
        )

    @cached_property
    def sender_policy(self) -> Senders | None:
        """Who may send what; absent where anyone may, and where nobody has said who."""
        return None if self.senders is None else read_senders(self.senders)

    @property
    def dead_letter_limits(self) -> ApprovalLimits:
        """What operators may do alone."""
        return ApprovalLimits(
            single_person_max=self.dlq_single_person_max,
            single_person_minor=MappingProxyType(
                {
                    currency: limit_minor(amount, currency)
                    for currency, amount in self.dlq_single_person_amounts.items()
                }
            ),
        )

    @cached_property
    def keys(self) -> PaymentKeys:
        """The keys that payment results are verified with, as they stand now."""
        return PaymentKeys(
            {key_id: secret.get_secret_value() for key_id, secret in self.payment_keys.items()},
            self.payment_keys_file,
            environment=self.environment,
            is_demo=self.demo,
        )

    @cached_property
    def request_key(self) -> RequestKey:
        """The key that payment requests are signed with, as it stands now."""
        return RequestKey(_path(self.request_key_file), environment=self.environment)

    def reload_keys(self) -> None:
        """Read the key files again now, whether they look changed or not."""
        self.keys.reload()
        self.request_key.reload()

    @cached_property
    def seal_key(self) -> SealKey | None:
        """The key that dead letters are sealed with, if there is one."""
        found = read_seal(_path(self.seal_key_file))
        return None if found is None else SealKey(*found)


def _path(file: str | None) -> Path | None:
    return None if file in {None, "", NONE} else Path(str(file))
