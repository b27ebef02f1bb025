"""What can be set: one described field each. Names, defaults and meanings are tusd's wherever tusd has the setting.

This module knows neither where values come from nor how they are written (`tusd_py.cli` does); it only keeps a set of settings
that makes sense. Building one that does not raises `SettingsError`. Durations are seconds, sizes are bytes, absent is None.
"""

# ruff: noqa: RUF009  (`_setting` is `dataclasses.field` with a description; its defaults are immutable)

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from tusd_py.hook_settings import objections_to_hooks
from tusd_py.protocol.types import parse_extensions, parse_types
from tusd_py.protocol.upload import MAX_LENGTH

__all__ = ["Setting", "Settings", "SettingsError", "described"]

Kind = Literal["bool", "choice", "duration", "int", "octal", "path", "regexp", "size", "text"]

LISTENING = "Listening options"
TLS = "TLS options"
PROTOCOL = "Upload protocol options"
CORS = "CORS options"
FILES = "File storage options"
PROCESSES = "Process options"
LOGGING = "Logging options"
TIMEOUTS = "Timeout options"
AUTHORIZATION = "Authorisation options"
EVENTS = "Event options"
HOOKS = "Hook options"
LIMITS = "Limit options"
OBSERVING = "Observability options"


class SettingsError(ValueError):
    """Settings that cannot be served. The message is one sentence for the person who set them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The description of one field of `Settings`, or of an extension's option (`tusd_py.plugins`).

    `tusd` is tusd's flag for it, None where the setting is ours. `bare` is the text that the flag alone stands for, None where
    it takes one; `extension` is whose option it is.
    """

    name: str
    kind: Kind
    group: str
    help: str
    default: Any
    choices: tuple[str, ...] = ()
    tusd: str | None = None
    bare: str | None = None
    extension: str | None = None

    @property
    def flag(self) -> str:
        return self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return f"TUSD_PY_{self.name.upper()}"


