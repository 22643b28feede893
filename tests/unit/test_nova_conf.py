# SPDX-License-Identifier: GPL-3.0-or-later
"""Nova's files, rendered."""

from __future__ import annotations

import configparser

import jinja2
import pytest


@pytest.mark.parametrize("template", ["os_nova/templates/nova.conf.j2", "os_nova_compute/templates/nova-compute.conf.j2"])
def test_nova_talks_to_cinder_when_no_user_asks(root, template):
    """It ends what a dead service was at, without anybody's token, and its section of Cinder names the region in its own way."""
    place = root / "roles" / template
    loader = jinja2.FileSystemLoader([place.parent, root / "roles/_os_config/templates"])
    environment = jinja2.Environment(loader=loader, trim_blocks=True, undefined=jinja2.ChainableUndefined)
    environment.filters["comment"] = lambda text: f"# {text}"
    known = {
        "os_secret": {"nova": "secret"},
        "os_region": "here",
        "os_identity_internal_url": "http://identity",
        "os_controller_addresses": [],
    }
    found = configparser.ConfigParser(interpolation=None)
    found.read_string(environment.get_template(place.name).render(known))
    cinder = found["cinder"]
    assert [cinder[name] for name in ("auth_type", "auth_url", "username", "password", "project_name", "os_region_name")] == [
        "password",
        "http://identity",
        "nova",
        "secret",
        "service",
        "here",
    ]
    assert "region_name" not in cinder
    assert found["placement"]["region_name"] == "here"
