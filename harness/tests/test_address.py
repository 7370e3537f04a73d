# SPDX-License-Identifier: Apache-2.0
"""Addresses follow from the kernel id, and what configures the interfaces agrees."""

from __future__ import annotations

import re
from ipaddress import ip_address

import pytest

from popcorn.config import load_machine
from popcorn.image.recipe import images_folder
from popcorn.machine.orders import hosts_file
from popcorn.plan import make_plan
from popcorn.plan.address import NETWORK_V4, NETWORK_V6, address_of


def test_the_address_is_the_id_plus_one_in_the_network() -> None:
    assert str(address_of(0).v4) == "10.80.0.1"
    assert str(address_of(255).v4) == "10.80.1.0"
    assert str(address_of(47).v6) == "fd50:4f50:434e::30"
    assert address_of(5).name == "kernel-5"


def test_no_id_gets_the_address_of_the_network_or_of_all() -> None:
    assert address_of(65533).v4 == ip_address("10.80.255.254")
    for id in (-1, 65534, 1 << 20):
        with pytest.raises(ValueError, match="has no address"):
            address_of(id)


def test_the_hosts_file_names_every_kernel_that_there_can_be_in_both_protocols() -> None:
    plan = make_plan(load_machine("small"), "per-node")
    content, mode = hosts_file(plan)["/etc/hosts"]
    lines = [line.split() for line in content.decode().splitlines()]
    for id in range(8):
        address = address_of(id)
        assert [str(address.v4), address.name] in lines
        assert [str(address.v6), address.name] in lines
    assert ["127.0.0.1", "localhost"] in lines
    assert mode == 0o644


def test_popcorn_init_has_the_same_networks() -> None:
    source = (images_folder() / "programs" / "popcorn-init" / "network.c").read_text()
    define = dict(re.findall(r"^#define (\w+)\s+\"?([\w:]+)", source, re.MULTILINE))
    assert int(define["NETWORK"].rstrip("u"), 16) == int(NETWORK_V4.network_address)
    assert int(define["NETMASK"].rstrip("u"), 16) == int(NETWORK_V4.netmask)
    assert define["NETWORK6"] == str(NETWORK_V6.network_address)
    assert int(define["PREFIX6"]) == NETWORK_V6.prefixlen