def _setting(default: Any, kind: Kind, group: str, text: str, *, choices: tuple[str, ...] = (), ours: bool = False) -> Any:
    return field(default=default, metadata={"kind": kind, "group": group, "help": text, "choices": choices, "ours": ours})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set. `Settings()` is a server with tusd's defaults."""

    host: str = _setting("0.0.0.0", "text", LISTENING, "Host to bind the HTTP server to.")
    port: int = _setting(8080, "int", LISTENING, "Port to bind the HTTP server to; 0 picks a free one.")
    unix_sock: Path | None = _setting(None, "path", LISTENING, "Listen on a UNIX socket at this path instead of a TCP port.")
    base_path: str = _setting("/files/", "text", LISTENING, "Path under which uploads are served.")
    behind_proxy: bool = _setting(
        False, "bool", LISTENING, "Respect X-Forwarded-Host, X-Forwarded-Proto and Forwarded when making upload URLs."
    )
    enable_h2c: bool = _setting(False, "bool", LISTENING, "HTTP/2 without TLS. Not supported: put nginx in front for HTTP/2.")

    tls_certificate: Path | None = _setting(None, "path", TLS, "PEM file with the certificate and any intermediate ones.")
    tls_key: Path | None = _setting(None, "path", TLS, "PEM file with the key of the certificate.")
    tls_mode: Literal["tls12", "tls12-strong", "tls13"] = _setting(
        "tls12", "choice", TLS, "TLS versions and cipher suites to offer.", choices=("tls12", "tls12-strong", "tls13")
    )

    disable_download: bool = _setting(False, "bool", PROTOCOL, "Refuse downloads.")
    disable_termination: bool = _setting(False, "bool", PROTOCOL, "Refuse the deletion of uploads.")
    disable_concatenation: bool = _setting(False, "bool", PROTOCOL, "Refuse partial and final uploads.")
    max_size: int = _setting(0, "int", PROTOCOL, "Maximum size of a single upload in bytes; 0 means no limit.")
    metadata_strict: bool = _setting(False, "bool", PROTOCOL, "Refuse uploads whose Upload-Metadata is invalid.", ours=True)
    expiry: float = _setting(
        0.0, "duration", PROTOCOL, "Unfinished uploads expire this long after their last byte; 0 means never.", ours=True
    )
    expiry_sweep_interval: float = _setting(60.0, "duration", PROTOCOL, "How often expired uploads are looked for.", ours=True)
    status_interval: float = _setting(
        1.0, "duration", PROTOCOL, "How often those who watch uploads are told of progress; 100ms at least.", ours=True
    )

    disable_cors: bool = _setting(False, "bool", CORS, "Send no CORS headers and do not look at Origin.")
    cors_allow_origin: re.Pattern[str] = _setting(
        re.compile(".*", re.ASCII), "regexp", CORS, "Regular expression that allowed origins match, unanchored, in Go's syntax."
    )
    cors_allow_credentials: bool = _setting(False, "bool", CORS, "Send Access-Control-Allow-Credentials: true.")
    cors_allow_methods: str = _setting("", "text", CORS, "Methods to add to Access-Control-Allow-Methods, comma-separated.")
    cors_allow_headers: str = _setting("", "text", CORS, "Headers to add to Access-Control-Allow-Headers, comma-separated.")
    cors_max_age: int = _setting(86400, "int", CORS, "Value of Access-Control-Max-Age in seconds.")
    cors_expose_headers: str = _setting("", "text", CORS, "Headers to add to Access-Control-Expose-Headers, comma-separated.")

    upload_dir: Path = _setting(Path("data"), "path", FILES, "Directory to store uploads in; created if missing.")
    dir_perms: int = _setting(0o775, "octal", FILES, "Permissions of created directories, in octal, subject to the umask.")
    file_perms: int = _setting(0o664, "octal", FILES, "Permissions of created files, in octal, subject to the umask.")
    durability: Literal["none", "final", "every-patch"] = _setting(
        "final",
        "choice",
        FILES,
        "When bytes must have reached the disk before they are confirmed: never, when the upload is complete, or always.",
        choices=("none", "final", "every-patch"),
        ours=True,
    )
    filelock_holder_poll_interval: float = _setting(
        5.0, "duration", FILES, "Without effect: the holder of a lock is signalled and does not poll."
    )
    filelock_acquirer_poll_interval: float = _setting(
        2.0, "duration", FILES, "Without effect: who waits for a lock is signalled and does not poll."
    )

    workers: int = _setting(1, "int", PROCESSES, "Processes that serve requests; more than one share the port.", ours=True)

    show_greeting: bool = _setting(True, "bool", LOGGING, "Answer unknown paths with a greeting.")
    verbose: bool = _setting(True, "bool", LOGGING, "Log at debug level.")
    show_startup_logs: bool = _setting(True, "bool", LOGGING, "Print how the server is set up when it starts.")
    log_format: Literal["text", "json"] = _setting("text", "choice", LOGGING, "Form of the log.", choices=("text", "json"))

    expose_metrics: bool = _setting(True, "bool", OBSERVING, "Answer with metrics for Prometheus under the metrics path.")
    metrics_path: str = _setting("/metrics", "text", OBSERVING, "Path of the metrics.")
    health_path: str = _setting(
        "/health", "text", OBSERVING, "Path that answers 200 while the process lives; empty for none.", ours=True
    )
    ready_path: str = _setting(
        "/ready", "text", OBSERVING, "Path that answers 200 while uploads can be taken, else 503; empty for none.", ours=True
    )
    traces_endpoint: str = _setting(
        "", "text", OBSERVING, "URL to send OpenTelemetry traces to, by OTLP over HTTP; empty for none.", ours=True
    )

    network_timeout: float = _setting(
        60.0, "duration", TIMEOUTS, "A connection that is silent for this long is considered dead; 0 means the default."
    )
    shutdown_timeout: float = _setting(
        10.0, "duration", TIMEOUTS, "How long running requests may take to end when the server stops; 0 means not to wait."
    )
    acquire_lock_timeout: float = _setting(
        20.0, "duration", TIMEOUTS, "How long a request waits for the upload's lock; 0 means the default."
    )
    request_completion_timeout: float = _setting(
        10.0, "duration", TIMEOUTS, "Without effect: what has arrived is stored, however long that takes."
    )

    auth_tokens: Path | None = _setting(
        None, "path", AUTHORIZATION, "File of bearer tokens: a token, its owner and possibly actions on each line.", ours=True
    )
    auth_jwt_keys: Path | None = _setting(
        None, "path", AUTHORIZATION, "JWKS file with the keys that JWTs are signed with.", ours=True
    )
    auth_jwt_secret: Path | None = _setting(
        None, "path", AUTHORIZATION, "Secret file with the keys of JWTs that are signed by HMAC.", ours=True
    )
    auth_jwt_issuer: str = _setting("", "text", AUTHORIZATION, "What JWTs must have as issuer (iss); empty is any.", ours=True)
    auth_jwt_audience: str = _setting(
        "", "text", AUTHORIZATION, "What JWTs must have among their audience (aud); empty is none.", ours=True
    )
    auth_jwt_owner_claim: str = _setting("sub", "text", AUTHORIZATION, "The claim of a JWT that says whose it is.", ours=True)
    auth_intents: Path | None = _setting(
        None, "path", AUTHORIZATION, "Secret file with the keys that upload intents are signed with.", ours=True
    )
    auth_python: str = _setting("", "text", AUTHORIZATION, "Python function that decides, as module:function.", ours=True)
    url_capabilities: bool = _setting(
        False, "bool", AUTHORIZATION, "Give out upload URLs that are themselves the permission to go on uploading.", ours=True
    )
    auth_url_secret: Path | None = _setting(
        None, "path", AUTHORIZATION, "Secret file for -url-capabilities; unless given, that of -auth-intents.", ours=True
    )
    url_capability_actions: str = _setting(
        "append,describe,terminate", "text", AUTHORIZATION, "What such a URL allows; download may be added.", ours=True
    )
    url_capability_lifetime: float = _setting(
        0.0, "duration", AUTHORIZATION, "How long such a URL is valid; 0 means as long as the upload is there.", ours=True
    )

    hooks_enabled_events: str = _setting(
        "pre-create,post-create,post-receive,post-terminate,post-finish",
        "text",
        HOOKS,
        "Hooks that are asked and told, comma-separated; empty for all.",
    )
    progress_hooks_interval: float = _setting(
        1.0, "duration", HOOKS, "How often post-receive tells of an upload that is being received; 0 means the default."
    )
    hooks_dir: Path | None = _setting(None, "path", HOOKS, "Directory of programs that are named like the hooks they are.")
    hooks_timeout: float = _setting(
        300.0, "duration", HOOKS, "How long a hook may take that is a program, a gRPC service or Python.", ours=True
    )
    hooks_http: str = _setting("", "text", HOOKS, "URL of a web service that hooks are sent to.")
    hooks_http_forward_headers: str = _setting(
        "", "text", HOOKS, "Headers of the client's request to send to the web service, comma-separated."
    )
    hooks_http_retry: int = _setting(3, "int", HOOKS, "Attempts in all to reach the web service, at least one.")
    hooks_http_backoff: float = _setting(1.0, "duration", HOOKS, "Pause between two attempts to reach the web service.")
    hooks_http_timeout: float = _setting(15.0, "duration", HOOKS, "How long the web service may take, all attempts together.")
    hooks_http_size_limit: int = _setting(5120, "int", HOOKS, "Largest answer of the web service in bytes.")
    hooks_http_skip_verify: bool = _setting(False, "bool", HOOKS, "Accept any certificate of the web service.")
    hooks_secret_file: Path | None = _setting(
        None, "path", HOOKS, "File with the secret that messages to the web service are signed with.", ours=True
    )
    hooks_grpc: str = _setting("", "text", HOOKS, "Host and port of a gRPC service that answers hooks.")
    hooks_grpc_retry: int = _setting(3, "int", HOOKS, "Attempts in all to reach the gRPC service, at least one.")
    hooks_grpc_backoff: float = _setting(1.0, "duration", HOOKS, "Pause between two attempts to reach the gRPC service.")
    hooks_grpc_secure: bool = _setting(False, "bool", HOOKS, "Use TLS with the gRPC service.")
    hooks_grpc_server_tls_certificate: Path | None = _setting(
        None, "path", HOOKS, "PEM file with the certificate of the gRPC service or of who signed it."
    )
    hooks_grpc_client_tls_certificate: Path | None = _setting(
        None, "path", HOOKS, "PEM file with our certificate for mutual TLS with the gRPC service."
    )
    hooks_grpc_client_tls_key: Path | None = _setting(None, "path", HOOKS, "PEM file with the key of that certificate.")
    hooks_grpc_forward_headers: str = _setting(
        "", "text", HOOKS, "Headers of the client's request to send to the gRPC service, comma-separated."
    )
    hooks_python: str = _setting(
        "", "text", HOOKS, "Python function or object that answers hooks, as module:object.", ours=True
    )
    hooks_plugin: str = _setting("", "text", HOOKS, "Not supported: plugins of tusd are for Go programs.")

    events: Literal["durable", "fire-and-forget"] = _setting(
        "durable",
        "choice",
        EVENTS,
        "Whether events for hooks survive the server and are delivered at least once, or are tried once.",
        choices=("durable", "fire-and-forget"),
        ours=True,
    )
    events_max_attempts: int = _setting(20, "int", EVENTS, "Attempts to deliver an event before it is given up.", ours=True)
    events_backoff: float = _setting(
        1.0, "duration", EVENTS, "Pause after the first failed attempt; it doubles with each further one.", ours=True
    )
    events_max_backoff: float = _setting(600.0, "duration", EVENTS, "Longest pause between two attempts.", ours=True)
    events_retention: float = _setting(
        86400.0, "duration", EVENTS, "How long delivered events are kept to be replayed; 0 means not at all.", ours=True
    )
    events_concurrency: int = _setting(
        16, "int", EVENTS, "Events that are delivered at once, per worker and receiver; one at a time per upload.", ours=True
    )

    quota: int = _setting(0, "size", LIMITS, "What the uploads of one owner may take up together; 0 means no limit.", ours=True)
    max_uploads: int = _setting(0, "int", LIMITS, "Uploads that may run at once; 0 means no limit.", ours=True)
    max_uploads_per_owner: int = _setting(
        0, "int", LIMITS, "Uploads of one owner that may run at once; 0 means no limit.", ours=True
    )
    create_rate: int = _setting(
        0, "int", LIMITS, "Uploads that an owner, else an address, may create in a minute; 0 means no limit.", ours=True
    )
    reserve_space: bool = _setting(
        False, "bool", LIMITS, "Refuse uploads that do not fit on the disk beside what others have still to receive.", ours=True
    )
    min_free_space: int = _setting(
        0, "size", LIMITS, "What uploads must leave free on the disk; it implies -reserve-space. 0 means nothing.", ours=True
    )
    min_throughput: int = _setting(
        0, "size", LIMITS, "Bytes a second below which a request that sends is stopped; 0 means no minimum.", ours=True
    )
    allowed_types: str = _setting(
        "", "text", LIMITS, "Media types that may be uploaded, such as image/*, comma-separated; empty means all.", ours=True
    )
    allowed_extensions: str = _setting(
        "", "text", LIMITS, "File extensions that may be uploaded, such as jpg, comma-separated; empty means all.", ours=True
    )

    extensions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    """Values of extensions' options, by the names of extension and option: `{"cas": {"cas": "keep"}}`. What is absent has its
    default. Who may use it, and which names and values there are, `tusd_py.plugins` knows."""

    def __post_init__(self) -> None:
        for name, value in _normalised(self):
            object.__setattr__(self, name, value)
        for sentence in _objections(self):
            raise SettingsError(sentence)

    @property
    def tls(self) -> bool:
        return self.tls_certificate is not None


