"""What a node of tests/kubernetes/lab spends and stores, read on this machine: its processes and files are here."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

DAEMONS = {"kubelet": "kubelet.yaml", "containerd": "containerd.toml"}
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Node:
    """The node of a state folder."""

    state: Path

    # Processor time

    def pod_cpu(self, uid: str) -> float:
        """CPU seconds of a pod so far, containers that ended included; 0 if it isn't there."""
        folder = self._cgroup("cpuacct", uid)
        if folder is None:
            return 0.0
        if (folder / "cpuacct.usage").exists():
            return int((folder / "cpuacct.usage").read_text()) / 1e9
        return int((folder / "cpu.stat").read_text().split()[1]) / 1e6

    def pod_memory(self, uid: str) -> int:
        """Bytes of a pod's own memory; page cache, which the kernel takes back when it needs it, isn't counted."""
        folder = self._cgroup("memory", uid)
        if folder is None:
            return 0
        lines = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return int(lines.get("total_rss", lines.get("anon", 0)))

    def daemons_cpu(self) -> dict[str, float]:
        """CPU seconds of kubelet and containerd so far, with those of their children that ended."""
        found = dict.fromkeys(DAEMONS, 0.0)
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                command = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
                for name, config in DAEMONS.items():
                    if Path(command[0]).name == name and str(self.state / config) in command:
                        fields = (process / "stat").read_text().rsplit(") ", 1)[1].split()
                        found[name] = sum(int(field) for field in fields[11:15]) / _TICKS
        return found

    @staticmethod
    def _cgroup(controller: str, uid: str) -> Path | None:
        for root in (Path("/sys/fs/cgroup") / controller, Path("/sys/fs/cgroup")):
            for found in root.glob(f"indexpush-*/kubepods*/**/*pod{uid}*"):
                return found
        return None

    # Bytes

    def image_bytes(self) -> int:
        """Of the node's image store: blobs as they were pulled, and unpacked layers; not what containers wrote."""
        kinds = [line.split() for line in self._ctr("snapshots", "ls").splitlines()[1:]]
        layers = {fields[0] for fields in kinds if fields[-1] == "Committed"}
        sizes = [line.split() for line in self._ctr("snapshots", "usage", "-b").splitlines()[1:]]
        blobs = disk_bytes(self.state / "containerd" / "io.containerd.content.v1.content" / "blobs")
        return blobs + sum(int(fields[1]) for fields in sizes if fields[0] in layers)

    def volume(self, uid: str, name: str) -> Path:
        """The folder of a pod's emptyDir."""
        return self.state / "kubelet" / "pods" / uid / "volumes" / "kubernetes.io~empty-dir" / name

    # Images

    def push(self, local: str, remote: str) -> None:
        """Push an image from the node's store to a registry without TLS."""
        self._ctr("images", "push", "--plain-http", remote, local)

    def forget_images(self, repository: str) -> None:
        """Take all images of a repository off the node, but those that have the tag base."""
        rows = [line.split() for line in self._ctr("images", "ls").splitlines()[1:]]
        going = {row[2] for row in rows if row[0].startswith(f"{repository}:")}
        staying = {row[2] for row in rows if row[0] == f"{repository}:base" or row[0].startswith("localhost/")}
        names = [row[0] for row in rows if row[2] in going - staying]
        if names:
            self._ctr("images", "rm", "--sync", *names)

    def _ctr(self, *arguments: str) -> str:
        command = ["ctr", "--address", str(self.state / "containerd.sock"), "--namespace", "k8s.io", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def disk_bytes(folder: Path) -> int:
    """Bytes that the files below a folder take on the disk."""
    done = subprocess.run(["du", "-s", "--block-size=1", folder], check=False, capture_output=True, text=True)
    return int(done.stdout.split()[0]) if done.stdout else 0
