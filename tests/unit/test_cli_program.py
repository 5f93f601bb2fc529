"""The program as a whole: help, words, exit codes, and that nothing leaks."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

from cdc_daemon import __version__
from cdc_daemon.cli.given import Given, pass_given, shared_options
from cdc_daemon.cli.lazy import LazyGroup
from cdc_daemon.cli.main import COMMANDS, Program, root
from cdc_daemon.config.locate import SYSTEM
from cdc_daemon.model.errors import (
    CdcError,
    ConfigurationError,
    Fenced,
    PreflightRefusal,
    Problem,
    Retryable,
    Stop,
    Unreachable,
)
from tests.support.cli import COMMAND, call, invoke
from tests.support.terminal import Terminal

HEAVY = ("pydantic", "yaml", "psycopg", "sqlglot", "rich", "structlog", "prometheus_client")


def test_help_lists_every_command_and_its_exit_codes() -> None:
    result = invoke("--help")
    assert result.exit_code == 0
    for name, (_, short) in COMMANDS.items():
        assert name in result.stdout
        assert short in result.stdout
    assert "78 configuration" in result.stdout


@pytest.mark.parametrize("name", list(COMMANDS))
def test_short_help_is_how_the_commands_own_help_begins(name: str) -> None:
    module, _, attribute = COMMANDS[name][0].partition(":")
    command = getattr(import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.help is not None
    assert command.help.startswith(COMMANDS[name][1].removesuffix("."))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["version"],
        ["completion", "bash"],
        ["healthcheck", "--address", "127.0.0.1:1"],
    ],
)
def test_light_commands_import_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys; from cdc_daemon.cli.main import root\n"
        f"try: root.main({arguments!r}, prog_name='cdc-daemon')\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert found.stderr.splitlines()[-1] == "[]"


def test_version() -> None:
    assert invoke("version").stdout == f"cdc-daemon {__version__}\n"
    assert json.loads(invoke("version", "-o", "json").stdout)["version"] == __version__


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    result = invoke("completion", shell)
    assert result.exit_code == 0
    assert f"_CDC_DAEMON_COMPLETE={shell}_complete" in result.stdout


def test_bash_completes_commands_and_options() -> None:
    env = {
        "_CDC_DAEMON_COMPLETE": "bash_complete",
        "COMP_WORDS": "cdc-daemon fai",
        "COMP_CWORD": "1",
    }
    assert call(env=env).stdout.split() == ["plain,failures"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_a_tab_in_bash_completes_what_was_begun(tmp_path: Path) -> None:
    """The real shell at a real terminal, with the script that we print."""
    script = tmp_path / "completion"
    script.write_text(invoke("completion", "bash").stdout)
    (tmp_path / "cdc-daemon").write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    (tmp_path / "cdc-daemon").chmod(0o755)
    with Terminal(
        ["bash", "--norc", "--noprofile", "-i"], PATH=f"{tmp_path}:{os.environ['PATH']}", PS1="% "
    ) as bash:
        bash.type(f"source {script}; echo so''urced\n")
        bash.sees("sourced")
        bash.type("cdc-daemon fail\t")
        bash.sees("cdc-daemon failures ")
        bash.type("ski\t")
        bash.sees("cdc-daemon failures skip ")
        bash.type("--rea\t")
        bash.sees("cdc-daemon failures skip --reason ")


def test_a_misspelt_command_is_a_usage_error_with_a_suggestion() -> None:
    result = invoke("check-cnfig")
    assert result.exit_code == 2
    assert "did you mean 'check-config'?" in result.stderr


def test_an_unknown_option_is_a_usage_error() -> None:
    assert invoke("run", "--pipline", "erp").exit_code == 2


# --- errors -----------------------------------------------------------------------------------


def program(raised: BaseException) -> Program:
    """A program whose only command ``go`` raises this."""

    @click.group(cls=Program, commands_by_name={})
    @shared_options
    def tried() -> None:
        pass

    @click.command()
    @shared_options
    def go() -> None:
        raise raised

    class Direct(LazyGroup):
        pass

    tried._by_name = {"go": ("", "Go.")}
    tried.get_command = lambda ctx, name: go  # type: ignore[method-assign,assignment]
    assert isinstance(tried, Program)
    return tried


def outcome(raised: BaseException, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command that raises this."""
    from click.testing import CliRunner

    result = CliRunner().invoke(program(raised), ["go", *arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    "error,code",
    [
        (CdcError("it failed"), 1),
        (Stop("it failed"), 1),
        (Unreachable("it failed"), 69),
        (Fenced("it failed"), 75),
        (Retryable("it failed"), 75),
        (ConfigurationError("it failed"), 78),
        (PreflightRefusal("it failed"), 78),
    ],
)
def test_our_errors_end_with_their_code_and_one_line(error: CdcError, code: int) -> None:
    assert outcome(error) == (code, "", "error: it failed\n")


def test_a_hint_has_a_line_of_its_own() -> None:
    found = outcome(Unreachable("no answer", hint="start the server"))
    assert found == (69, "", "error: no answer\nhint: start the server\n")


def test_every_problem_has_a_line_with_its_place() -> None:
    problems = [
        Problem(what="unknown key", where="a.yaml:1:2", cure="did you mean 'from'?"),
        Problem(what="no such table", where="b.yaml:3:4"),
    ]
    assert outcome(ConfigurationError(problems)) == (
        78,
        "",
        "error: a.yaml:1:2: unknown key (did you mean 'from'?)\nerror: b.yaml:3:4: no such table\n",
    )


def test_an_unexpected_error_names_type_and_place_but_not_its_message() -> None:
    code, stdout, stderr = outcome(KeyError("a row's value"))
    assert (code, stdout) == (1, "")
    assert stderr.startswith("error: unexpected KeyError in ")
    assert "(go)" in stderr
    assert "row's value" not in stderr
    assert stderr.count("\n") == 1


def test_debug_shows_the_traceback_without_passwords() -> None:
    error = RuntimeError("cannot use postgresql://cdc:s3cret@host/erp or password='s3cret'")
    code, _, stderr = outcome(error, "--debug")
    assert code == 1
    assert "Traceback (most recent call last)" in stderr
    assert "s3cret" not in stderr


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_ctrl_c_ends_quietly_with_130(error: BaseException) -> None:
    code, stdout, stderr = outcome(error)
    assert (code, stdout, stderr.strip()) == (130, "", "")


def test_a_reader_that_goes_away_is_met_without_words() -> None:
    writer = subprocess.Popen(
        [*COMMAND, "config", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert writer.stdout is not None
    assert writer.stderr is not None
    writer.stdout.close()
    assert writer.stderr.read() == b""
    assert writer.wait(30) == 1
    writer.stderr.close()


# --- what is shared ---------------------------------------------------------------------------


def given_by(*arguments: str, env: dict[str, str] | None = None) -> Given:
    """What a command is given with these arguments around its name."""
    seen: list[Given] = []

    @click.command()
    @shared_options
    @pass_given
    def go(given: Given) -> None:
        seen.append(given)

    tried = program(RuntimeError())
    tried.get_command = lambda ctx, name: go  # type: ignore[method-assign,assignment]
    from click.testing import CliRunner

    assert CliRunner().invoke(tried, list(arguments), env=env).exit_code == 0
    return seen[0]


def test_options_count_before_and_after_the_command() -> None:
    given = given_by("-c", "a.yaml", "go", "--config", "b.yaml", "-c", "c")
    assert given.files == [Path("a.yaml"), Path("b.yaml"), Path("c")]
    assert given_by("--debug", "go").debug
    assert given_by("go", "--debug").debug
    assert given_by("--no-input", "go").no_input


def test_the_environment_names_files_where_no_option_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDC_DAEMON_CONFIG", "a.yaml:/etc/b")
    assert given_by("go").files == [Path("a.yaml"), Path("/etc/b")]
    assert given_by("go", "-c", "x").files == [Path("x")]
    monkeypatch.delenv("CDC_DAEMON_CONFIG")
    if not SYSTEM.is_dir():
        with pytest.raises(ConfigurationError, match=f"{SYSTEM} does not exist"):
            _ = given_by("go").files


@pytest.mark.parametrize("no_input, terminal", [(True, True), (False, False)])
def test_without_input_a_confirmation_is_a_usage_error(
    no_input: bool, terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody answers at the end of a pipe."""
    monkeypatch.setattr("cdc_daemon.cli.given.at_terminal", lambda: terminal)
    given = Given(no_input=no_input)
    assert given.confirm("Really?", yes=True)
    with pytest.raises(click.UsageError, match="--yes"):
        given.confirm("Really?", yes=False)


def test_the_root_is_the_scripts_program() -> None:
    assert isinstance(root, Program)
