"""W&B's switches, settings files and variables do here what W&B's own client does with them."""

import socket
from pathlib import Path
from typing import Any

import pytest
from wandb.cli.cli import cli

from common.errors import UserError
from common.proxy import pass_on_all_proxy, proxy_of
from pipelines.search.wandb_engine import run_on_wandb
from pipelines.tracking.wandb_files import AGENT_DIR, unsent_files, wandb_dir
from pipelines.tracking.wandb_mode import logged_in, reachable, server_name, wandb_mode
from pipelines.tracking.wandb_options import RunLabels, WandbOptions, wandb_project
from pipelines.tracking.wandb_run import finish_wandb, start_wandb
from pipelines.tracking.wandb_settings import base_url, wandb_setting
from tests.command_line import run_module, run_pipeline
from tests.helpers import only_run
from tests.wandb_server import WandbServer

KEY = "a" * 40
FIT = ["fit", "--config", "softmax", "--data", "Digits", "--trainer.max_epochs", "1", "--trainer.callbacks", "null"]
PROXIES = [name for word in ("http", "https", "all", "no") for name in (f"{word}_proxy", f"{word.upper()}_PROXY")]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, without any W&B settings."""
    for name in ("MODE", "API_KEY", "BASE_URL", "RUN_ID", "PROJECT", "ENTITY", "DIR", "NAME", "RUN_GROUP", "SERVICE"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    for name in (*PROXIES, AGENT_DIR):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    (tmp_path / "config").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def type_wandb(here: Path, *words: str) -> None:
    finished = run_module("wandb", list(words), here)
    assert finished.code == 0, finished.err


def global_settings(here: Path, **settings: str) -> None:
    lines = [f"{name} = {value}" for name, value in settings.items()]
    (here / "config" / "settings").write_text("\n".join(["[default]", *lines]))


def test_the_wandb_command_switches_runs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    assert wandb_mode() == "online"
    for command, mode in (
        ("offline", "offline"),
        ("disabled", "disabled"),
        ("enabled", "online"),
        ("online", "online"),
    ):
        type_wandb(here, command)
        assert wandb_mode() == mode
    type_wandb(here, "offline")
    monkeypatch.setenv("WANDB_MODE", "online")  # precedes the file
    assert wandb_mode() == "online"


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_a_switched_off_run_sends_nothing(here: Path, mode: str) -> None:
    server = WandbServer()
    type_wandb(here, mode)
    finished = run_pipeline("train", FIT, here, WANDB_MODE="", WANDB_API_KEY=KEY, WANDB_BASE_URL=server.url)
    server.die()
    assert (finished.code, finished.err) == (0, "")
    assert not server.runs
    assert len(unsent_files(only_run(here))) == (mode == "offline")


def test_former_and_unknown_modes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for mode, meant in (("dryrun", "offline"), ("run", "online"), ("shared", "shared")):
        monkeypatch.setenv("WANDB_MODE", mode)
        assert wandb_mode() == meant
    monkeypatch.setenv("WANDB_MODE", "of")
    with pytest.raises(UserError, match=r"WANDB_MODE is 'of'; use online, offline or disabled."):
        wandb_mode()
    monkeypatch.delenv("WANDB_MODE")
    global_settings(here, mode="of")
    with pytest.raises(UserError, match="The mode in W&B's settings file is 'of'"):
        wandb_mode()


def test_a_settings_file_that_cannot_be_read_switches_nothing_on(here: Path) -> None:
    (here / "config" / "settings").write_text("mode = disabled\n")  # without its section
    with pytest.raises(UserError, match=r"W&B's settings file .*config/settings can't be read \(File contains no sec"):
        wandb_mode()


@pytest.mark.parametrize("written", ["variable", "file"])
def test_a_server_of_ones_own_with_a_port(here: Path, monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    server = WandbServer()
    name = server.url.removeprefix("http://")
    (here / "netrc").write_text(f"machine {name}\n  login user\n  password {KEY}\n")
    if written == "variable":
        monkeypatch.setenv("WANDB_BASE_URL", f"{server.url}/")
    else:
        global_settings(here, base_url=server.url)
    assert (wandb_mode(), base_url(), server_name(), reachable()) == ("online", server.url, name, True)
    finished = run_pipeline("train", FIT, here, WANDB_MODE="")
    server.die()
    assert finished.err == f"W&B: {server.url}/us/lightning-231n/runs/{only_run(here).name}\n"
    assert server.history


def test_a_key_counts_where_wandb_looks_for_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not logged_in()
    for line in (f"default login user password {KEY}", f"machine api.wandb.ai login user password {KEY}"):
        (here / "netrc").write_text(f"{line}\n")
        assert logged_in()
    for line in ("machine api.wandb.ai login user", 'machine api.wandb.ai login user password ""', "machine \udcff"):
        (here / "netrc").write_bytes(f"{line}\n".encode(errors="surrogateescape"))
        assert not logged_in()
    (here / "netrc").unlink()
    global_settings(here, api_key=KEY)
    assert logged_in()
    global_settings(here)
    monkeypatch.setenv("WANDB_IDENTITY_TOKEN_FILE", "token")
    assert logged_in()
    monkeypatch.delenv("NETRC")
    monkeypatch.delenv("WANDB_IDENTITY_TOKEN_FILE")
    monkeypatch.setenv("HOME", str(here))
    (here / "_netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    assert logged_in()


def test_online_without_a_key_is_tracked_offline(here: Path) -> None:
    finished = run_pipeline("train", FIT, here, WANDB_MODE="online")
    assert finished.code == 0
    assert finished.err == (
        "W&B has no API key for api.wandb.ai: this run is tracked offline; run `wandb login` for the next.\n"
    )
    assert len(unsent_files(only_run(here))) == 1


def tracked(here: Path, **environment: str) -> Any:
    """Settings of a W&B run that is tracked offline in its folder logs/svm/a."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"WANDB_MODE": "offline", **environment}.items():
            patch.setenv(name, value)
        arguments = WandbOptions().init_arguments(RunLabels("svm", "a", ()))
        logger = start_wandb(here / "logs" / "svm" / "a", "a", arguments, {}, wandb_mode())
        try:
            assert logger is not None
            return logger.experiment.settings
        finally:
            finish_wandb([logger] if logger else [], 0)
            import wandb

            wandb.teardown()  # or the next run would not read the settings again


