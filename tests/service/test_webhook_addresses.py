"""The addresses that webhooks may call: the internet with TLS, and allowed networks."""

import ipaddress
import socket

import pytest

from service.webhooks.addresses import AddressRefused, check_url, is_permitted, permitted_addresses
from studies.errors import WebhookInvalid

__all__: list[str] = []

PUBLIC = [
    "93.184.215.14",
    "1.1.1.1",
    "2606:4700:4700::1111",
    "2001:4860:4860::8888",
    "2620:4e:ffff::1",
    "2001:200::1",
    "192.88.100.1",
    "::ffff:1.1.1.1",
]
INNER = [
    "127.0.0.1",
    "127.9.9.9",
    "0.0.0.0",
    "10.0.0.5",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "198.18.0.1",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::",
    "2001:0:7f00:1::",
    "2001:db8::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%lo",
    "ff02::1",
]
# IANA's registries of special-purpose addresses, November 2026, and multicast. What they call globally
# reachable is anycast or embeds other addresses, and no receiver of webhooks has such an address.
# Source: https://www.iana.org/assignments/iana-ipv4-special-registry and iana-ipv6-special-registry.
REGISTRY = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/127",
    "::/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "100:0:0:1::/64",
    "2001::/23",
    "2001::/32",
    "2001:2::/48",
    "2001:3::/32",
    "2001:4:112::/48",
    "2001:10::/28",
    "2001:20::/28",
    "2001:30::/28",
    "2001:db8::/32",
    "2002::/16",
    "2620:4f:8000::/48",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
]


@pytest.mark.parametrize("network", REGISTRY)
def test_every_special_purpose_network_is_refused(network: str) -> None:
    found = ipaddress.ip_network(network)
    addresses = [str(found[n]) for n in (0, 1, found.num_addresses // 3, -2, -1)]
    if found.version == 4:
        addresses += [f"::ffff:{address}" for address in addresses]
    assert [each for each in addresses if is_permitted(each, is_tls=True, allow=())] == []


@pytest.mark.parametrize("address", INNER)
def test_addresses_of_the_machine_its_network_and_cloud_are_refused(address: str) -> None:
    assert not is_permitted(address, is_tls=True, allow=())
    assert not is_permitted(address, is_tls=False, allow=())


@pytest.mark.parametrize("address", PUBLIC)
def test_the_internet_may_be_called_only_with_tls(address: str) -> None:
    assert is_permitted(address, is_tls=True, allow=())
    assert not is_permitted(address, is_tls=False, allow=("10.0.0.0/8",))


def test_allowed_networks_may_be_called_with_and_without_tls() -> None:
    allow = ("10.1.0.0/16", "fd00::/8", "192.168.1.7")
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd12::1", "192.168.1.7"):
        assert is_permitted(address, is_tls=False, allow=allow)
    for address in ("10.2.0.1", "192.168.1.8", "127.0.0.1", "::1"):
        assert not is_permitted(address, is_tls=True, allow=allow)


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "::1", "0", "::ffff:7f00:1"],
)
def test_every_spelling_of_loopback_is_refused(host: str) -> None:
    with pytest.raises(AddressRefused) as refused:
        permitted_addresses(host, 443, is_tls=True, allow=())
    assert str(refused.value) == str(AddressRefused(host))


def test_only_permitted_addresses_of_a_name_are_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = ["127.0.0.1", "10.1.0.9", "1.1.1.1", "10.1.0.9"]

    def look_up(*_: object, **__: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert permitted_addresses("mixed.example", 443, is_tls=True, allow=()) == ("1.1.1.1",)
    assert permitted_addresses("mixed.example", 443, is_tls=True, allow=("10.1.0.0/16",)) == (
        "10.1.0.9",
        "1.1.1.1",
    )
    with pytest.raises(AddressRefused):
        permitted_addresses("mixed.example", 80, is_tls=False, allow=("10.9.0.0/16",))


@pytest.mark.parametrize("host", ["no-such-name.invalid", "x" * 70 + ".example", "a..b"])
def test_an_unknown_name_is_refused_with_the_same_words_as_an_internal_one(host: str) -> None:
    with pytest.raises(AddressRefused) as refused:
        permitted_addresses(host, 443, is_tls=True, allow=())
    assert str(refused.value) == str(AddressRefused(host))


@pytest.mark.parametrize(
    ("url", "allow"),
    [
        ("http://hooks.example/", ()),
        ("http://1.1.1.1/", ()),
        ("http://1.1.1.1/", ("10.0.0.0/8",)),
        ("http://127.0.0.1:9000/", ()),
        ("http://localhost:9000/", ()),
        ("https://localhost/", ()),
        ("https://LOCALHOST./", ()),
        ("https://127.0.0.1/", ()),
        ("https://[::1]/", ()),
        ("https://169.254.169.254/latest/meta-data", ("10.0.0.0/8",)),
    ],
)
def test_urls_that_can_never_be_called_are_refused_at_creation(url: str, allow: tuple[str, ...]) -> None:
    with pytest.raises(WebhookInvalid) as refused:
        check_url(url, allow=allow)
    assert [problem.pointer for problem in refused.value.problems] == ["/url"]


@pytest.mark.parametrize(
    ("url", "allow"),
    [
        ("https://hooks.example/", ()),
        ("https://1.1.1.1/", ()),
        ("http://hooks.lab:9000/", ("10.0.0.0/8",)),
        ("http://localhost:9000/", ("127.0.0.0/8",)),
        ("http://127.0.0.1:9000/", ("127.0.0.0/8",)),
        ("https://10.0.0.1/", ("10.0.0.1",)),
    ],
)
def test_urls_that_may_be_callable_are_accepted(url: str, allow: tuple[str, ...]) -> None:
    check_url(url, allow=allow)
