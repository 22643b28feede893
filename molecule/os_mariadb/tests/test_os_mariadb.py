# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

testinfra_hosts = ["ansible://controller"]


def test_it_runs(runs):
    runs("mariadb")


def test_it_listens_on_one_inner_address(host, listens):
    assert listens(3306) == {host.ansible.get_variables()["mgmt_ip"]}


def test_there_is_no_user_without_a_name(host):
    assert (
        host.check_output("mariadb --batch --skip-column-names --execute \"SELECT count(*) FROM mysql.global_priv WHERE user = ''\"") == "0"
    )


def test_the_settings_are_in_force(host):
    assert host.check_output("mariadb --batch --skip-column-names --execute 'SELECT @@skip_name_resolve'") == "1"


def test_what_others_change_meanwhile_is_no_error(host):
    """Services lock rows that they have read before; Octavia's and others' flows end at error 1020."""
    assert host.check_output("mariadb --batch --skip-column-names --execute 'SELECT @@GLOBAL.innodb_snapshot_isolation'") == "0"
