"""Settings from flags, environment and file: what each accepts, which one wins, and what is said when one is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tusd_py.cli.goflags import FlagError
from tusd_py.cli.sources import VersionRequested, load
from tusd_py.cli.uncovered import INSTEAD, UNCOVERED
from tusd_py.settings import Setting, Settings, SettingsError, described

# Flag: text, value. One value other than the default for every setting.
SAMPLES: dict[str, tuple[str, Any]] = {
    "host": ("127.0.0.1", "127.0.0.1"),
    "port": ("0x50", 80),
    "unix-sock": ("/run/tus.sock", Path("/run/tus.sock")),
    "base-path": ("/uploads/", "/uploads/"),
    "behind-proxy": ("true", True),
    "tls-certificate": ("c.pem", Path("c.pem")),
    "tls-key": ("k.pem", Path("k.pem")),
    "tls-mode": ("tls13", "tls13"),
    "disable-download": ("1", True),
    "disable-termination": ("t", True),
    "disable-concatenation": ("TRUE", True),
    "max-size": ("1_000", 1000),
    "metadata-strict": ("true", True),
    "expiry": ("24h", 86400.0),
    "expiry-sweep-interval": ("5m", 300.0),
    "status-interval": ("250ms", 0.25),
    "disable-cors": ("true", True),
    "cors-allow-origin": ("example", re.compile("example", re.ASCII)),
    "cors-allow-credentials": ("true", True),
    "cors-allow-methods": ("PUT, TRACE", "PUT, TRACE"),
    "cors-allow-headers": ("X-A", "X-A"),
    "cors-max-age": ("60", 60),
    "cors-expose-headers": ("X-B", "X-B"),
    "upload-dir": ("/srv/tus", Path("/srv/tus")),
    "dir-perms": ("700", 0o700),
    "file-perms": ("0600", 0o600),
    "durability": ("every-patch", "every-patch"),
    "filelock-holder-poll-interval": ("1s", 1.0),
    "filelock-acquirer-poll-interval": ("1s", 1.0),
    "workers": ("4", 4),
    "show-greeting": ("false", False),
    "verbose": ("0", False),
    "show-startup-logs": ("F", False),
    "log-format": ("json", "json"),
    "network-timeout": ("1m30s", 90.0),
    "shutdown-timeout": ("0", 0.0),
    "acquire-lock-timeout": ("500ms", 0.5),
    "request-completion-timeout": ("1.5s", 1.5),
    "auth-tokens": ("tokens", Path("tokens")),
    "auth-jwt-keys": ("/etc/jwks.json", Path("/etc/jwks.json")),
    "auth-jwt-secret": ("secret", Path("secret")),
    "auth-jwt-issuer": ("https://id.example", "https://id.example"),
    "auth-jwt-audience": ("uploads", "uploads"),
    "auth-jwt-owner-claim": ("email", "email"),
    "auth-intents": ("secret", Path("secret")),
    "auth-python": ("ours.uploads:authorize", "ours.uploads:authorize"),
    "url-capabilities": ("true", True),
    "auth-url-secret": ("secret", Path("secret")),
    "url-capability-actions": ("append", "append"),
    "url-capability-lifetime": ("24h", 86400.0),
    "expose-metrics": ("false", False),
    "metrics-path": ("/m", "/m"),
    "health-path": ("", ""),
    "ready-path": ("/readyz", "/readyz"),
    "traces-endpoint": ("http://localhost:4318/v1/traces", "http://localhost:4318/v1/traces"),
    "hooks-enabled-events": ("pre-finish", "pre-finish"),
    "progress-hooks-interval": ("5s", 5.0),
    "hooks-dir": ("/srv/tusd-hooks", Path("/srv/tusd-hooks")),
    "hooks-timeout": ("30s", 30.0),
    "hooks-http": ("http://localhost:8000/hooks", "http://localhost:8000/hooks"),
    "hooks-http-forward-headers": ("Authorization", "Authorization"),
    "hooks-http-retry": ("5", 5),
    "hooks-http-backoff": ("2s", 2.0),
    "hooks-http-timeout": ("1m", 60.0),
    "hooks-http-size-limit": ("65536", 65536),
    "hooks-http-skip-verify": ("true", True),
    "hooks-secret-file": ("secret", Path("secret")),
    "hooks-grpc": ("localhost:8000", "localhost:8000"),
    "hooks-grpc-retry": ("5", 5),
    "hooks-grpc-backoff": ("2s", 2.0),
    "hooks-grpc-secure": ("true", True),
    "hooks-grpc-server-tls-certificate": ("service.pem", Path("service.pem")),
    "hooks-grpc-client-tls-certificate": ("client.pem", Path("client.pem")),
    "hooks-grpc-client-tls-key": ("client.key", Path("client.key")),
    "hooks-grpc-forward-headers": ("Authorization", "Authorization"),
    "hooks-python": ("ours.uploads:Hooks", "ours.uploads:Hooks"),
    "events": ("fire-and-forget", "fire-and-forget"),
    "events-max-attempts": ("3", 3),
    "events-backoff": ("100ms", 0.1),
    "events-max-backoff": ("1h", 3600.0),
    "events-retention": ("0", 0.0),
    "events-concurrency": ("4", 4),
    "quota": ("10GiB", 10 << 30),
    "max-uploads": ("100", 100),
    "max-uploads-per-owner": ("8", 8),
    "create-rate": ("60", 60),
    "reserve-space": ("true", True),
    "min-free-space": ("1_000", 1000),
    "min-throughput": ("1KB", 1000),
    "allowed-types": ("image/*", "image/*"),
    "allowed-extensions": (".jpg,png", ".jpg,png"),
}
PAIRED = {
    "tls-certificate": "tls-key",
    "tls-key": "tls-certificate",
    "auth-jwt-issuer": "auth-jwt-secret",
    "auth-jwt-audience": "auth-jwt-secret",
    "auth-intents": "url-capabilities",
    "hooks-secret-file": "hooks-http",
    "hooks-grpc-secure": "hooks-grpc-server-tls-certificate",
    "hooks-grpc-client-tls-certificate": "hooks-grpc-client-tls-key",
    "hooks-grpc-client-tls-key": "hooks-grpc-client-tls-certificate",
    "url-capabilities": "auth-intents",
}
SETTABLE = [setting for setting in described() if setting.name not in ("enable_h2c", "hooks_plugin")]


def by_flag(setting: Setting) -> str:
    return setting.flag


@pytest.mark.parametrize("setting", SETTABLE, ids=by_flag)
def test_every_setting_from_every_source(setting: Setting, tmp_path: Path) -> None:
    text, value = SAMPLES[setting.flag]
    names = [setting, *(other for other in SETTABLE if other.flag == PAIRED.get(setting.flag))]
    texts = {one: SAMPLES[one.flag][0] for one in names}
    file = tmp_path / "config.toml"
    file.write_text(
        "".join(f'{one.flag} = "{texts[one]}"\n' for one in names if one.kind not in ("bool", "int"))
        + "".join(native(one, SAMPLES[one.flag][1]) for one in names)
    )
    loaded = [
        load([f"-{one.flag}={texts[one]}" for one in names], {}),
        load([], {one.variable: texts[one] for one in names}),
        load(["-config", str(file)], {}),
        load([], {"TUSD_PY_CONFIG": str(file)}),
    ]
    assert [getattr(settings, setting.name) for settings in loaded] == [value] * 4, text
    assert getattr(Settings(), setting.name) != value


def native(setting: Setting, value: Any) -> str:
    """TOML's own notation for booleans and integers."""
    return f"{setting.flag} = {str(value).lower()}\n" if setting.kind in ("bool", "int") else ""


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('host = "file"\nport = 1\nmax-size = 1\n')
    settings = load(["-host=flag", f"-config={file}"], {"TUSD_PY_HOST": "environment", "TUSD_PY_PORT": "2"})
    assert (settings.host, settings.port, settings.max_size, settings.workers) == ("flag", 2, 1, 1)


