"""Addresses of runtimes: http(s), and not an address of a cloud's metadata service.

This service sends requests to the address that is set. In most clouds link-local addresses return
the credentials of the machine, and no runtime uses them.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Annotated

from pydantic import AfterValidator, AnyHttpUrl

_METADATA = (  # where it is not link-local
    ip_network("fd00:ec2::/32"),
    ip_network("100.100.100.200/32"),
)
_FORBIDDEN_NAMES = ("metadata", "instance-data", "metadata.goog")
_FORBIDDEN_TREES = (".metadata.goog", "metadata.google.internal", "metadata.azure.internal")


def _check(url: AnyHttpUrl) -> AnyHttpUrl:
    if url.username or url.password:
        raise ValueError("must hold no user or password; set TSFM_TOLLAMA__API_KEY instead")
    if url.query is not None or url.fragment is not None:
        raise ValueError("must end with its path, without ? or #")
    if is_forbidden_host(url.host or ""):
        raise ValueError(
            "must not be a link-local address or a cloud's metadata service; give the address "
            "of a tollama daemon, such as http://tollama:11435"
        )
    return url


RuntimeUrl = Annotated[AnyHttpUrl, AfterValidator(_check)]


def is_forbidden_host(host: str) -> bool:
    """Whether the host of a URL is link-local or a known metadata service.

    Names are not resolved: their address may change after the check.

    >>> [is_forbidden_host(host) for host in ("169.254.169.254", "[fe80::1]", "10.0.0.7")]
    [True, True, False]
    """
    name = host.strip("[]").rstrip(".").lower()
    address = _address(name)
    if address is None:
        ends = name.endswith((*_FORBIDDEN_TREES, *(f"{n}.ec2.internal" for n in _FORBIDDEN_NAMES)))
        return name in _FORBIDDEN_NAMES or ends
    return address.is_link_local or any(address in network for network in _METADATA)


def runtime_name(url: AnyHttpUrl) -> str:
    """The address of a runtime without the scheme; equal names are the same runtime.

    >>> runtime_name(AnyHttpUrl("http://tollama-0.tollama:11435/"))
    'tollama-0.tollama:11435'
    >>> runtime_name(AnyHttpUrl("https://gateway/a"))
    'gateway:443/a'
    """
    return f"{url.host}:{url.port}{url.path or ''}".rstrip("/")


def _address(name: str) -> IPv4Address | IPv6Address | None:
    """``name`` as an address, IPv4 in IPv6 unpacked; None when it is a name."""
    try:
        address = ip_address(name)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
