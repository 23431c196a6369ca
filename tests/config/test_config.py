"""The configuration file."""

from pathlib import Path

import pytest

from hornetmail import config
from hornetmail.config import ConfigError


def load(tmp_path: Path, text: str) -> config.Config:
    file = tmp_path / "hornetmail.toml"
    file.write_text(text)
    return config.load(file)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('hostname = "mx.example.test"\n[listen]\nmx = ["tcp:no"]', "$.listen.mx[0]: 'tcp:no': 'no' is no port"),
        ('hostname = "mx.example.test"\n[listen]\nmx = ["tcp:25", "25"]', "$.listen.mx[1]: '25' is no endpoint"),
        ('hostname = "mx.example.test"\n[listen]\nmx = ["tcp:99999"]', "$.listen.mx[0]: "),
        ('hostname = "mx.example.test"\n[listen]\nmx = "tcp:25"', "$.listen.mx: Expected `array`"),
        ('hostname = "mx.example.test"\n[listen]\nsmtp = ["tcp:25"]', "$.listen: Object contains unknown field `smtp`"),
        ('hostname = "mx.example.test"\n[limits]\nmax_size = 0', "$.limits.max_size: "),
        ('hostname = "mx.example.test"\n[limits]\nmax_size = "big"', "$.limits.max_size: Expected `int`"),
        ('hostname = "mx.example.test"\nplaintext_login = "yes"', "$.plaintext_login: "),
        ('hostname = "mx.example.test"\n[relay]\nnetworks = ["10.0.0.0/33"]', "$.relay.networks[0]: "),
        ('hostname = "mx.example.test"\n[dns]\nservers = ["resolver"]', "$.dns.servers[0]: "),
        ('hostname = "mx.example.test"\n[dns]\nservers = ["127.0.0.1:0"]', "$.dns.servers[0]: "),
        ('hostname = "mx.example.test"\n[databases]\nqueue = "mysql://x"', "$.databases.queue: "),
        ('hostname = "mx.example.test"\n[portal]\nannounce_days = []', "$.portal.announce_days: "),
        ('hostname = "mx.example.test"\n[portal]\nannounce_days = [0]', "$.portal.announce_days["),
        ('hostname = "mx.example.test"\n[delivery]\nretry_most = 30', "$.delivery.retry_most: 30 s are less than retry, 60 s"),
        ('hostname = "mx.example.test"\n[delivery]\ngive_up = 5', "$.delivery.give_up: 5 s are less than retry, 60 s"),
        ('hostname = "a b"', "$.hostname: not a domain"),
        ("directory = '.'", "$: Object missing required field `hostname`"),
        ("hostname = ", "Invalid value"),
    ],
)
def test_says_where_and_why(tmp_path: Path, text: str, complaint: str) -> None:
    """A malformed file must be refused in one line that names file, place and reason (issue: malformed configuration)."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert complaint in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'hornetmail.toml'}: ")
    assert "\n" not in str(caught.value)


def test_missing_file_and_bad_bytes(tmp_path: Path) -> None:
    """An unreadable file must not end in a traceback."""
    with pytest.raises(ConfigError, match="No such file"):
        config.load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        config.load(tmp_path / "bad.toml")


def test_default_on_standard_ports(tmp_path: Path) -> None:
    """What ``init`` writes must load again and open the standard ports; the doors without a password stay on loopback."""
    loaded = load(tmp_path, config.write_default(tmp_path, "mx.example.test"))
    assert loaded.listen.mx == ("tcp:25",)
    assert loaded.listen.submissions == ("tcp:465",)
    assert loaded.listen.relay == ("tcp:26:interface=127.0.0.1",)
    assert loaded.listen.lmtp == ("tcp:24:interface=127.0.0.1",)
    assert loaded.plaintext_login is False
    assert not loaded.may_login_plainly("127.0.0.1")
    assert loaded.limits == config.Limits()
    assert loaded.portal.announce_days == (14.0, 3.0)
    assert loaded.root == tmp_path.resolve()
    assert loaded.database_url("queue") == f"sqlite://{tmp_path.resolve()}/queue.db"


def test_ports_lay_all_doors_out_on_loopback(tmp_path: Path) -> None:
    """``--ports N`` is a contract: scripts compute the ports from N, and plaintext log-in works on loopback alone."""
    loaded = load(tmp_path, config.write_default(tmp_path, "mx.example.test", 20000))
    expected = {"mx": 25, "relay": 26, "submission": 587, "submissions": 465, "imap": 143, "imaps": 993}
    expected |= {"pop3": 110, "pop3s": 995, "http": 80, "https": 443, "lmtp": 24}
    assert {door: loaded.listen.door(door) for door in config.DOORS} == {
        door: (f"tcp:{20000 + offset}:interface=127.0.0.1",) for door, offset in expected.items()
    }
    assert loaded.may_login_plainly("127.0.0.1")
    assert loaded.may_login_plainly("::1")
    assert loaded.may_login_plainly("::ffff:127.0.0.1")
    assert not loaded.may_login_plainly("192.0.2.1")
    assert not loaded.may_login_plainly("")
    with pytest.raises(ConfigError):
        config.write_default(tmp_path, "mx.example.test", 65000)


def test_hostname_cannot_break_out_of_its_line(tmp_path: Path) -> None:
    """A host name with quotes or newlines must be refused, never written as further settings."""
    with pytest.raises(ConfigError, match="hostname"):
        config.write_default(tmp_path, 'x"\nplaintext_login = true #')


def test_dns_servers_with_and_without_port() -> None:
    """The playground's resolver listens on another port than 53."""
    assert config.dns_server("192.0.2.53") == ("192.0.2.53", 53)
    assert config.dns_server("127.0.0.1:5353") == ("127.0.0.1", 5353)
    assert config.dns_server("2001:db8::53") == ("2001:db8::53", 53)
    assert config.dns_server("[2001:db8::53]:5353") == ("2001:db8::53", 5353)


def test_mail_that_could_not_be_archived(tmp_path: Path) -> None:
    """Catches a limit above what the archive takes: such mail would be answered 250, and wait in the queue for ever (fault: 64 MiB a record)."""
    with pytest.raises(ConfigError, match=r"\$\.limits\.max_size"):
        config.read({"hostname": "mx.test", "limits": {"max_size": config.MAX_MAIL + 1}}, tmp_path)
    assert (
        config.read({"hostname": "mx.test", "limits": {"max_size": config.MAX_MAIL}}, tmp_path).limits.max_size == config.MAX_MAIL
    )