def test_the_persons_project_entity_and_names(here: Path) -> None:
    settings = tracked(here)
    assert (settings.project, settings.run_group, settings.run_name) == ("lightning-231n", "svm", "a")
    type_wandb(here, "init", "-p", "mine", "-e", "team")
    settings = tracked(here)
    assert (settings.project, settings.entity, wandb_project()) == ("mine", "team", "mine")
    variables = {"PROJECT": "other", "ENTITY": "us", "NAME": "n", "RUN_GROUP": "g", "JOB_TYPE": "j", "NOTES": "o"}
    settings = tracked(here, **{f"WANDB_{name}": value for name, value in variables.items()}, WANDB_TAGS="x,y")
    assert (settings.project, settings.entity, settings.run_name, settings.run_group) == ("other", "us", "n", "g")
    assert (settings.run_job_type, settings.run_notes, tuple(settings.run_tags)) == ("j", "o", ("x", "y"))
    settings = tracked(here, WANDB_INIT_TIMEOUT="7", WANDB_RESUME="must", WANDB_QUIET="true", WANDB_CONSOLE="off")
    assert (settings.init_timeout, settings.resume, settings.quiet, settings.console) == (7, "must", True, "off")
    assert settings.silent
    assert not tracked(here, WANDB_SILENT="false").silent


def test_wandb_dir_has_the_files_and_the_run_links_to_them(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tracked(here, WANDB_DIR=str(here / "disk"))
    assert Path(settings.sync_dir).parent == here / "disk" / "wandb"
    (files,) = unsent_files(here / "logs" / "svm" / "a")
    assert files.resolve() == Path(settings.sync_dir)
    monkeypatch.setenv("WANDB_DIR", "of-an-agent")
    monkeypatch.setenv(AGENT_DIR, "")  # what our own agents set
    assert wandb_dir() is None


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("WANDB_PROJECT", "a/b", "Invalid project name 'a/b'"),
        ("WANDB_HTTPS_PROXY", "10.0.0.1:3128", "https_proxy: "),
        ("WANDB_RESUME", "perhaps", "resume: Input should be"),
        ("WANDB_CONFIG_PATHS", "a.yaml,b.yaml", "config_paths: "),
    ],
)
def test_settings_that_wandb_refuses_are_named_before_the_training(
    here: Path, variable: str, value: str, said: str
) -> None:
    finished = run_pipeline("train", FIT, here, **{variable: value}, WANDB_MODE="offline")
    assert finished.code == 2
    (line,) = finished.err.splitlines()
    assert line.startswith("error: W&B refuses its settings (") and said in line
    assert line.endswith("; correct them, or set --wandb.mode disabled.")
    assert not list((here / "logs" / "softmax").iterdir())


def test_a_password_is_neither_printed_nor_recorded(here: Path) -> None:
    server = WandbServer()
    with_password = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url.replace("//", "//me:SECRET@")}
    finished = run_pipeline("train", FIT, here, WANDB_MODE="online", **with_password)
    server.die()
    run = only_run(here)
    assert finished.err == f"W&B: {server.url}/us/lightning-231n/runs/{run.name}\n"
    unreached = run_pipeline("train", FIT, here, WANDB_MODE="online", **with_password)
    assert f"W&B at {server.url.removeprefix('http://')} can't be reached" in unreached.err
    for secret in ("SECRET", KEY):
        assert secret not in finished.out + unreached.out + unreached.err
        assert not [name for name, content in server.files.items() if secret.encode() in content]
        files = [file for file in (here / "logs").rglob("*") if file.is_file()]
        assert len(files) > 20
        assert not [file for file in files if secret.encode() in file.read_bytes()]


