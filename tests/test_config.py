import io
import itertools
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from tweetboard import config
from tweetboard.config import Flag, load
from tweetboard.errors import ConfigurationError
from tweetboard.settings import Secret, Settings, streams_of

WAY_OUT = (
    "put the token into TWEETBOARD_STREAM_TOKEN or the systemd credential stream-token "
    "(for [streams.x]: TWEETBOARD_STREAMS_X_TOKEN, stream-token.x), never here"
)
REDIS_URLS = "embedded:, redis://host:port, rediss://host:port, unix:///path/to/socket"
SHIPPED = Path(__file__).parent.parent / "config.toml"


def flags(**values: str) -> dict[str, Flag]:
    """Make flags as the command line passes them: `stream__url` is --url, which sets stream.url."""
    return {path.replace("__", "."): Flag(path.rpartition("__")[2], text) for path, text in values.items()}


def problems(cwd: Path, environ: Mapping[str, str] | None = None, **typed: str) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        load(flags(**typed), environ or {}, cwd)
    return caught.value.problems


def write(folder: Path, text: str) -> Path:
    (folder / "config.toml").write_text(text, "utf-8")
    return folder


def leaves(table: Mapping[str, object], path: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in table.items():
        found |= leaves(value, f"{path}{name}.") if isinstance(value, dict) and value else {path + name: value}
    return found


# --- Defaults and the shipped file ---


def test_the_shipped_file_has_every_key_with_its_default_and_no_other() -> None:
    built_in = leaves(msgspec.to_builtins(Settings()))
    del built_in["stream.token.value"], built_in["redis.password.value"]

    assert leaves(tomllib.loads(SHIPPED.read_text("utf-8"))) == built_in


def test_the_shipped_file_explains_every_key() -> None:
    lines = SHIPPED.read_text("utf-8").partition("[boards.hashtags]")[0].splitlines()
    for above, line in itertools.pairwise(lines):
        assert above.startswith("#") or not re.match(r"\w+ = ", line), f"{line!r} has no comment above it"


def test_loading_the_shipped_file_gives_the_defaults() -> None:
    assert load(flags(config=str(SHIPPED)), {}, Path("/")) == Settings()


def test_without_any_file_the_defaults_are_built_in(tmp_path: Path) -> None:
    settings = load({}, {"HOME": "/root", "PATH": "/bin"}, tmp_path)

    assert settings == Settings()
    assert settings.boards["usernames"].key == "username_scoreboard"
    assert settings.boards["hashtags"].key == "hashtags_scoreboard"
    assert settings.boards["hashtags"].windows == ["5m", "1h", "24h"]


def test_no_two_keys_share_an_environment_variable() -> None:
    keys = config._KEYS  # noqa: SLF001
    assert len({config._variable(key) for key in keys}) == len(keys)  # noqa: SLF001


def test_two_settings_share_no_list_that_one_could_change(tmp_path: Path) -> None:
    load({}, {}, tmp_path).boards["usernames"].windows.clear()

    assert load({}, {}, tmp_path) == Settings()


# --- Layers ---


def test_the_file_changes_only_what_it_names(tmp_path: Path) -> None:
    write(tmp_path, '[boards.hashtags]\nwindows = []\ntrending = ""\n[http]\nport = 0\n')
    settings = load({}, {}, tmp_path)

    assert settings.http.port == 0
    assert settings.http.host == "127.0.0.1"
    assert settings.boards["hashtags"].windows == []
    assert settings.boards["hashtags"].trending == ""
    assert settings.boards["hashtags"].key == "hashtags_scoreboard"
    assert set(settings.boards) == {"usernames", "hashtags"}


def test_a_later_layer_wins(tmp_path: Path) -> None:
    write(tmp_path, '[http]\nport = 1\nhost = "file"\n[redis]\nprefix = "file:"\n')
    environ = {"TWEETBOARD_HTTP_PORT": "2", "TWEETBOARD_HTTP_HOST": "environment"}
    settings = load(flags(http__port="3"), environ, tmp_path)

    assert (settings.http.port, settings.http.host, settings.redis.prefix) == (3, "environment", "file:")


def test_the_file_is_the_flags_else_the_environments_else_the_one_here(tmp_path: Path) -> None:
    write(tmp_path, "[http]\nport = 1\n")
    (tmp_path / "two.toml").write_text("[http]\nport = 2\n")
    (tmp_path / "three.toml").write_text("[http]\nport = 3\n")
    environ = {"TWEETBOARD_CONFIG": "two.toml"}

    assert load({}, {}, tmp_path).http.port == 1
    assert load({}, {"TWEETBOARD_CONFIG": ""}, tmp_path).http.port == 1
    assert load({}, environ, tmp_path).http.port == 2
    assert load(flags(config="three.toml"), environ, tmp_path).http.port == 3
    assert load(flags(config=str(tmp_path / "three.toml")), environ, Path("/")).http.port == 3


@pytest.mark.parametrize(
    ("variable", "text", "read"),
    [
        ("TWEETBOARD_HTTP_PORT", "9000", lambda settings: settings.http.port == 9000),
        ("TWEETBOARD_STREAM_NAME", "1234", lambda settings: settings.stream.name == "1234"),
        ("TWEETBOARD_STREAM_NAME", "2024-01-31", lambda settings: settings.stream.name == "2024-01-31"),
        ("TWEETBOARD_STREAM_NAME", '"quoted"', lambda settings: settings.stream.name == "quoted"),
        ("TWEETBOARD_STREAM_STALL_TIMEOUT_S", "90", lambda settings: settings.stream.stall_timeout_s == 90),
        ("TWEETBOARD_STREAM_STALL_TIMEOUT_S", "0.5", lambda settings: settings.stream.stall_timeout_s == 0.5),
        ("TWEETBOARD_STREAM_HEADERS", '{X-A = "b"}', lambda settings: settings.stream.headers == {"X-A": "b"}),
        (
            "TWEETBOARD_BOARDS_HASHTAGS_WINDOWS",
            '["5m"]',
            lambda settings: settings.boards["hashtags"].windows == ["5m"],
        ),
        ("TWEETBOARD_BOARDS_HASHTAGS_KEY", "my board", lambda settings: settings.boards["hashtags"].key == "my board"),
        ("TWEETBOARD_REDIS_PREFIX", "{tb}:", lambda settings: settings.redis.prefix == "{tb}:"),
        ("TWEETBOARD_REDIS_PREFIX", "", lambda settings: settings.redis.prefix == ""),
    ],
)
def test_a_text_is_toml_where_that_gives_the_keys_type_else_it_stands(
    tmp_path: Path, variable: str, text: str, read: Callable[[Settings], bool]
) -> None:
    assert read(load({}, {variable: text}, tmp_path))


def test_a_text_cannot_smuggle_in_a_second_key(tmp_path: Path) -> None:
    assert problems(tmp_path, {"TWEETBOARD_HTTP_PORT": "1\nhost = 2"}) == (
        r"TWEETBOARD_HTTP_PORT: http.port: '1\nhost = 2' is not a whole number",
    )


def test_a_flag_is_read_like_a_variable(tmp_path: Path) -> None:
    settings = load(flags(stream__url="https://example.org/posts", http__allowed_hosts='["a", "b"]'), {}, tmp_path)

    assert settings.stream.url == "https://example.org/posts"
    assert settings.http.allowed_hosts == ["a", "b"]


# --- The file itself ---


def test_a_file_that_was_asked_for_must_exist(tmp_path: Path) -> None:
    assert problems(tmp_path, config="nowhere.toml") == (
        "--config: nowhere.toml: cannot be read: No such file or directory",
    )
    assert problems(tmp_path, {"TWEETBOARD_CONFIG": "../no.toml"}) == (
        "TWEETBOARD_CONFIG: ../no.toml: cannot be read: No such file or directory",
    )


def test_a_file_that_is_there_must_be_readable(tmp_path: Path) -> None:
    (tmp_path / "config.toml").mkdir()

    assert problems(tmp_path) == ("config.toml: cannot be read: Is a directory",)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[http]\nport = 80 80\n", "(at line 2, column 11)"),
        ("[http]\nhost = 'cut", "(at line 2, column 12)"),
        ("[http]\nport = \n", "(at line 2, column 8)"),
    ],
)
def test_a_file_that_is_not_toml_is_refused_with_the_place(tmp_path: Path, text: str, place: str) -> None:
    (line,) = problems(write(tmp_path, text))

    assert line.startswith("config.toml: cannot be read: not TOML: ")
    assert line.endswith(place)