def described() -> tuple[Setting, ...]:
    """All settings of the server itself, in the order of their fields."""
    return tuple(_describe(one) for one in fields(Settings) if one.metadata)


def _describe(one: Field[Any]) -> Setting:
    assert one.default is not MISSING
    facts = dict(one.metadata)
    ours = facts.pop("ours")
    bare = "true" if facts["kind"] == "bool" else None
    return Setting(name=one.name, default=one.default, tusd=None if ours else one.name.replace("_", "-"), bare=bare, **facts)


# tusd's handler takes zero for "the default" in these (pkg/handler/config.go); a zero timeout would make the server useless.
_ZERO_MEANS_DEFAULT = (
    *("network_timeout", "acquire_lock_timeout", "request_completion_timeout"),
    "progress_hooks_interval",
)


def _normalised(settings: Settings) -> Iterator[tuple[str, Any]]:
    yield "base_path", f"/{settings.base_path.strip('/')}/".replace("//", "/")
    # A later change of the working directory must not move the uploads.
    yield "upload_dir", settings.upload_dir.absolute()
    yield "hooks_dir", settings.hooks_dir and settings.hooks_dir.absolute()
    yield "extensions", {name: _copied(name, values) for name, values in settings.extensions.items()}
    defaults = {one.name: one.default for one in fields(Settings)}
    for name in _ZERO_MEANS_DEFAULT:
        yield name, getattr(settings, name) or defaults[name]


