"""References are resolved where they may stand, and what they stand for is never shown."""

import json
import traceback
from pathlib import Path

import pytest

from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.conninfo import is_loopback, parse_conninfo
from cdc_daemon.config.load import load
from cdc_daemon.config.sources import PostgresSourceConfig
from cdc_daemon.model.errors import ConfigurationError
from tests.unit.test_config_problems import changed, problems

SECRET = "hunter2-Zm9v"
DSN = "dsn: postgresql://cdc@127.0.0.1/erp"


def loaded(text: str, folder: Path, **environ: str) -> Configuration:
    path = folder / "c.yaml"
    path.write_text(text)
    path.chmod(0o600)
    return load([path], environ=environ)


def password(configuration: Configuration) -> str | None:
    return configuration.sources["erp"].conninfo.get("password")


def test_every_form_is_resolved(tmp_path: Path) -> None:
    (tmp_path / "erp").write_text(SECRET + "\n\n")
    forms = {
        "${PW}": SECRET,
        "${ABSENT:-other}": "other",
        "${EMPTY:-other}": "other",
        "${EMPTY}x": "x",
        f"${{file:{tmp_path}/erp}}": SECRET + "\n",
        "${cred:erp}": SECRET + "\n",
        "'a$${PW}b'": "a${PW}b",
        "'${PW}-${PW}'": f"{SECRET}-{SECRET}",
        "'$PW $$ {PW}'": "$PW $$ {PW}",
    }
    for written, expected in forms.items():
        text = changed(DSN, f"{DSN}\n    password: {written}")
        found = loaded(text, tmp_path, PW=SECRET, EMPTY="", CREDENTIALS_DIRECTORY=str(tmp_path))
        assert password(found) == expected, written


def test_a_resolved_value_is_not_resolved_again(tmp_path: Path) -> None:
    text = changed(DSN, f"{DSN}\n    password: '${{PW}}'")
    assert password(loaded(text, tmp_path, PW="${HOME}")) == "${HOME}"


def test_a_password_inside_an_address_moves_into_its_own_field(tmp_path: Path) -> None:
    text = changed(DSN, "dsn: 'postgresql://cdc:p%40ss@127.0.0.1:5433/erp?application_name=x'")
    source = loaded(text, tmp_path).sources["erp"]
    assert isinstance(source, PostgresSourceConfig)
    assert source.dsn == "postgresql://cdc@127.0.0.1:5433/erp?application_name=x"
    assert source.conninfo == {
        "user": "cdc", "host": "127.0.0.1", "port": "5433", "dbname": "erp",
        "application_name": "x", "password": "p@ss",
    }  # fmt: skip


@pytest.mark.parametrize(
    "written,expected",
    [
        ("${ABSENT}", "the environment has no variable ABSENT (set it, or write ${VAR:-default})"),
        (
            "${cred:erp}",
            "the credential erp cannot be read: CREDENTIALS_DIRECTORY is not set "
            "(run under systemd with LoadCredential=erp:…, or set the directory)",
        ),
        (
            "${file:/nowhere/x}",
            "the file /nowhere/x cannot be read: No such file or directory "
            "(check that it is there and readable)",
        ),
        ("${file:x}", "${file:…} needs an absolute path (write ${file:/path})"),
        ("${cred:../x}", "${cred:…} needs the name of a credential (write ${cred:name})"),
        (
            "'${PW'",
            "a reference that begins with ${ does not end (write ${VAR}, ${VAR:-default}, "
            "${file:/path} or ${cred:name}; $${ for the text ${)",
        ),
        (
            "${A-B}",
            "not a reference that can be read (write ${VAR}, ${VAR:-default}, "
            "${file:/path} or ${cred:name}; $${ for the text ${)",
        ),
    ],
)
def test_what_cannot_be_resolved_is_named_at_its_place(
    written: str, expected: str, tmp_path: Path
) -> None:
    text = changed(DSN, f"{DSN}\n    password: {written}")
    assert problems(text, tmp_path) == [f"c.yaml:5:15: {expected}"]


def test_an_offline_check_needs_no_files_and_credentials(tmp_path: Path) -> None:
    text = changed(DSN, "dsn: ${file:/nowhere/dsn}\n    password: ${cred:erp}")
    path = tmp_path / "c.yaml"
    path.write_text(text)
    assert load([path], environ={}, resolve_secrets=False).mappings
    path.write_text(text.replace("cred:erp", "cred:/erp"))
    with pytest.raises(ConfigurationError, match="needs the name of a credential"):
        load([path], environ={}, resolve_secrets=False)


