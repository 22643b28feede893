# SPDX-License-Identifier: GPL-3.0-or-later
"""The volume driver: what Cinder asks, answered by the store."""

from __future__ import annotations

import contextlib
import os
import socket
import typing as t

from cinder import context as cinder_context
from cinder import exception, interface, utils
from cinder.image import image_utils
from cinder.objects import fields
from cinder.volume import configuration, driver, volume_utils
from oslo_concurrency import processutils
from oslo_config import cfg
from oslo_log import log as logging

from cinder_loopfile import store

__all__ = ["LoopFileDriver"]

LOG = logging.getLogger(__name__)
GIB = 2**30
OPTIONS = [
    cfg.StrOpt("loopfile_dir", default="/var/lib/cinder/volumes", help="The folder of the volumes' files, of this backend alone."),
    # Neither "loop" nor "nbd" may be in it: what a server has as its root, and Nova finds that in the name of, Nova detaches itself when the server stops.
    # Source: teardown_container in nova/virt/disk/api.py.
    cfg.StrOpt(
        "loopfile_device_dir",
        default="/run/cinder-volumes",
        help="Where devices of attached volumes have names that stay the same. The service's user must be able to write there.",
    ),
]
cfg.CONF.register_opts(OPTIONS, group=configuration.SHARED_CONF_GROUP)


def _run(argv: t.Sequence[str], root: bool) -> str:
    """Run a program without holding up the service's other work."""
    try:
        return utils.execute(*argv, run_as_root=root)[0]
    except processutils.ProcessExecutionError as problem:
        raise store.StoreError((problem.stderr or str(problem)).strip()) from problem


@contextlib.contextmanager
def _told() -> t.Iterator[None]:
    """Say in Cinder's way what went wrong."""
    try:
        yield
    except (store.StoreError, OSError) as problem:
        raise exception.VolumeBackendAPIException(data=str(problem)) from problem


@contextlib.contextmanager
def _told_of_new(volume: t.Any, files: store.Store) -> t.Iterator[None]:
    """Say the same of what makes a volume, and remove the file of one that is gone by then.

    Cinder's API deletes by itself what no service has yet (`delete` in cinder/volume/api.py), also when one is about to make it.
    """
    with _told():
        yield
        if not type(volume).exists(cinder_context.get_admin_context(), volume.id):
            LOG.warning("%s was deleted while it was made.", volume.name)
            files.delete(volume.name)
            raise exception.VolumeNotFound(volume_id=volume.id)