def _copied(extension: str, values: object) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise SettingsError(f"the options of the extension {extension} are {values!r}: expected values by the options' names")
    return dict(values)


def _objections(settings: Settings) -> Iterator[str]:
    if settings.enable_h2c:
        yield "-enable-h2c is not supported: this server speaks HTTP/1.1; put nginx in front of it for HTTP/2"
    if not 0 <= settings.port <= 65535:
        yield f"-port is {settings.port}: expected a number from 0 to 65535"
    if settings.tls_certificate and not settings.tls_key:
        yield "-tls-certificate is given without -tls-key: both are needed for TLS"
    if settings.tls_key and not settings.tls_certificate:
        yield "-tls-key is given without -tls-certificate: both are needed for TLS"
    if not 1 <= settings.workers <= MAX_WORKERS:
        yield f"-workers is {settings.workers}: expected a number from 1 to {MAX_WORKERS}"
    if settings.max_size < 0:
        yield f"-max-size is {settings.max_size}: expected a number of bytes, or 0 for no limit"
    if settings.cors_max_age < 0:
        yield f"-cors-max-age is {settings.cors_max_age}: expected a number of seconds"
    if any(character in settings.base_path for character in "?#") or not settings.base_path.isprintable():
        yield f"-base-path is {settings.base_path!r}: expected a path such as /files/, without query or fragment"
    if settings.expiry and not settings.expiry_sweep_interval:
        yield "-expiry-sweep-interval is 0: expected a duration such as 1m while -expiry is set"
    yield from _objections_to_authorization(settings)
    if 0 <= settings.status_interval < 0.1:
        yield "-status-interval is too short: expected a duration of 100ms or more"
    yield from _objections_to_events(settings)
    yield from objections_to_hooks(settings)
    yield from _objections_to_limits(settings)
    yield from _objections_to_pages(settings)
    yield from _negative_durations(settings)


