# SPDX-License-Identifier: GPL-3.0-or-later
"""What tools/bench makes of fio."""

from __future__ import annotations

import json

import pytest

from kos import KosError, bench_volumes


def report(**sides):
    idle = {"bw_bytes": 0, "iops": 0.0}
    return json.dumps({"jobs": [{"read": idle, "write": idle, **sides}]})


@pytest.mark.parametrize("side", ["read", "write"])
@pytest.mark.parametrize("before", ["", "fio: this platform does not support process shared mutexes\n"])
def test_the_side_that_did_something_counts(side, before):
    assert bench_volumes.rates(before + report(**{side: {"bw_bytes": 2_500_000, "iops": 610.5}})) == (2.5, 610.5)


@pytest.mark.parametrize("said", ["", "fio: pid=7, err=28/file: No space left on device", '{"jobs": []}'])
def test_what_is_no_report_is_told(said):
    with pytest.raises(KosError, match="fio said nothing of its speed"):
        bench_volumes.rates(said)


def test_caches_are_passed_by():
    command = bench_volumes.fio_command("randread", "4k", 16, "/data/file")
    assert {"--direct=1", "--rw=randread", "--bs=4k", "--iodepth=16", "--filename=/data/file"} <= set(command)