@pytest.mark.parametrize("content", [b"name = '\xff'", b"x = " + b"[" * 100_000, b"x = " + b"9" * 5_000])
def test_a_file_that_breaks_the_reader_is_one_line_too(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.toml").write_bytes(content)
    (line,) = problems(tmp_path)

    assert line.startswith("config.toml: cannot be read: ")


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    write(tmp_path, "\ufeff[http]\nport = 1\n")

    assert load({}, {}, tmp_path).http.port == 1


def test_a_broken_file_does_not_hide_what_else_is_wrong(tmp_path: Path) -> None:
    lines = problems(write(tmp_path, "port: 80"), {"TWEETBOARD_HTTP_PORT": "abc"}, http__port="70000")

    assert len(lines) == 3
    assert lines[1:] == (
        "TWEETBOARD_HTTP_PORT: http.port: 'abc' is not a whole number",
        "--port: http.port: 70000 is not between 0 and 65535",
    )


# --- Wrong keys and values ---


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[stream]\nfromat = 1", "stream.fromat: unknown key (did you mean format?)"),
        ("[strem]\nurl = 1", "strem: unknown key (did you mean stream?)"),
        ("[http]\nxyzzy = 1", "http.xyzzy: unknown key"),
        ('"stream.url" = "demo:"', "stream.url: unknown key (did you mean stream?)"),
        ('"a\\nb" = 1', r"'a\nb': unknown key"),
        (
            "[boards.hastags]\nkey = 'x'",
            "boards.hastags: has no field: author, hashtags, or a path such as user.lang (did you mean hashtags?)",
        ),
        ("[boards.hashtags]\nfeild = 'x'", "boards.hashtags.feild: unknown key (did you mean field?)"),
        (
            "[boards.hashtags]\nfield = 'a..b'",
            "boards.hashtags.field: 'a..b' is not a path such as user.screen_name or quotes[].symbol",
        ),
        ("http = 8080", "http: 8080 is not a table"),
        ("[boards]\nhashtags = 'x'", "boards.hashtags: 'x' is not a table"),
        (
            "[stream]\nformat = 'xv2'",
            "stream.format: 'xv2' is not one of auto, flat, x-v2, x-v1, mastodon, wikimedia, bluesky, fields",
        ),
        ("[stream]\nformat = 2", "stream.format: 2 is not text"),
        ("[stream.url]\na = 1", "stream.url: a table is not text"),
        ("[stream]\nname = 2024-01-31", "stream.name: 2024-01-31 is not text"),
        ("[stream]\nstall_timeout_s = -1", "stream.stall_timeout_s: -1.0 is not between 0 and 1000000000"),
        ("[stream]\nstall_timeout_s = nan", "stream.stall_timeout_s: nan is not between 0 and 1000000000"),
        ("[stream]\nstall_timeout_s = inf", "stream.stall_timeout_s: inf is not between 0 and 1000000000"),
        ("[stream]\nstall_timeout_s = true", "stream.stall_timeout_s: True is not a number"),
        ("[stream]\nmax_line_bytes = 1023", "stream.max_line_bytes: 1023 is not between 1024 and 67108864"),
        ("[stream]\nmax_line_bytes = 67108865", "stream.max_line_bytes: 67108865 is not between 1024 and 67108864"),
        ("[stream]\nmax_line_bytes = 2048.0", "stream.max_line_bytes: 2048.0 is not a whole number"),
        ("[http]\nport = -1", "http.port: -1 is not between 0 and 65535"),
        ("[http]\nport = '80'", "http.port: '80' is not a whole number"),
        ("[http]\nport = true", "http.port: True is not a whole number"),
        ("[http]\nhost = ''", "http.host: '' is not a host's name or address"),
        (
            "[http]\nhost = '127.0.0.1:80'",
            "http.host: '127.0.0.1:80' has more than a name or address: a port (that is http.port), or brackets",
        ),
        (
            "[http]\nallowed_hosts = ['[::1]']",
            "http.allowed_hosts: '[::1]' has more than a name or address: a port (that is http.port), or brackets",
        ),
        ("[http]\nhost = 'http://a'", "http.host: 'http://a' is not a host's name or address"),
        ("[http]\nallowed_hosts = 'a'", 'http.allowed_hosts: \'a\' is not a list of texts, such as ["one", "other"]'),
        (
            "[http]\nallowed_hosts = ['a', 5]",
            'http.allowed_hosts: [\'a\', 5] is not a list of texts, such as ["one", "other"]',
        ),
        ("[http]\nallowed_hosts = ['a', 'b c']", "http.allowed_hosts: 'b c' is not a host's name or address"),
        (
            "[boards.usernames]\nwindows = ['5m', '5x']",
            "boards.usernames.windows: '5x' is not a duration such as 90s, 5m, 24h or 7d",
        ),
        ("[boards.usernames]\nwindows = ['5m', '5m']", "boards.usernames.windows: '5m' stands there twice"),
        (
            "[boards.usernames]\ntrending = '0h'",
            "boards.usernames.trending: '0h' is not a duration such as 90s, 5m, 24h or 7d",
        ),
    ],
)
def test_a_wrong_key_or_value_is_named_by_its_path(tmp_path: Path, text: str, line: str) -> None:
    assert problems(write(tmp_path, text)) == (f"config.toml: {line}",)