def _objections_to_limits(settings: Settings) -> Iterator[str]:
    for one in described():
        value = getattr(settings, one.name)
        if one.group == LIMITS and one.kind in ("int", "size") and not 0 <= value <= MAX_LENGTH:
            yield f"-{one.flag} is {value}: expected a number from 1, or 0 for none"
    for flag, parse, text in (
        ("-allowed-types", parse_types, settings.allowed_types),
        ("-allowed-extensions", parse_extensions, settings.allowed_extensions),
    ):
        try:
            parse(text)
        except ValueError as error:
            yield f"{flag}: {error}"


def _objections_to_pages(settings: Settings) -> Iterator[str]:
    """About the paths of the operator's pages, and where traces go."""
    taken = {settings.base_path: "-base-path", settings.base_path.rstrip("/"): "-base-path"}
    pages = [("-metrics-path", settings.metrics_path)] if settings.expose_metrics else []
    pages += [("-health-path", settings.health_path)] if settings.health_path else []
    pages += [("-ready-path", settings.ready_path)] if settings.ready_path else []
    for flag, path in pages:
        if not path.startswith("/") or not path.isprintable() or any(character in path for character in "?#"):
            yield f"{flag} is {path!r}: expected a path such as /metrics, without query or fragment"
        if path in taken:
            yield f"{flag} is {path!r}, which is the path of {taken[path]}: expected another one"
        taken[path] = flag
    if settings.traces_endpoint:
        yield from _objections_to_traces(settings.traces_endpoint)


