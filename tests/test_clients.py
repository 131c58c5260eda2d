"""Where somebody asks from is believed of nobody but a named proxy, and nobody may watch more than their share."""

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from tweetboard import clients as module
from tweetboard.answers import ProblemFound
from tweetboard.clients import Clients


class Transport:
    """A connection from somewhere."""

    def __init__(self, peer: object) -> None:
        self._peer = peer

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._peer if name == "peername" else default


def request(peer: object, *forwarded: str) -> web.Request:
    headers = CIMultiDict([("Host", "localhost"), *(("X-Forwarded-For", line) for line in forwarded)])
    return make_mocked_request("GET", "/events", headers=headers, transport=Transport(peer))


def test_several_lines_are_one_way() -> None:
    """As RFC 9110 (5.3) has it: a proxy may add a line of its own."""
    clients = Clients(1, ["10.0.0.0/8"])
    assert clients.address(request(("10.0.0.1", 1), "1.2.3.4", "198.51.100.7", "10.0.0.2")) == "198.51.100.7"


@pytest.mark.parametrize(("proxies", "address"), [(["unix"], "198.51.100.7"), (["10.0.0.0/8"], ""), ([], "")])
def test_whoever_asks_over_a_unix_socket_is_a_proxy_where_that_is_said(proxies: list[str], address: str) -> None:
    assert Clients(1, proxies).address(request("", "1.2.3.4, 198.51.100.7")) == address


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        (("203.0.113.9", 1), "", "203.0.113.9"),
        (("203.0.113.9", 1), "198.51.100.7", "203.0.113.9"),
        (("10.0.0.1", 1), "198.51.100.7", "198.51.100.7"),
        (("10.0.0.1", 1), "1.2.3.4, 198.51.100.7", "198.51.100.7"),
        (("10.0.0.1", 1), "1.2.3.4, 198.51.100.7, 10.0.0.2", "198.51.100.7"),
        (("10.0.0.1", 1), "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        (("10.0.0.1", 1), "198.51.100.7, unknown", "10.0.0.1"),
        (("10.0.0.1", 1), "198.51.100.7:4711", "198.51.100.7"),
        (("10.0.0.1", 1), "[2001:db8::7]:4711, 10.0.0.2:80", "2001:db8::7"),
        (("10.0.0.1", 1), "2001:db8::7,", "2001:db8::7"),
        (("10.0.0.1", 1), "", "10.0.0.1"),
        (("::ffff:10.0.0.1", 1, 0, 0), "198.51.100.7", "198.51.100.7"),
        (("2001:db8::1", 1, 0, 0), "198.51.100.7", "2001:db8::1"),
        ("", "198.51.100.7", ""),
    ],
)
def test_the_way_a_request_came_is_followed_back_through_named_proxies_alone(
    peer: object, forwarded: str, address: str
) -> None:
    found = Clients(5, ["10.0.0.0/8"]).address(request(peer, *([forwarded] if forwarded else [])))
    assert found == address


def test_one_address_has_its_share_and_gets_it_back() -> None:
    clients = Clients(2)
    one, other = request(("203.0.113.9", 1)), request(("203.0.113.10", 1))
    with clients.watching(one):
        with clients.watching(one), clients.watching(other):
            with (
                pytest.raises(ProblemFound, match=r"2 connections from 203\.0\.113\.9 watch") as found,
                clients.watching(one),
            ):
                pass
            assert found.value.problem.status == 429
        with clients.watching(one):
            pass


def test_a_household_of_ipv6_has_one_share() -> None:
    clients = Clients(1)
    with clients.watching(request(("2001:db8:0:1::5", 1, 0, 0))):
        with (
            pytest.raises(ProblemFound, match="1 connections from 2001:db8:0:1::/64 watch"),
            clients.watching(request(("2001:db8:0:1::6", 1, 0, 0))),
        ):
            pass
        with clients.watching(request(("2001:db8:0:2::5", 1, 0, 0))), clients.watching(request(("fe80::1%5", 1, 0, 5))):
            pass


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_this_machine_itself_has_no_share(address: str) -> None:
    clients = Clients(1)
    here = request((address, 1))
    with clients.watching(here), clients.watching(here), clients.watching(request("")), clients.watching(request("")):
        pass


def test_all_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_VIEWERS", 2)
    clients = Clients(100)
    with clients.watching(request(("203.0.113.1", 1))), clients.watching(request(("203.0.113.2", 1))):
        with (
            pytest.raises(ProblemFound, match="2 connections watch") as found,
            clients.watching(request(("::1", 1, 0, 0))),
        ):
            pass
        assert found.value.problem.status == 503