@pytest.mark.parametrize("key", ["", "tweetboard:x:journal", "a\\u0000b"])
def test_a_board_key_must_be_free_for_a_board(tmp_path: Path, key: str) -> None:
    (line,) = problems(write(tmp_path, f'[boards.usernames]\nkey = "{key}"'))

    assert line.startswith("config.toml: boards.usernames.key: ")
    assert "is empty, has control characters, or begins with 'tweetboard:'" in line


@pytest.mark.parametrize(
    "url",
    [
        "demo",
        "demo:x",
        "wikipedia",
        "mastodon",
        "x:everything",
        "ftp://a.org",
        "file:///x",
        "https://",
        "https:a.org",
        "http://a b",
        "http://a:port",
        "http://a:65536",
        "http://[::1",
        "HTTP://a.org\\n",
        "",
    ],
)
def test_a_stream_must_be_one_that_can_be_read(tmp_path: Path, url: str) -> None:
    (line,) = problems(write(tmp_path, f'[stream]\nurl = "{url}"'))

    assert line.startswith("config.toml: stream.url: ")
    assert "is none of what a stream can be: demo:, wikimedia, bluesky, mastodon:HOST, x:filtered, x:sample" in line
    assert line.endswith("or a whole address: http://, https://, ws:// or wss://")


