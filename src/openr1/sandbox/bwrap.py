"""The command line of tier `bubblewrap`: namespaces of its own, and nothing mounted but what is named."""

from __future__ import annotations

import os

from openr1.sandbox import host

WORK = "/tmp"
SHARED_MEMORY_MB = 1


def mounts(files_mb: int) -> dict[str, int]:
    """Folders that a program may write in, with their size."""
    return {WORK: files_mb, "/dev/shm": SHARED_MEMORY_MB}


def command(
    program: str, visible: list[str], hidden: list[str], inner: list[str], environment: dict[str, str]
) -> list[str]:
    """bwrap around `inner`, showing files and folders but for those `hidden` in them.

    It keeps the two capabilities with which the zygote mounts, and which the child drops.
    """
    words = [program, "--unshare-user", "--unshare-all", "--as-pid-1", "--die-with-parent"]
    words += ["--new-session", "--clearenv", "--hostname", "sandbox"]
    words += ["--uid", str(host.NOBODY), "--gid", str(host.NOBODY)]
    words += ["--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN", "--cap-add", "CAP_SETPCAP"]
    for name, value in environment.items():
        words += ["--setenv", name, value]
    for path in outermost(visible):
        is_link = os.path.islink(path) and os.path.isdir(path)  # /lib -> usr/lib; a library's link is followed
        words += ["--symlink", os.readlink(path), path] if is_link else ["--ro-bind", path, path]
    for path in filter(os.path.isdir, hidden):
        words += ["--tmpfs", path, "--remount-ro", path]
    words += ["--proc", "/proc", "--dir", WORK, "--dir", "/dev", "--dir", "/dev/shm"]
    for device in host.DEVICES:
        words += ["--dev-bind", device, device]
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        words += ["--symlink", f"/proc/self/fd{target}", f"/dev/{name}"]
    return [*words, "--remount-ro", "/", "--chdir", "/", "--", *inner]


def outermost(paths: list[str]) -> list[str]:
    """Without those that lie in a folder which is there already."""
    kept: list[str] = []
    for path in sorted(set(paths)):
        if not any(path.startswith(folder + "/") for folder in kept):
            kept.append(path)
    return kept
