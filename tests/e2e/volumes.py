# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes of an ordinary member, in servers that Kubernetes keeps for itself otherwise."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
import typing as t

import openstack
import pytest

from kos.cli import Paths

PATIENCE = 120


def connect(paths: Paths, contract: t.Mapping[str, t.Any]) -> t.Any:
    """Log in as the cluster does; skip where there are no volumes."""
    if "cinder" not in contract["offers"]:
        pytest.skip("this cloud has no Cinder")
    os.environ["OS_CLIENT_CONFIG_FILE"] = str(paths.state / "clouds.yaml")
    return openstack.connect(cloud=contract["credential"], block_storage_default_microversion="3.66")


def inside(paths: Paths, server: str, script: str) -> str:
    """Run a script in a server as root."""
    argv = [str(paths.root / "tools/ssh_to_node"), server, "sudo", "sh", "-eu"]
    done = subprocess.run(argv, input=script, env=paths.environment(), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"{server}: {script}: {done.stderr.strip()}"
    return done.stdout.strip()


def link(volume: t.Any) -> str:
    """Return the name that a volume has in a server, which is what Kubernetes looks for."""
    return f"/dev/disk/by-id/virtio-{volume.id[:20]}"


class Volumes:
    """A member's volumes, and what becomes of them."""

    def __init__(self, name: str, cloud: t.Any, nodes: t.Mapping[str, t.Any]) -> None:
        self.name, self.cloud, self.storage, self.nodes = name, cloud, cloud.block_storage, nodes

    def settle(self, what: t.Any, status: str) -> t.Any:
        """Wait until the cloud, and not our copy of what it said last, has come there."""
        fresh = type(what).existing(id=what.id).fetch(self.storage)
        return self.storage.wait_for_status(fresh, status, failures=["error", "error_extending"], interval=0.5, wait=PATIENCE)

    def make(self, size: int = 1, **options: t.Any) -> t.Any:
        return self.settle(self.storage.create_volume(name=self.name, size=size, **options), "available")

    def snapshot(self, volume: t.Any) -> t.Any:
        return self.settle(self.storage.create_snapshot(volume_id=volume.id, name=self.name), "available")

    def attach(self, volume: t.Any, server: str) -> None:
        self.cloud.compute.create_volume_attachment(self.nodes[server]["server_id"], volume_id=volume.id)
        self.settle(volume, "in-use")

    def detach(self, volume: t.Any, server: str) -> None:
        number = self.nodes[server]["server_id"]
        self.cloud.compute.delete_volume_attachment(number, volume.id)
        self.settle(volume, "available")
        # Nova gives the volume back first, and then forgets it.
        end = time.monotonic() + PATIENCE
        while any(each.volume_id == volume.id for each in self.cloud.compute.volume_attachments(number)):
            assert time.monotonic() < end, f"Nova does not forget {volume.id}"
            time.sleep(0.5)

    def remove_all(self) -> None:
        for volume in self.storage.volumes(name=self.name):
            for attachment in volume.attachments:
                with contextlib.suppress(openstack.exceptions.SDKException):
                    self.cloud.compute.delete_volume_attachment(attachment["server_id"], volume.id)
                    self.settle(volume, "available")
        for snapshot in list(self.storage.snapshots(name=self.name)):
            self.storage.delete_snapshot(snapshot)
            self.storage.wait_for_delete(snapshot, interval=0.5, wait=PATIENCE)
        for volume in list(self.storage.volumes(name=self.name)):
            self.storage.delete_volume(volume)
            self.storage.wait_for_delete(volume, interval=0.5, wait=PATIENCE)