@interface.volumedriver
class LoopFileDriver(driver.VolumeDriver):
    """Sparse files of this host, and loop devices for its servers."""

    VERSION = "1.0.0"
    CI_WIKI_NAME = "none"

    def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(OPTIONS)
        self._store = store.Store(
            self.configuration.loopfile_dir,
            self.configuration.loopfile_device_dir,
            _run,
            over_subscription=self._over_subscription,
        )

    @staticmethod
    def get_driver_options() -> list[t.Any]:
        """Return what can be set."""
        return OPTIONS

    @property
    def _over_subscription(self) -> float:
        ratio = self.configuration.safe_get("max_over_subscription_ratio")
        # "auto" is Cinder's default; ours is that nothing is promised twice.
        return float(ratio) if ratio not in (None, "auto") else 1.0

    # --- start

    def do_setup(self, context: t.Any) -> None:
        """Sweep what a killed service left, attach what should be attached."""
        with _told():
            for line in self._store.prepare():
                LOG.info("%s", line)

    def check_for_setup_error(self) -> None:
        """Do nothing: do_setup has tried it all."""

    def update_provider_info(self, volumes: t.Any, snapshots: t.Any) -> tuple[None, None]:
        """Bring to a state that their owners can go on from what a killed service was at and Cinder itself does not take up again.

        The service calls this when it starts, with all that it has. Requests that wait for it come later, and find what they need.
        """
        for volume in volumes:
            # Whoever attached it by Cinder's older calls gave no connector.
            attached = volume.attach_status == fields.VolumeAttachStatus.ATTACHED or any(
                each.connector for each in volume.volume_attachment
            )
            if not attached and volume.name in self._store.exports():
                LOG.warning("Nobody is attached to %s: detaching it.", volume.name)
                # What fails for one volume is not to keep the service from all others.
                try:
                    self._store.unexport(volume.name)
                except (store.StoreError, OSError) as problem:
                    LOG.warning("%s: %s", volume.name, problem)
            if volume.status in ("extending", "uploading"):
                LOG.warning("%s was %s when the service ended; that can be tried again.", volume.name, volume.status)
                volume.status = "in-use" if attached else "available"
                volume.save()
            elif volume.status == "reverting":
                # In one step, which was done or not.
                LOG.warning("%s was being reverted when the service ended; it holds what it had, or what its snapshot has.", volume.name)
                volume.status = "available"
                volume.save()
        for snapshot in snapshots:
            if snapshot.status == fields.SnapshotStatus.DELETING:
                LOG.warning("%s was being deleted when the service ended; it can be deleted again.", snapshot.name)
                snapshot.status = fields.SnapshotStatus.ERROR
                snapshot.save()
            elif snapshot.status == fields.SnapshotStatus.RESTORING:
                snapshot.status = fields.SnapshotStatus.AVAILABLE
                snapshot.save()
        known = {each.name for each in (*volumes, *snapshots)}
        # Where it is set they come in parts.
        whole = not cfg.CONF.init_host_max_objects_retrieval
        for name in sorted(set(self._store.names()) - known) if whole else ():
            # Cinder deletes what it knows of, and nobody else's word is enough.
            LOG.warning("Nobody knows of %s: it takes room until somebody removes it.", self._store.path(name))
        return None, None

    # --- volumes and snapshots

    def create_volume(self, volume: t.Any) -> None:
        """Make an empty volume."""
        with _told_of_new(volume, self._store):
            self._store.create(volume.name, volume.size * GIB)

    def delete_volume(self, volume: t.Any) -> None:
        """Remove a volume."""
        with _told():
            self._store.delete(volume.name)

    def extend_volume(self, volume: t.Any, new_size: int) -> None:
        """Make a volume larger; a server that has it sees this at once."""
        with _told():
            self._store.extend(volume.name, new_size * GIB)

    def create_snapshot(self, snapshot: t.Any) -> None:
        """Keep what a volume holds now."""
        with _told():
            self._store.copy(snapshot.volume.name, snapshot.name, snapshot.volume_size * GIB)

    def delete_snapshot(self, snapshot: t.Any) -> None:
        """Remove a snapshot."""
        with _told():
            self._store.delete(snapshot.name)

    def create_volume_from_snapshot(self, volume: t.Any, snapshot: t.Any) -> None:
        """Make a volume of what a snapshot holds."""
        with _told_of_new(volume, self._store):
            self._store.copy(snapshot.name, volume.name, volume.size * GIB)

    def create_cloned_volume(self, volume: t.Any, src_vref: t.Any) -> None:
        """Make a volume of what another one holds."""
        with _told_of_new(volume, self._store):
            self._store.copy(src_vref.name, volume.name, volume.size * GIB)

    def revert_to_snapshot(self, context: t.Any, volume: t.Any, snapshot: t.Any) -> None:
        """Have a volume hold again what its snapshot holds."""
        with _told():
            self._store.revert(snapshot.name, volume.name, volume.size * GIB)

    def snapshot_revert_use_temp_snapshot(self) -> bool:
        """Ask for no copy of the volume before: one that cannot be reverted is as it was."""
        return False

    def copy_image_to_volume(
        self, context: t.Any, volume: t.Any, image_service: t.Any, image_id: str, disable_sparse: bool = False
    ) -> None:
        """Fill a volume with an image."""
        with _told(), self._store.replacing(volume.name, volume.size * GIB) as partial:
            image_utils.fetch_to_raw(
                context,
                image_service,
                image_id,
                str(partial),
                self.configuration.volume_dd_blocksize,
                size=volume.size,
                run_as_root=False,
                disable_sparse=disable_sparse,
            )

    def copy_volume_to_image(self, context: t.Any, volume: t.Any, image_service: t.Any, image_meta: t.Any) -> None:
        """Upload what a volume holds."""
        with _told():
            self._store.flush(volume.name)
        volume_utils.upload_volume(context, image_service, image_meta, str(self._store.path(volume.name)), volume, run_as_root=False)

    def local_path(self, volume: t.Any) -> str:
        """Return a volume's file."""
        return str(self._store.path(volume.name))

    # --- connections

    def validate_connector(self, connector: t.Any) -> None:
        """Refuse servers of other hosts: loop devices are one kernel's."""
        here = socket.gethostname()
        if connector.get("host") != here:
            raise exception.VolumeBackendAPIException(
                data=f"volumes of the backend {self.configuration.safe_get('volume_backend_name')} are loop devices of {here}, "
                f"and the server is on {connector.get('host')}: start it on {here}"
            )

    def create_export(self, context: t.Any, volume: t.Any, connector: t.Any) -> None:
        """Do nothing yet: initialize_connection does it in one."""

    def ensure_export(self, context: t.Any, volume: t.Any) -> None:
        """Attach a volume that a server has."""
        with _told():
            self._store.export(volume.name)

    def remove_export(self, context: t.Any, volume: t.Any) -> None:
        """Detach a volume."""
        with _told():
            self._store.unexport(volume.name)

    def initialize_connection(self, volume: t.Any, connector: t.Any, **kwargs: t.Any) -> dict[str, t.Any]:
        """Attach a volume, and say where its device is."""
        with _told():
            device = self._store.export(volume.name)
        return {"driver_volume_type": "local", "data": {"device_path": os.fspath(device), "volume_id": volume.id}}

    def terminate_connection(self, volume: t.Any, connector: t.Any, **kwargs: t.Any) -> None:
        """Detach a volume."""
        with _told():
            self._store.unexport(volume.name)

    # --- figures

    def _update_volume_stats(self) -> None:
        with _told():
            room = self._store.room()
        self._stats = {
            "volume_backend_name": self.configuration.safe_get("volume_backend_name") or "loopfile",
            "vendor_name": "kos.labs",
            "driver_version": self.VERSION,
            "storage_protocol": "local",
            "total_capacity_gb": round(room.total / GIB, 2),
            "free_capacity_gb": round(room.free / GIB, 2),
            "provisioned_capacity_gb": round(room.promised / GIB, 2),
            "reserved_percentage": self.configuration.safe_get("reserved_percentage") or 0,
            "max_over_subscription_ratio": self._over_subscription,
            "thin_provisioning_support": True,
            "thick_provisioning_support": False,
            "multiattach": False,
            "online_extend_support": True,
            "QoS_support": False,
        }