def test_the_config_flag_wins_over_its_variable(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(f'host = "{name}"')
    assert load([f"-config={tmp_path / 'a'}"], {"TUSD_PY_CONFIG": str(tmp_path / "b")}).host == "a"


def test_the_last_of_repeated_flags_wins() -> None:
    assert load(["-port=1", "-port", "2"], {}).port == 2


@pytest.mark.parametrize(("given", "served"), [("files", "/files/"), ("/a/b", "/a/b/"), ("", "/"), ("/", "/"), ("a/", "/a/")])
def test_slashes_of_the_base_path(given: str, served: str) -> None:
    assert load([f"-base-path={given}"], {}).base_path == served


def test_the_upload_directory_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (load([], {}).upload_dir, load(["-upload-dir=x"], {}).upload_dir) == (tmp_path / "data", tmp_path / "x")


@pytest.mark.parametrize(
    "flag", ["network-timeout", "acquire-lock-timeout", "request-completion-timeout", "progress-hooks-interval"]
)
def test_zero_means_the_default_where_it_does_in_tusd(flag: str) -> None:
    assert load([f"-{flag}=0"], {}) == Settings()


REFUSED = {
    "-port=abc": 'invalid value "abc" for flag -port: parse error: expected a whole number',
    "-verbose=maybe": 'invalid boolean value "maybe" for -verbose: parse error: expected true or false',
    "-expiry=10": 'invalid value "10" for flag -expiry: parse error: expected a duration such as 10s, 1h30m or 500ms',
    "-log-format=xml": 'invalid value "xml" for flag -log-format: expected text or json',
    "-tls-mode=ssl3": 'invalid value "ssl3" for flag -tls-mode: expected tls12, tls12-strong or tls13',
    "-dir-perms=rwx": 'invalid value "rwx" for flag -dir-perms: parse error: expected permissions in octal, such as 775',
    "-upload-dir=": 'invalid value "" for flag -upload-dir: expected a path',
    "-expose-metrics=maybe": 'invalid boolean value "maybe" for -expose-metrics: parse error: expected true or false',
    "-foo": "flag provided but not defined: -foo",
}


@pytest.mark.parametrize(("argument", "message"), REFUSED.items())
def test_flags_that_cannot_be_understood(argument: str, message: str) -> None:
    with pytest.raises(FlagError) as caught:
        load([argument], {})
    assert str(caught.value) == message


def test_a_bad_origin_pattern() -> None:
    with pytest.raises(FlagError, match=re.escape('invalid value "(" for flag -cors-allow-origin: missing closing )')):
        load(["-cors-allow-origin=("], {})


OBJECTIONS = {
    "-enable-h2c": "-enable-h2c is not supported: this server speaks HTTP/1.1; put nginx in front of it for HTTP/2",
    "-port=65536": "-port is 65536: expected a number from 0 to 65535",
    "-port=-1": "-port is -1: expected a number from 0 to 65535",
    "-tls-certificate=c": "-tls-certificate is given without -tls-key: both are needed for TLS",
    "-tls-key=k": "-tls-key is given without -tls-certificate: both are needed for TLS",
    "-workers=0": "-workers is 0: expected a number from 1 to 256",
    "-max-size=-1": "-max-size is -1: expected a number of bytes, or 0 for no limit",
    "-cors-max-age=-1": "-cors-max-age is -1: expected a number of seconds",
    "-base-path=/a?b": "-base-path is '/a?b/': expected a path such as /files/, without query or fragment",
}


@pytest.mark.parametrize(("argument", "message"), OBJECTIONS.items())
def test_settings_that_make_no_sense(argument: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load([argument], {})
    assert str(caught.value) == message


def test_expiry_needs_a_sweep() -> None:
    with pytest.raises(SettingsError, match="expiry-sweep-interval"):
        load(["-expiry=1h", "-expiry-sweep-interval=0"], {})
    with pytest.raises(SettingsError, match="status-interval"):
        load(["-status-interval=99ms"], {})


def test_a_negative_duration_cannot_be_built() -> None:
    with pytest.raises(SettingsError, match="-shutdown-timeout is negative"):
        Settings(shutdown_timeout=-1)


def test_settings_never_change() -> None:
    with pytest.raises(AttributeError):
        Settings().port = 1  # type: ignore[misc]


ENVIRONMENTS = [
    ({"TUSD_PY_PORT": "abc"}, 'invalid value "abc" for TUSD_PY_PORT: parse error: expected a whole number'),
    ({"TUSD_PY_PROT": "80"}, "unknown environment variable TUSD_PY_PROT: did you mean TUSD_PY_PORT?"),
    ({"TUSD_PY_XYZZY": ""}, "unknown environment variable TUSD_PY_XYZZY"),
]


@pytest.mark.parametrize(("environ", "message"), ENVIRONMENTS)
def test_wrong_variables(environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load([], environ)
    assert str(caught.value) == message


def test_variables_of_others_are_left_alone() -> None:
    assert load([], {"PATH": "/bin", "TUSD_PORT": "1", "TUSD_PY_STRICT": "1", "TUSD_PY_TEST_SEED": "1"}) == Settings()


FILES = {
    'port = "abc"': 'invalid value abc for port in FILE: parse error: expected a whole number',
    "port = 1.5": "invalid value 1.5 for port in FILE: expected a whole number",
    "port = true": "invalid value true for port in FILE: expected a whole number",
    "verbose = 1": "invalid value 1 for verbose in FILE: expected true or false",
    "host = 1": "invalid value 1 for host in FILE: expected a string",
    "dir-perms = 775": 'invalid value 775 for dir-perms in FILE: expected a string with octal digits, such as "775"',
    "network-timeout = 10": 'invalid value 10 for network-timeout in FILE: expected a string with a unit, such as "10s"',
    "prot = 80": 'unknown key "prot" in FILE: did you mean port?',
    "xyzzy = 80": 'unknown key "xyzzy" in FILE',
    "[tls]\nmode = 1": 'unknown key "tls" in FILE: did you mean tls-key?',
    's3-bucket = "b"': "-s3-bucket asks for storage in S3, which this version does not support: "
    f"{INSTEAD['s3-bucket']} (in FILE)",
    's3-disable-ssl = "x"': "parse error: expected true or false (in FILE)",
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), FILES.items())
def test_wrong_files(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(content)
    with pytest.raises(SettingsError) as caught:
        load([f"-config={file}"], {})
    assert str(caught.value) == message.replace("FILE", str(file))


def test_a_file_that_is_no_toml_or_not_there(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    with pytest.raises(SettingsError, match=r"cannot read the configuration file .*: No such file or directory"):
        load([f"-config={file}"], {})
    file.write_bytes(b"\xff = 1")
    with pytest.raises(SettingsError, match="is not valid TOML"):
        load([f"-config={file}"], {})


def test_a_zero_duration_needs_no_unit_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("shutdown-timeout = 0\n")
    assert load([f"-config={file}"], {}).shutdown_timeout == 0


def test_version() -> None:
    with pytest.raises(VersionRequested):
        load(["-version"], {})
    assert load(["-version=false"], {}) == Settings()


ASKING = [
    "-enable-experimental-protocol", "-s3-bucket=b", "-gcs-bucket=b", "-azure-storage=a",
    "-expose-pprof",
]  # fmt: skip
NOT_ASKING = [
    ["-enable-experimental-protocol=false"],
    ["-expose-pprof=false", "-pprof-path=/p"],
    ["-hooks-http=", "-hooks-dir", "", "-s3-bucket="],
    ["-s3-part-size=1", "-s3-disable-ssl"],
]


@pytest.mark.parametrize("argument", ASKING)
def test_what_is_not_covered_is_refused(argument: str) -> None:
    with pytest.raises(SettingsError, match=r"^-[a-z0-9-]+ asks for .+, which this version does not support: .+"):
        load([argument], {})


@pytest.mark.parametrize("arguments", NOT_ASKING)
def test_what_asks_for_nothing_is_accepted(arguments: list[str]) -> None:
    assert load(arguments, {}) == Settings()


def test_no_flag_is_both_covered_and_not() -> None:
    assert not set(UNCOVERED) & {setting.flag for setting in described()}