def test_a_run_that_wandb_cannot_track_goes_on(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**settings: Any) -> None:
        raise RuntimeError("The service process could not be started\nat http://me:SECRET@host")

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr("wandb.init", fail)
    assert start_wandb(here, "a", {}, {}, wandb_mode()) is None
    assert capsys.readouterr().err == (
        "W&B can't track this run (The service process could not be started): its metrics are in metrics.csv alone.\n"
    )


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_a_sweep_on_wandb_says_that_it_is_switched_off(here: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", mode)
    with pytest.raises(UserError, match=rf"W&B is switched to {mode}, but would control the sweep; run `wandb online`"):
        run_on_wandb("us/project/id")
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(UserError, match="You are not logged in to W&B, which would control the sweep"):
        run_on_wandb("us/project/id")


@pytest.mark.parametrize(
    ("proxies", "url", "proxy"),
    [
        ({"HTTPS_PROXY": "10.0.0.1:3128"}, "https://api.wandb.ai", "http://10.0.0.1:3128"),
        ({"https_proxy": "proxy.local:3128"}, "https://api.wandb.ai", "http://proxy.local:3128"),
        ({"HTTPS_PROXY": "http://me:pw@proxy:1"}, "https://api.wandb.ai", "http://me:pw@proxy:1"),
        ({"ALL_PROXY": "socks5://proxy:1"}, "https://api.wandb.ai", "socks5://proxy:1"),
        ({"ALL_PROXY": "a:1", "HTTPS_PROXY": "b:2"}, "https://api.wandb.ai", "http://b:2"),
        ({"HTTP_PROXY": "a:1"}, "https://api.wandb.ai", None),
        ({"HTTP_PROXY": "a:1"}, "http://server:8080", "http://a:1"),
        ({"HTTPS_PROXY": "a:1"}, "http://server:8080", None),
        ({"ALL_PROXY": "a:1"}, "http://localhost:8080", None),
        ({"ALL_PROXY": "a:1"}, "http://127.0.0.5:8080", None),
        *(
            ({"ALL_PROXY": "a:1", "NO_PROXY": f"x.org, {excluded}"}, "http://my.server.org:8080", None)
            for excluded in ("my.server.org", "server.org", ".server.org", "*.server.org", "server.org:8080", "*")
        ),
        *(
            ({"ALL_PROXY": "a:1", "no_proxy": excluded}, "http://my.server.org:8080", "http://a:1")
            for excluded in ("server.org:80", "erver.org", ".my.server.org", "10.0.0.0/8", "")
        ),
        ({"ALL_PROXY": "a:1", "NO_PROXY": "10.0.0.0/8"}, "http://10.1.2.3", None),
        ({"ALL_PROXY": "a:1", "NO_PROXY": "11.0.0.0/8,no/net"}, "http://10.1.2.3", "http://a:1"),
    ],
)
def test_the_proxy_is_the_one_that_wandb_takes(
    monkeypatch: pytest.MonkeyPatch, proxies: dict[str, str], url: str, proxy: str | None
) -> None:
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)
    assert proxy_of(url) == proxy


def test_a_proxy_without_a_scheme_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{listener.getsockname()[1]}")
        assert reachable()
        monkeypatch.setenv("NO_PROXY", "localhost,.invalid")
        monkeypatch.setenv("WANDB_BASE_URL", "https://server.invalid")
        assert not reachable()  # directly


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
def test_a_run_behind_a_proxy_arrives(here: Path, variable: str) -> None:
    server = WandbServer()  # answers what a proxy is asked for
    proxy = {variable: server.url.removeprefix("http://"), "WANDB_BASE_URL": "http://wandb.invalid"}
    finished = run_pipeline("train", FIT, here, **proxy, WANDB_MODE="online", WANDB_API_KEY=KEY)
    server.die()
    assert finished.err == f"W&B: http://wandb.invalid/us/lightning-231n/runs/{only_run(here).name}\n"
    assert server.history


def test_all_proxy_overrides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "a:1")
    monkeypatch.setenv("HTTPS_PROXY", "b:2")
    monkeypatch.setenv("http_proxy", "")
    pass_on_all_proxy()
    assert (proxy_of("http://x"), proxy_of("https://x")) == ("http://a:1", "http://b:2")


def test_every_setting_of_a_file_has_its_variable(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"offline", "online", "disabled", "enabled", "login", "init"} <= cli.commands.keys()
    global_settings(here, project="global", entity="e")
    (here / "wandb").mkdir()
    (here / "wandb" / "settings").write_text("[default]\nproject = local\n")
    assert (wandb_setting("project"), wandb_setting("entity"), wandb_setting("run_name")) == ("local", "e", None)
    monkeypatch.setenv("WANDB_PROJECT", "variable")
    monkeypatch.setenv("WANDB_NAME", "n")
    assert (wandb_setting("project"), wandb_setting("run_name")) == ("variable", "n")