def _objections_to_traces(endpoint: str) -> Iterator[str]:
    if not re.match(r"https?://[^/]", endpoint) or not endpoint.isprintable():
        yield f"-traces-endpoint is {endpoint!r}: expected a URL such as http://localhost:4318/v1/traces"
    try:
        found = find_spec("opentelemetry.exporter.otlp.proto.http") and find_spec("opentelemetry.sdk")
    except ModuleNotFoundError:
        found = None
    if found is None:
        yield "-traces-endpoint needs packages that are not installed: install tusd-py[otel]"


def _objections_to_events(settings: Settings) -> Iterator[str]:
    if settings.events_max_attempts < 1:
        yield f"-events-max-attempts is {settings.events_max_attempts}: expected a number from 1"
    if not 1 <= settings.events_concurrency <= MAX_CONCURRENCY:
        yield f"-events-concurrency is {settings.events_concurrency}: expected a number from 1 to {MAX_CONCURRENCY}"
    if settings.events_backoff == 0:
        yield "-events-backoff is 0: expected a duration such as 1s, since a receiver that fails at once would get no rest"
    if 0 <= settings.events_max_backoff < settings.events_backoff:
        yield "-events-max-backoff is shorter than -events-backoff: expected a longer duration"


def _objections_to_authorization(settings: Settings) -> Iterator[str]:
    jwt = settings.auth_jwt_keys or settings.auth_jwt_secret
    others = settings.auth_tokens or jwt or settings.auth_python
    if (settings.auth_jwt_issuer or settings.auth_jwt_audience) and not jwt:
        yield "-auth-jwt-issuer and -auth-jwt-audience are for JWTs: expected -auth-jwt-keys or -auth-jwt-secret with them"
    if settings.url_capabilities and not (settings.auth_url_secret or settings.auth_intents):
        yield "-url-capabilities is given without a secret: expected -auth-url-secret or -auth-intents with it"
    if settings.url_capabilities and not (others or settings.auth_intents):
        yield "-url-capabilities lets nobody create uploads: expected one of the -auth-... settings with it"
    if settings.auth_intents and not (others or settings.url_capabilities):
        yield "-auth-intents lets nobody send bytes to what was created: expected -url-capabilities with it"


def _negative_durations(settings: Settings) -> Iterator[str]:
    for one in described():
        if one.kind == "duration" and getattr(settings, one.name) < 0:
            yield f"-{one.flag} is negative: expected a duration such as 10s"


# Each delivery may be a connection or a process.
MAX_CONCURRENCY = 1000

# More processes than any machine has cores for are a slip of the finger; each takes memory.
MAX_WORKERS = 256