@pytest.mark.parametrize(
    "url",
    [
        "demo:",
        "wikimedia",
        "mastodon:social.example",
        "http://localhost:9/x?y=z",
        "https://[::1]:8443/",
        "wss://a.org",
    ],
)
def test_a_stream_that_can_be_read_is_taken(tmp_path: Path, url: str) -> None:
    assert load(flags(stream__url=url), {}, tmp_path).stream.url == url


@pytest.mark.parametrize(
    "url", ["", "embedded", "redis:", "redis://", "http://a", "unix://run/x", "unix://", "redis://a:b", "redis://a/b"]
)
def test_a_redis_url_must_say_where(tmp_path: Path, url: str) -> None:
    (line,) = problems(tmp_path, redis__url=url)

    assert line == f"--url: redis.url: {url!r} is none of {REDIS_URLS}"


@pytest.mark.parametrize("url", ["embedded:", "redis://h", "rediss://u:p@h:1/0?a=b", "unix:///s", "unix://u:p@/s?db=1"])
def test_a_redis_url_that_says_where_is_taken(tmp_path: Path, url: str) -> None:
    assert load(flags(redis__url=url), {}, tmp_path).redis.url == url


@pytest.mark.parametrize("prefix", ["a b", "a\\tb", "x" * 65, "\\u00a0"])
def test_a_prefix_is_short_and_plain(tmp_path: Path, prefix: str) -> None:
    (line,) = problems(write(tmp_path, f'[redis]\nprefix = "{prefix}"'))

    assert line.endswith("is not up to 64 characters without spaces")


@pytest.mark.parametrize("name", ["bare", "Upper", "a b", "a:b", "x" * 65, "é", "a\\n"])
def test_a_stream_name_is_one_that_redis_keys_can_carry(tmp_path: Path, name: str) -> None:
    (line,) = problems(write(tmp_path, f'[stream]\nname = "{name}"'))

    assert line.startswith("config.toml: stream.name: ")
    assert line.endswith(
        "is not a name of up to 64 of the characters a-z, 0-9, _ and -, other than 'bare' and 'schema'"
    )


@pytest.mark.parametrize("folder", ["a\\u0000b", "~nobody/x"])
def test_a_data_dir_is_a_path(tmp_path: Path, folder: str) -> None:
    (line,) = problems(write(tmp_path, f'[redis]\ndata_dir = "{folder}"'))

    assert line.endswith("is not the path of a file or folder")


def test_the_boards_cannot_share_a_key(tmp_path: Path) -> None:
    assert problems(tmp_path, {"TWEETBOARD_BOARDS_USERNAMES_KEY": "hashtags_scoreboard"}) == (
        "TWEETBOARD_BOARDS_USERNAMES_KEY: boards.usernames.key: 'hashtags_scoreboard' is another board's key too",
    )
    write(tmp_path, '[boards.usernames]\nkey = "one"\n[boards.hashtags]\nkey = "two"\n')
    environ = {"TWEETBOARD_BOARDS_HASHTAGS_KEY": "one"}
    assert problems(tmp_path, environ) == (
        "TWEETBOARD_BOARDS_HASHTAGS_KEY: boards.hashtags.key: 'one' is another board's key too",
    )


