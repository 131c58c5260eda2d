"""What the environment names for authorities is believed, or said to lead nowhere before anything is asked."""

from pathlib import Path

import pytest

from certificates import certificates
from tweetboard import cli
from tweetboard.trust import trusted


def test_an_authority_of_ones_own_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificates(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    (own,) = trusted().get_ca_certs()
    assert "trustme" in str(own["subject"])


@pytest.mark.parametrize(
    ("variable", "path", "why"),
    [
        ("SSL_CERT_FILE", "nowhere.pem", "No such file or directory"),
        ("SSL_CERT_FILE", "empty.pem", "has no certificate"),
        ("SSL_CERT_DIR", "nowhere:there", "Not a directory"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [["run", "--stream", "https://a.example"], ["check", "--stream", "wss://a.example"]],
    ids=["run", "check"],
)
def test_what_leads_nowhere_is_named_and_ends_the_command(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    path: str,
    why: str,
    command: list[str],
) -> None:
    (tmp_path / "empty.pem").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv(variable, path)
    assert cli.main([*command, "--port", "0"]) == 2
    assert capsys.readouterr().err.endswith(f"tweetboard: {variable}: {path}: {why}\n")


def test_several_folders_will_do_where_one_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", f"{tmp_path}/nowhere:{tmp_path}")
    assert trusted() is not None


def test_without_tls_no_variable_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("SSL_CERT_FILE", "nowhere.pem")
    assert cli.main(["check", "--port", "0"]) == 0