@pytest.mark.parametrize(
    "old,new",
    [
        ("kind: postgres", "kind: ${S}"),
        (DSN, "dsn: ${S}"),
        (DSN, "dsn: postgresql://cdc:${S}@[/x"),
        (DSN, "dsn: ${S}://cdc:${S}@h/d"),
        (DSN, "dsn: 'host=h dbname=d ${S}=x'"),
        (DSN, DSN + "\n    sslmode: ${S}"),
        (DSN, DSN + "\n    slot: ${S}"),
        (DSN, DSN + "\n    on_error: ${S}"),
        (DSN, DSN + "\n    max_value_bytes: ${S}"),
        (DSN, DSN + "\n    password: {a: '${S}'}"),
        (DSN, "dsn: postgresql://u:${S}@h/d\n    password: ${S}"),
        ("mappings:", "daemon: {metrics_listen: '${S}'}\nmappings:"),
        ("mappings:", "daemon: {log_level: '${S}'}\nmappings:"),
        ("url: postgresql://cdc@127.0.0.1/control", "url: postgresql://u:${S}@h/d?sslmode=${S}"),
    ],
)
def test_no_error_shows_what_a_reference_stands_for(old: str, new: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(changed(old, new))
    with pytest.raises(ConfigurationError) as raised:
        load([path], environ={"S": SECRET})
    shown = "".join(traceback.format_exception(raised.value)) + repr(raised.value)
    assert SECRET not in shown
    assert raised.value.__context__ is None


def test_no_error_shows_a_password_written_into_the_file(tmp_path: Path) -> None:
    for address in (f"postgresql://u:{SECRET}@[/x", f"host=h password={SECRET} dbnam=x", "x y z"):
        found = problems(changed(DSN, f"dsn: '{address}'\n    password: [{SECRET}]"), tmp_path)
        assert found
        assert SECRET not in "".join(found)


def test_no_dump_shows_a_secret(tmp_path: Path) -> None:
    text = changed(DSN, f"dsn: postgresql://cdc:{SECRET}@127.0.0.1/erp")
    text = text.replace("127.0.0.1/control", "127.0.0.1/control\n  password: ${PW}")
    found = loaded(text, tmp_path, PW=SECRET)
    assert found.target.conninfo["password"] == SECRET
    assert SECRET not in json.dumps(found.describe())
    assert SECRET not in repr(found)
    assert SECRET not in str(found)


def test_a_password_in_a_file_that_everybody_may_read_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    literal = [
        changed(DSN, f"{DSN}\n    password: {SECRET}"),
        changed(DSN, f"dsn: postgresql://cdc:{SECRET}@127.0.0.1/erp"),
        changed(DSN, f"dsn: ${{DSN:-postgresql://cdc:{SECRET}@127.0.0.1/erp}}"),
        changed(DSN, f"{DSN}\n    password: ${{PW:-{SECRET}}}"),
    ]
    for text in literal:
        path.write_text(text)
        path.chmod(0o644)
        (warning,) = load([path], environ={}).warnings
        assert warning.what == "a password stands in a file that everybody may read"
        assert SECRET not in str(warning)
        path.chmod(0o640)
        assert load([path], environ={}).warnings == ()
    path.write_text(changed(DSN, f"{DSN}\n    password: ${{cdc}}"))
    path.chmod(0o644)
    assert load([path], environ={"cdc": "cdc"}).warnings == ()


def test_beyond_this_machine_certificates_are_checked_unless_told(tmp_path: Path) -> None:
    for address, expected in {
        "postgresql://u@erp-db/d": "verify-full",
        "postgresql://u@127.0.0.1,erp-db/d": "verify-full",
        "postgresql://u@10.0.0.8/d?sslmode=verify-ca": "verify-ca",
        "postgresql://u@localhost/d": None,
        "postgresql://u@[::1]:5432/d": None,
        "postgresql://u@%2Frun%2Fpostgresql/d": None,
        "host=/run/postgresql dbname=d": None,
        "dbname=d": None,
    }.items():
        found = loaded(changed(DSN, f"dsn: '{address}'"), tmp_path)
        assert found.sources["erp"].conninfo.get("sslmode") == expected, address
        assert not found.warnings
    found = loaded(changed(DSN, "dsn: postgresql://u@erp-db/d?sslmode=disable"), tmp_path)
    assert [warning.what for warning in found.warnings] == [
        "the connection leaves this machine with sslmode disable: nobody checks whom it reaches"
    ]
    found = loaded(
        changed(DSN, "dsn: postgresql://u@erp-db/d\n    tls: {ca: /x/ca.pem, key: /x/key}"),
        tmp_path,
    )
    conninfo = found.sources["erp"].conninfo
    assert (conninfo["sslrootcert"], conninfo["sslkey"]) == ("/x/ca.pem", "/x/key")


def test_a_path_with_a_nul_character_is_a_problem(tmp_path: Path) -> None:
    text = changed(DSN, f'{DSN}\n    password: "${{file:/a\\0b}}"')
    assert problems(text, tmp_path) == [
        "c.yaml:5:15: the path holds a NUL character (write ${file:/path})"
    ]


@pytest.mark.parametrize("secret", ["${cred:erp}", "${file:/nowhere}", "${NOT_SET}"])
def test_secrets_of_sections_that_are_not_needed_may_be_missing(
    secret: str, tmp_path: Path
) -> None:
    """An operator who asks the control database need not read what the daemon reads."""
    path = tmp_path / "c.yaml"
    path.write_text(changed(DSN, f"{DSN}\n    password: '{secret}'"))
    found = load([path], environ={}, needed=("target", "daemon"))
    assert found.target.conninfo["dbname"] == "control"
    with pytest.raises(ConfigurationError, match=r"c\.yaml:5:15"):
        load([path], environ={})
    path.write_text(changed("control\n", f"control\n  password: '{secret}'\n"))
    with pytest.raises(ConfigurationError, match=r"c\.yaml:7:13"):
        load([path], environ={}, needed=("target", "daemon"))


@pytest.mark.parametrize(
    "daemon",
    ["metrics_listen: '${file:/x}'", "log_level: '${cred:l}'", "drain_seconds: '${cred:x}'"],
)
def test_a_scalar_that_is_not_there_offline_is_not_checked(daemon: str, tmp_path: Path) -> None:
    """It could be anything; only the file tells."""
    path = tmp_path / "c.yaml"
    path.write_text(changed("mappings:", f"daemon: {{{daemon}}}\nmappings:"))
    assert load([path], environ={}, resolve_secrets=False).settings.drain_seconds == 10
    with pytest.raises(ConfigurationError) as raised:
        load([path], environ={})
    assert len(raised.value.problems) == 1


def test_what_a_reference_stands_for_may_be_a_number_or_a_truth(tmp_path: Path) -> None:
    """A reference is a text to YAML; the key says what it is."""
    text = changed("mappings:", "daemon: {drain_seconds: '${D:-5}', batch_rows: '${R}'}\nmappings:")
    text = text.replace(DSN, f"{DSN}\n    max_value_bytes: '${{M:-2048}}'")
    found = loaded(text, tmp_path, R="77")
    assert (found.settings.drain_seconds, found.settings.batch_rows) == (5.0, 77)
    assert found.sources["erp"].max_value_bytes == 2048
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match="expected a whole number"):
        load([tmp_path / "c.yaml"], environ={"R": "many"})


@pytest.mark.parametrize(
    "address, environ, local",
    [
        ("dbname=erp", {}, True),
        ("service=erp", {}, False),
        ("service=erp host=localhost", {}, True),
        ("dbname=erp", {"PGSERVICE": "erp"}, False),
        ("dbname=erp", {"PGHOST": "erp-db"}, False),
        ("dbname=erp", {"PGHOST": "localhost", "PGHOSTADDR": "10.0.0.8"}, False),
        ("dbname=erp", {"PGHOST": "/run/postgresql"}, True),
        ("dbname=erp host=127.0.0.1", {"PGHOST": "erp-db"}, True),
    ],
)
def test_a_connection_that_libpq_takes_elsewhere_is_not_local(
    address: str, environ: dict[str, str], local: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its certificate is checked unless the file says otherwise."""
    for name in ("PGHOST", "PGHOSTADDR", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert is_loopback(parse_conninfo(address)) is local