def test_boards_may_swap_their_keys(tmp_path: Path) -> None:
    write(tmp_path, '[boards.usernames]\nkey = "hashtags_scoreboard"\n[boards.hashtags]\nkey = "username_scoreboard"\n')

    assert load({}, {}, tmp_path).boards["usernames"].key == "hashtags_scoreboard"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("TWEETBOARD_HTP_PORT", "TWEETBOARD_HTP_PORT: unknown variable (did you mean TWEETBOARD_HTTP_PORT?)"),
        ("TWEETBOARD_STREAM_TOKN", "TWEETBOARD_STREAM_TOKN: unknown variable (did you mean TWEETBOARD_STREAM_TOKEN?)"),
        ("TWEETBOARD_XYZZY", "TWEETBOARD_XYZZY: unknown variable"),
        ("TWEETBOARD_", "TWEETBOARD_: unknown variable"),
    ],
)
def test_an_unknown_variable_is_an_error(tmp_path: Path, name: str, line: str) -> None:
    assert problems(tmp_path, {name: "1", "TWEETBOARDING": "fun"}) == (line,)


def test_every_wrong_key_of_every_layer_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text('[stream]\nformat = "xv2"\nfromat = 1\n[http]\nport = 70000\n')
    environ = {"TWEETBOARD_HTTP_PORT": "abc", "TWEETBOARD_REDIS_URL": "x", "TWEETBOARD_NO": "1"}

    with pytest.raises(ConfigurationError) as caught:
        load(flags(config="./my.toml", http__port="-1"), environ, tmp_path)

    assert str(caught.value).splitlines() == [
        "./my.toml: stream.format: 'xv2' is not one of auto, flat, x-v2, x-v1, mastodon, wikimedia, bluesky, fields",
        "./my.toml: stream.fromat: unknown key (did you mean format?)",
        "./my.toml: http.port: 70000 is not between 0 and 65535",
        "TWEETBOARD_HTTP_PORT: http.port: 'abc' is not a whole number",
        "TWEETBOARD_NO: unknown variable",
        f"TWEETBOARD_REDIS_URL: redis.url: 'x' is none of {REDIS_URLS}",
        "--port: http.port: -1 is not between 0 and 65535",
    ]
    assert caught.value.exit_code == 2


# --- Secrets ---


def test_the_token_comes_from_the_environment_as_it_stands(tmp_path: Path) -> None:
    settings = load({}, {"TWEETBOARD_STREAM_TOKEN": ' "AAA%2F123"\n'}, tmp_path)

    assert settings.stream.token == Secret('"AAA%2F123"')


def test_the_token_comes_from_the_systemd_credential_where_the_environment_has_none(tmp_path: Path) -> None:
    (tmp_path / "stream-token").write_text("credential\n")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path), "TWEETBOARD_STREAM_TOKEN": " "}

    assert load({}, environ, tmp_path).stream.token.value == "credential"
    assert load({}, environ | {"TWEETBOARD_STREAM_TOKEN": "mine"}, tmp_path).stream.token.value == "mine"


def test_the_redis_password_comes_from_its_credential_or_the_environment_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "redis-password").write_text("hunter2 with spaces\n")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}

    found = load({}, environ, tmp_path).redis
    assert found.password.value == "hunter2 with spaces"
    assert "hunter2" not in repr(found)
    other = load({}, environ | {"TWEETBOARD_REDIS_PASSWORD": "other"}, tmp_path)
    assert other.redis.password.value == "other"
    (told,) = problems(write(tmp_path, "[redis]\npassword = 'hunter2'\n"))
    assert told.startswith("config.toml: redis.password: put the password into TWEETBOARD_REDIS_PASSWORD")
    assert "hunter2" not in told


def test_a_unit_with_other_credentials_alone_has_no_token(tmp_path: Path) -> None:
    settings = load({}, {"CREDENTIALS_DIRECTORY": str(tmp_path)}, tmp_path)

    assert settings.stream.token == Secret()
    assert not settings.stream.token


def test_a_credential_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "stream-token").write_bytes(b"hunter\xff")

    assert problems(tmp_path, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == (
        "credential stream-token: stream.token: cannot be read",
    )


@pytest.mark.parametrize("token", ["Bearer hunter2", "hunter2\r\nHost: x", "hunter2\u00e9"])
def test_a_token_that_no_header_can_carry_is_refused_without_showing_it(tmp_path: Path, token: str) -> None:
    (line,) = problems(tmp_path, {"TWEETBOARD_STREAM_TOKEN": token})

    assert line.startswith("TWEETBOARD_STREAM_TOKEN: stream.token: has spaces")
    assert "hunter2" not in line


@pytest.mark.parametrize("text", ["[stream]\ntoken = 'hunter2'", "[stream.token]\nvalue = 'hunter2'"])
def test_the_token_cannot_be_set_in_the_file(tmp_path: Path, text: str) -> None:
    assert problems(write(tmp_path, text)) == (f"config.toml: stream.token: {WAY_OUT}",)


def test_the_token_cannot_be_set_by_a_flag(tmp_path: Path) -> None:
    assert problems(tmp_path, None, stream__token="hunter2") == (f"--token: stream.token: {WAY_OUT}",)  # noqa: S106


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
def test_the_token_cannot_be_set_as_a_header(tmp_path: Path, name: str) -> None:
    assert problems(write(tmp_path, f'[stream.headers]\n{name} = "Bearer hunter2"')) == (
        f"config.toml: stream.headers: '{name}' is not taken: {WAY_OUT}",
    )


@pytest.mark.parametrize(
    ("headers", "line"),
    [
        ('{"X-Key" = "hunter2\\r\\nX: y"}', "the value of 'X-Key' has characters other than printable ASCII"),
        ('{"X-Key" = "hunter2\\u0000"}', "the value of 'X-Key' has characters other than printable ASCII"),
        ('{"X\\nKey" = "hunter2"}', r"'X\nKey' cannot be the name of a header"),
        ('{Content-Length = "5"}', "'Content-Length' is not taken: it is the connection's own"),
        ('{"" = "hunter2"}', "'' cannot be the name of a header"),
        ('{"X-Key" = ["hunter2"]}', "is not a table of texts"),
        ('"hunter2"', "is not a table of texts"),
    ],
)
def test_headers_are_names_and_texts_and_an_error_never_shows_a_value(tmp_path: Path, headers: str, line: str) -> None:
    assert problems(write(tmp_path, f"[stream]\nheaders = {headers}")) == (f"config.toml: stream.headers: {line}",)
    assert "hunter2" not in problems(tmp_path, {"TWEETBOARD_STREAM_HEADERS": "hunter2"})[0]


def test_every_wrong_header_is_named(tmp_path: Path) -> None:
    assert len(problems(write(tmp_path, '[stream.headers]\nAuthorization = "a"\n"b c" = "d"\n'))) == 2
    assert len(problems(write(tmp_path, '[stream.headers]\nX-Key = "a"\nx-key = "b"\n'))) == 2


def test_no_secret_shows_where_settings_are_printed(tmp_path: Path) -> None:
    environ = {
        "TWEETBOARD_STREAM_TOKEN": "hunter2",
        "TWEETBOARD_STREAM_URL": "https://me:hunter2@a.org/s?access_token=hunter2&x=kept",
        "TWEETBOARD_STREAM_HEADERS": '{X-Api-Key = "hunter2"}',
        "TWEETBOARD_REDIS_URL": "redis://me:hunter2@redis.example:6379/0?password=hunter2",
    }
    settings = load({}, environ, tmp_path)
    by_rich = io.StringIO()
    Console(file=by_rich, width=500).print(settings, settings.stream.token)

    for printed in (repr(settings), str(settings), f"{settings.stream.token}", by_rich.getvalue()):
        assert "hunter2" not in printed
        assert "***" in printed
    assert "redis://***@redis.example:6379/0?password=***" in repr(settings)
    assert "https://***@a.org/s?access_token=***&x=kept" in repr(settings)
    assert settings.redis.url == environ["TWEETBOARD_REDIS_URL"]
    assert settings.stream.token.value == "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        "redsi://me:hunter2@h",
        "redis://me:hunter2@h:port",
        "redis:/me:hunter2@h",
        "me:hunter2@h",
        "redis//:hunter2@h",
        "redis://me:x/hunter2@h:p",
        "redis://me:x@hunter2@h:p",
        "redis://h:p?password=hunter2",
        "://:hunter2@h",
        "redis://h\n@:hunter2@h",
    ],
)
def test_no_error_shows_the_password_of_a_wrong_url(tmp_path: Path, url: str) -> None:
    for key in ("stream__url", "redis__url", "stream__name", "http__port"):
        (line,) = problems(tmp_path, None, **{key: url})
        assert "hunter2" not in line
        assert "***" in line


def test_no_error_shows_a_password_in_a_value_of_another_type(tmp_path: Path) -> None:
    for value in ("['redis://:hunter2@h']", "{a = 'redis://:hunter2@h'}"):
        assert "hunter2" not in problems(write(tmp_path, f"[redis]\nurl = {value}"))[0]


# --- Tables of the user's own: boards and streams ---


def test_boards_of_ones_own_stand_beside_the_two(tmp_path: Path) -> None:
    write(tmp_path, '[boards.wikis]\nfield = "wiki"\n[boards.hashtags]\nreposts = false\n')
    boards = load({}, {"TWEETBOARD_BOARDS_VENUES_FIELD": "venue.name"}, tmp_path).boards

    assert {name: (board.key, board.field) for name, board in boards.items()} == {
        "usernames": ("username_scoreboard", ""),
        "hashtags": ("hashtags_scoreboard", ""),
        "wikis": ("wikis_scoreboard", "wiki"),
        "venues": ("venues_scoreboard", "venue.name"),
    }
    assert boards["wikis"].windows == ["5m", "1h", "24h"]
    assert not boards["hashtags"].reposts


def test_streams_of_ones_own_stand_in_the_place_of_the_one(tmp_path: Path) -> None:
    write(tmp_path, '[streams.town-a]\nurl = "mastodon:town.example"\n[streams.x]\nurl = "x:sample"\nname = "mine"\n')
    environ = {
        "TWEETBOARD_STREAMS_X_TOKEN": "hunter2",
        "TWEETBOARD_STREAMS_TOWN_A_STALL_TIMEOUT_S": "90",
        "TWEETBOARD_STREAMS_WIKI_URL": "wikimedia",
        "CREDENTIALS_DIRECTORY": str(tmp_path),
    }
    (tmp_path / "stream-token.town-a").write_text("hunter3\n")
    (tmp_path / "stream-token.x").write_text("not this one")
    streams = streams_of(load({}, environ, tmp_path))

    assert {name: (one.title, one.settings.url, one.settings.token.value) for name, one in streams.items()} == {
        "mastodon-town-example": ("town-a", "mastodon:town.example", "hunter3"),
        "mine": ("x", "x:sample", "hunter2"),
        "wikimedia": ("wiki", "wikimedia", ""),
    }
    assert streams["mastodon-town-example"].settings.stall_timeout_s == 90


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("[boards.events]\nfield = 'x'", ["boards.events: 'events' is not a name of up to 64 of the characters a-z"]),
        ("[boards.'a b']\nfield = 'x'", ["boards.a b: 'a b' is not a name"]),
        ("[boards.x]\nfield = 'a.b'\n[boards.y]\nfield = 'a'", ["boards.y.field: 'a' and another path want different"]),
        ("[boards.x]\nfield = 'a'\nkey = 'username_scoreboard'", ["boards.x.key: 'username_scoreboard' is another"]),
        (
            "[boards.x]\nfield = 'a'\nkey = 'username_scoreboard:x'",
            ["boards.x.key: 'username_scoreboard:x' is another"],
        ),
        ("[boards.x]\nfield = 3", ["boards.x.field: 3 is not text"]),
        ("[boards.username]\nfield = 'a'", ["boards.username.key: 'username_scoreboard' is another board's key too"]),
        ("[boards.stream]\nfield = 'a'", ["boards.stream: 'stream' is not a name"]),
        (f"[boards.x]\nfield = '{'a.' * 40}b'", ["boards.x.field: 'a.a."]),
        ("[streams.'']\nurl = 'wikimedia'", ["streams.: '' is no name for a table"]),
        ("[[streams]]\ntoken = 'hunter2'", ["streams: a list is not a table"]),
        ("[streams]\na = [{token = 'hunter2'}]", ["streams.a: a list is not a table"]),
        (
            "[streams.a]\nurl = 'wikimedia'\n[streams.b]\nurl = 'wikimedia'",
            ["streams.b.url: is that of streams.a too: each post would count twice"],
        ),
        *(
            (
                f"[streams.a]\nurl = '{one}'\n[streams.b]\nurl = '{other}'\nname = 'b'",
                ["streams.b.url: is that of streams.a too: each post would count twice"],
            )
            for one, other in [
                ("wikimedia", "https://stream.wikimedia.org/v2/stream/recentchange"),
                ("http://a.org/x", "http://A.org:80/x#part"),
                ("ws://a.org", "ws://a.org/"),
            ]
        ),
        (
            "[stream]\nformat = 'fields'\n[boards.x]\nfield = 'a'\n[filter]\nbots = false",
            ["filter.bots: the format 'fields' knows no bots"],
        ),
        (
            "[stream]\nformat = 'fields'\n[boards.x]\nfield = 'a'\nonce_per_author = '1h'\nforget = '1h'",
            [
                "boards.x.once_per_author: the format 'fields' knows no authors",
                "boards.x.forget: the format 'fields' knows no posts that are gone",
            ],
        ),
        (
            "[boards.usernames]\nstore = 'leaders'\nforget = '1h'\nmax_members = 100\n[boards.hashtags]\nstore = 'x'",
            [
                "boards.hashtags.store: 'x' is not one of zset, leaders",
                "boards.usernames.store: 'leaders' does not go together with forget",
                "boards.usernames.store: 'leaders' does not go together with max_members",
            ],
        ),
        ("[boards.x]\nfield = 'hashtag'", ["boards.x.field: 'hashtag' may be meant as 'hashtags'; for a path write"]),
        ("[boards.x]\nfield = 'authors'", ["boards.x.field: 'authors' may be meant as 'author'; for a path write"]),
        ("[boards.x]\nfield = 'a'\nreposts = 'no'", ["boards.x.reposts: 'no' is not true or false"]),
        ("[boards]\nx = 3", ["boards.x: 3 is not a table"]),
        ("[stream]\nformat = 'fields'", ["stream.format: 'fields' needs a board that says what it counts"]),
        (
            "[stream]\nformat = 'fields'\n[boards.usernames]\nfield = 'author'\n[boards.x]\nfield = '.author'",
            ["boards.usernames.field: 'author' is what other formats know; of fields write '.author'"],
        ),
        (
            "[stream]\nformat = 'fields'\n[boards.x]\nfield = 'a'\n[filter]\nlanguages = ['en']",
            ["filter.languages: the format 'fields' knows no languages"],
        ),
        ("[streams.a]", ["streams.a.url: is missing, or demo:, which is only shown alone"]),
        ("[streams.bare]\nurl = 'wikimedia'", ["streams.bare: 'bare' is not a name of up to 64"]),
        ("[streams.a]\nurl = 'x'", ["streams.a.url: 'x' is none of what"]),
        (
            "[stream]\nurl = 'bluesky'\n[streams.a]\nurl = 'wikimedia'",
            ["stream.url: does not go together with tables [streams.NAME]: put it into one of them"],
        ),
        (
            "[streams.a]\nurl = 'wikimedia'\n[streams.b]\nurl = 'bluesky'\nname = 'wikimedia'",
            ["streams.b.name: is that of streams.a too: each post would count twice"],
        ),
        ("[streams.a]\nurl = 'wikimedia'\ntoken = 'x'", [f"streams.a.token: {WAY_OUT}"]),
        ("[filter]\nlanguages = ['english please']", ["filter.languages: 'english please' is not a language tag"]),
        ("[filter]\nmin_hashtag_length = 0", ["filter.min_hashtag_length: 0 is not between 1 and 256"]),
        ("[filter]\nbots = 0", ["filter.bots: 0 is not true or false"]),
    ],
)
def test_what_is_wrong_with_a_table_of_ones_own_is_named(tmp_path: Path, text: str, lines: list[str]) -> None:
    found = problems(write(tmp_path, text))

    assert len(found) == len(lines)
    assert all(line.startswith(f"config.toml: {wanted}") for line, wanted in zip(found, lines, strict=True))


def test_the_shipped_file_with_streams_of_ones_own_behind_it_is_taken(tmp_path: Path) -> None:
    text = SHIPPED.read_text("utf-8").replace("[streams]\n", '[streams.wiki]\nurl = "wikimedia"\n')

    assert list(streams_of(load({}, {}, write(tmp_path, text)))) == ["wikimedia"]


def test_a_variable_of_no_table_and_no_key_is_named(tmp_path: Path) -> None:
    assert problems(tmp_path, {"TWEETBOARD_BOARDS_EVENTS_FIELD": "x", "TWEETBOARD_STREAMS_A_XYZ": "x"}) == (
        "TWEETBOARD_BOARDS_EVENTS_FIELD: unknown variable (did you mean TWEETBOARD_BOARDS_USERNAMES_FIELD?)",
        "TWEETBOARD_STREAMS_A_XYZ: unknown variable (did you mean TWEETBOARD_STREAM_NAME?)",
    )


def test_a_flag_of_the_one_stream_beside_tables_of_streams_is_said_whatever_it_sets(tmp_path: Path) -> None:
    write(tmp_path, '[streams.a]\nurl = "wikimedia"\n')
    wrong = "does not go together with tables [streams.NAME]: put it into one of them"

    assert problems(tmp_path, stream__url="demo:") == (f"--url: stream.url: {wrong}",)
    assert load(flags(stream__format="flat"), {}, tmp_path, without_streams=True).streams == {}


def test_a_variable_that_could_be_of_two_tables_is_refused(tmp_path: Path) -> None:
    """It would give the token of the one to the other's upstream."""
    write(tmp_path, '[streams.a-b]\nurl = "wikimedia"\n[streams.a_b]\nurl = "bluesky"\n')

    assert problems(tmp_path, {"TWEETBOARD_STREAMS_A_B_TOKEN": "hunter2"}) == (
        "TWEETBOARD_STREAMS_A_B_TOKEN: stands for more than one table, whose names differ in - and _ alone",
    )
