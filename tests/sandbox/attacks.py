"""Programs that try to get out, to stay, to see, to lie, or to use up the machine. Each says what must come of it.

A program prints ESCAPED and what it got where an attempt worked; nothing else that it prints is believed. What must hold
outside is checked by `battery.py` after every attack, and by `after` where an attack needs more.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from openr1.sandbox import Case, Limits, Outcome
from openr1.sandbox.inside import syscalls

MACHINE = platform.machine()
QUICK = Limits(cpu_s=0.5, wall_s=10, memory_mb=64, files_mb=4, output_mb=1)
SLEEPY = Limits(cpu_s=0.5, wall_s=1, memory_mb=64, files_mb=4, output_mb=1)

PRELUDE = f"""
import ctypes, os, signal, sys, time
NR = { ({**syscalls.numbers(syscalls.PLAIN + syscalls.CHANGING + syscalls.CHECKED + syscalls.REFUSED, MACHINE)})!r}
libc = ctypes.CDLL(None, use_errno=True)
def sc(name, *values):
    number = NR[name] if isinstance(name, str) else name
    values = [ctypes.c_long(v) if isinstance(v, int) else v for v in values]
    got = libc.syscall(ctypes.c_long(number), *values)
    return got if got >= 0 else -ctypes.get_errno()
def attempt(name, action):
    try:
        got = action()
    except BaseException as error:
        print('held', name, type(error).__name__)
    else:
        print('ESCAPED', name, repr(got)[:200])
def refused(name, *values):
    got = sc(name, *values)
    print('ESCAPED' if got >= 0 else 'held', name, got)
"""


@dataclass(frozen=True)
class Attack:
    """One hostile program, the statuses it may end with, and what else must hold."""

    name: str
    program: str
    statuses: tuple[str, ...] = ("ok", "error")
    language: str = "python"
    inputs: Sequence[str | bytes | Case] = ("",)
    limits: Limits = QUICK
    after: Callable[[list[Outcome]], bool] | None = None
    prelude: bool = True
    tiers: tuple[str, ...] = ("bubblewrap", "landlock")
    marker: str | None = field(default=None)

    def text(self) -> str:
        return PRELUDE + self.program if self.prelude and self.language == "python" else self.program


TIMEOUT = ("cpu_timeout",)
MEMORY = ("memory", "error")


def _said(word: bytes) -> Callable[[list[Outcome]], bool]:
    return lambda outcomes: all(word in outcome.stdout for outcome in outcomes)


def _same(outcomes: list[Outcome]) -> bool:
    """Every run saw and said the same: nothing came over from the one before."""
    return len({outcome.stdout for outcome in outcomes}) == 1


EXHAUSTION = [
    Attack("cpu", "while True: pass", TIMEOUT),
    Attack("cpu in a long C loop", "sum(range(10**12))", TIMEOUT),
    Attack("cpu in a regular expression", "import re; re.match('(a+)+$', 'a' * 60 + 'b')", TIMEOUT),
    Attack("cpu in a big power", "print(len(str(9**9**9)))", (*TIMEOUT, *MEMORY)),
    Attack("cpu in threads", "import threading\ndef f():\n    while True: pass\n"
           "[threading.Thread(target=f).start() for _ in range(8)]", TIMEOUT),
    Attack("cpu, SIGXCPU ignored", "signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", TIMEOUT),
    Attack("cpu, limit raised", "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (99, 99))\nwhile True: pass", TIMEOUT),
    Attack("cpu in system calls", "while True: os.getppid()", TIMEOUT),
    Attack("cpu, exceptions swallowed", "while True:\n    try:\n        while True: pass\n    except BaseException: pass", TIMEOUT),
    Attack("sleep", "time.sleep(1000)", ("wall_timeout",), limits=SLEEPY),
    Attack("sleep in a thread at exit", "import threading\nthreading.Thread(target=time.sleep, args=(1000,)).start()",
           ("wall_timeout",), limits=SLEEPY),
    Attack("wait for a signal", "signal.pause()", ("wall_timeout",), limits=SLEEPY),
    Attack("stop itself", "attempt('stop', lambda: os.kill(os.getpid(), signal.SIGSTOP))"),
    Attack("stop its group", "os.kill(0, signal.SIGTSTP); print('on')", ("ok", "wall_timeout"), limits=SLEEPY),
    Attack("read a pipe nobody writes", "r, w = os.pipe(); os.read(r, 1)", ("wall_timeout",), limits=SLEEPY),
    Attack("lock twice", "import threading\nl = threading.Lock(); l.acquire(); l.acquire()", ("wall_timeout",), limits=SLEEPY),
    Attack("memory on the heap", "x = []\nwhile True: x.append(bytearray(1 << 20))", MEMORY),
    Attack("memory at once", "x = b'1' * (1 << 33)", ("memory",)),
    Attack("memory by mmap", "import mmap\nx = [mmap.mmap(-1, 1 << 30) for _ in range(9)]", MEMORY),
    Attack("memory touched and let go", "import mmap\nm = mmap.mmap(-1, 200 << 20)\n"
           "for i in range(0, 200 << 20, 4096): m[i] = 1\nm.close()", ("memory",)),
    Attack("memory by integers", "x = 1 << (1 << 36)", MEMORY),
    Attack("memory by memfd", "fd = sc('memfd_create', b'x', 0); print('ESCAPED' if fd >= 0 else 'held')"),
    Attack("memory by SysV", "refused('shmget', 0, 1 << 30, 0o1777)"),
    Attack("memory by shared files", "import mmap\nf = open('/dev/shm/x', 'wb+'); f.truncate(1 << 29)", ("error", "output_limit")),
    Attack("memory by stdout", "os.ftruncate(1, 1 << 40)", ("output_limit", "error")),
    Attack("memory by holes in stdout", "os.ftruncate(1, 3 << 20)", ("output_limit",)),
    Attack("memory by fallocate", "libc.fallocate64(1, 1, ctypes.c_long(0), ctypes.c_long(1 << 32)); print(1)",
           ("ok", "output_limit", "error")),
    Attack("memory by pipes", "n = 0\ntry:\n    while True:\n        r, w = os.pipe(); os.set_blocking(w, False); n += os.write(w, b'x' * (1 << 20))\n"
           "except OSError: pass\nprint('held' if n < (16 << 20) else 'ESCAPED', n)"),
    Attack("memory by bigger pipes", "import fcntl\nr, w = os.pipe()\nattempt('grow', lambda: fcntl.fcntl(w, 1031, 1 << 20))"),
    Attack("memory by socket pairs", "import socket\nx = []; n = 0\ntry:\n    while True:\n        a, b = socket.socketpair(); a.setblocking(False); x += [a, b]\n"
           "        try:\n            while True: n += a.send(b'x' * 65536)\n        except BlockingIOError: pass\n"
           "except OSError: pass\nprint('held' if n < (64 << 20) else 'ESCAPED', n)"),
    Attack("recursion", "sys.setrecursionlimit(10**9)\ndef f(n): return f(n + 1) + [n]\nf(0)", (*MEMORY, "cpu_timeout")),
    Attack("deep nesting of source", "(" * 10000 + ")" * 10000, ("compile_error",), prelude=False),
    Attack("huge expression", "x = " + "+".join(["1"] * 200000), ("compile_error", "cpu_timeout", "ok", "memory", "error"), prelude=False),
    Attack("stack in C", "int f(volatile char*p){volatile char a[4096];a[0]=p?*p:1;return f(a)+a[0];}int main(){return f(0);}",
           MEMORY, "c"),
    Attack("heap in C", "#include <stdlib.h>\n#include <string.h>\nint main(){for(;;){char*p=malloc(1<<20);memset(p,1,1<<20);}}", MEMORY, "c"),
    Attack("static memory in C", "static char a[2000u<<20];int main(){a[5]=1;return a[7];}", MEMORY, "c"),
    Attack("fork", "attempt('fork', os.fork)"),
    Attack("fork bomb", "while True:\n    try: os.fork()\n    except OSError: pass", TIMEOUT),
    Attack("fork bomb in C", "#include <unistd.h>\nint main(){for(;;)fork();}", TIMEOUT, "c"),
    Attack("fork bomb where processes are allowed", "while True:\n    try: os.fork()\n    except OSError: pass",
           (*TIMEOUT, "error", "ok", "wall_timeout"), limits=QUICK.model_copy(update={"processes": 8}), tiers=("bubblewrap",)),
    Attack("vfork and spawn", "attempt('spawn', lambda: os.posix_spawn('/bin/true', ['true'], {}))\n"
           "import subprocess\nattempt('run', lambda: subprocess.run(['true']))"),
    Attack("threads without end", "import threading\nn = 0\ntry:\n    while True:\n        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start(); n += 1\n"
           "except RuntimeError: print('held' if n < 200 else 'ESCAPED', n); os._exit(0)", ("ok", "memory", "cpu_timeout")),
    Attack("files without end", "n = 0\ntry:\n    while True: open(f'{n}', 'w').close(); n += 1\nexcept OSError: print('held' if n < 5000 else 'ESCAPED', n)"),
    Attack("folders without end", "n = 0\ntry:\n    while True: os.mkdir('d'); os.chdir('d'); n += 1\nexcept OSError: print('held', n)",
           ("ok", "error", "cpu_timeout")),
    Attack("links without end", "n = 0\ntry:\n    open('x', 'w').close()\n    while True: os.link('x', f'{n}'); n += 1\nexcept OSError: print('held' if n < 5000 else 'ESCAPED', n)"),
    Attack("disk", "f = open('x', 'wb')\nn = 0\ntry:\n    while True: n += f.write(b'x' * (1 << 20)); f.flush()\nexcept OSError: print('held' if n < (6 << 20) else 'ESCAPED', n)",
           ("ok", "output_limit", "error")),
    Attack("disk in many files", "n = 0\ntry:\n    for i in range(1000): n += open(f'{i}', 'wb').write(b'x' * 100000)\nexcept OSError: print('held' if n < (6 << 20) else 'ESCAPED', n)"),
    Attack("open files", "n = 0\ntry:\n    while True: os.dup(0); n += 1\nexcept OSError: print('held' if n < 300 else 'ESCAPED', n)"),
    Attack("flood on stdout", "while True: sys.stdout.write('x' * 65536)", ("output_limit",)),
    Attack("flood on stderr", "while True: sys.stderr.write('x' * 65536)", ("output_limit",)),
    Attack("flood, SIGXFSZ ignored", "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nwhile True:\n    try: os.write(1, b'x' * 65536)\n    except OSError: break",
           ("output_limit", "cpu_timeout")),
    Attack("binary output", "os.write(1, bytes(range(256)) * 1000)", ("ok",),
           after=lambda o: o[0].stdout == bytes(range(256)) * 1000),
    Attack("20 MB of stdin, unread", "print('done')", ("ok",), inputs=(b"x" * (20 << 20),), after=_said(b"done")),
    Attack("20 MB of stdin, read", "print(len(sys.stdin.buffer.read()))", ("ok",), inputs=(b"x" * (20 << 20),), after=_said(b"20971520")),
    Attack("closed output", "sys.stdout.close(); os.close(1); os.close(2)"),
]  # fmt: skip

LEFTOVERS = [
    Attack("files between tests", "print(sorted(os.listdir('.')), sorted(os.listdir('/dev/shm')))\n"
           "os.makedirs('a/b'); open('a/b/c', 'w').write('x'); open('.hidden', 'w').close(); open('/dev/shm/s', 'w').close(); os.chmod('a', 0)",
           ("ok",), inputs=("", "", ""), after=_same, tiers=("bubblewrap",)),
    Attack("folder mode between tests", "print(oct(os.stat('/tmp').st_mode)); os.chmod('/tmp', 0o700)", ("ok",), inputs=("", ""),
           after=_same, tiers=("bubblewrap",)),
    Attack("attributes between tests", "attempt('setxattr', lambda: os.setxattr('/tmp', 'user.x', b'1'))"),
    Attack("modules between tests", "import math\nprint(getattr(math, 'mark', 0)); math.mark = 1; sys.mark = 2", ("ok",), inputs=("", ""), after=_same),
    Attack("patched builtins between tests", "import builtins\nprint(getattr(builtins, 'mark', 0)); builtins.mark = 1; builtins.print = None",
           ("ok",), inputs=("", ""), after=_same),
    Attack("daemon", "attempt('daemon', lambda: (os.fork() or os.setsid() or os.fork() or time.sleep(100)))"),
    Attack("daemon where processes are allowed",
           "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        signal.signal(signal.SIGTERM, signal.SIG_IGN)\n        time.sleep(1000)\n    os._exit(0)\nprint('parent')",
           ("ok",), inputs=("", ""), limits=QUICK.model_copy(update={"processes": 8}), after=_same, tiers=("bubblewrap",)),
    Attack("zombies where processes are allowed", "for _ in range(5):\n    if os.fork() == 0: os._exit(0)\nprint('parent')", ("ok",), inputs=("", ""),
           limits=QUICK.model_copy(update={"processes": 8}), after=_same, tiers=("bubblewrap",)),
    Attack("threads that go on", "import threading\nthreading.Thread(target=lambda: time.sleep(1000), daemon=True).start(); print('end')", ("ok",), inputs=("", ""), after=_same),
    Attack("abstract socket", "import socket\nattempt('bind', lambda: socket.socket(socket.AF_UNIX).bind('\\0x'))"),
    Attack("key ring", "refused('add_key', b'user', b'x', b'y', 1, -3); refused('keyctl', 0, -3, 1); refused('request_key', b'user', b'x', 0, -3)"),
    Attack("message queues", "refused('msgget', 1, 0o1777); refused('semget', 1, 1, 0o1777); refused('mq_open', b'/x', 0o102, 0o777, 0)"),
    Attack("bytecode cache", "print(sys.dont_write_bytecode)\nattempt('write', lambda: open(os.__file__ + 'x', 'w'))\nattempt('mkdir', lambda: os.mkdir(os.path.dirname(os.__file__) + '/__pycache__/x'))"),
]  # fmt: skip

ESCAPES = [
    Attack("kill everything", "attempt('kill -1', lambda: os.kill(-1, signal.SIGKILL))"),
    Attack("kill the first process", "attempt('kill', lambda: os.kill(1, signal.SIGKILL))\nattempt('int', lambda: os.kill(1, signal.SIGINT))\nattempt('parent', lambda: os.kill(os.getppid(), signal.SIGTERM))"),
    Attack("kill itself", "attempt('kill', lambda: os.kill(os.getpid(), signal.SIGKILL))"),
    Attack("signals by other ways", "refused('tkill', 1, 9); refused('tgkill', 1, 1, 9); refused('rt_sigqueueinfo', 1, 9, bytes(128)); refused('pidfd_open', 1, 0); refused('pidfd_send_signal', 3, 9, 0, 0)"),
    Attack("signal through a file's owner", "import fcntl\nr, w = os.pipe()\nattempt('own', lambda: fcntl.fcntl(r, fcntl.F_SETOWN, os.getppid()))\nattempt('sig', lambda: fcntl.fcntl(r, 10, 9))\nattempt('ioctl', lambda: fcntl.ioctl(r, 0x8901, (1).to_bytes(4, 'little')))"),
    Attack("signal through a timer", "refused('timer_create', 1, (9 << 32).to_bytes(64, 'little'), bytes(8))"),
    Attack("its own CPU limit", "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (0, 0))\nx = time.process_time()\nwhile time.process_time() < x + 0.2: pass\nprint('whole')",
           ("ok",), after=_said(b"whole")),
    Attack("limits of others", "import resource\nattempt('prlimit', lambda: resource.prlimit(1, resource.RLIMIT_CPU, (1, 1)))\nrefused('setpriority', 0, 1, 19); refused('sched_setaffinity', 1, 8, bytes([1] * 8)); refused('ioprio_set', 1, 1, 0)"),
    Attack("ptrace", "refused('ptrace', 16, os.getppid(), 0, 0); refused('ptrace', 0, 0, 0, 0)"),
    Attack("memory of others", "refused('process_vm_readv', os.getppid(), 0, 0, 0, 0, 0); refused('process_vm_writev', 1, 0, 0, 0, 0, 0)\nattempt('mem', lambda: open('/proc/1/mem', 'rb'))\nattempt('parent', lambda: open(f'/proc/{os.getppid()}/mem', 'rb'))"),
    Attack("files of others", "attempt('fd', lambda: os.listdir('/proc/1/fd'))\nattempt('environ', lambda: open('/proc/1/environ').read())\nattempt('maps', lambda: open('/proc/1/maps').read())\nattempt('cwd', lambda: os.readlink('/proc/1/cwd'))\nattempt('root', lambda: os.listdir('/proc/1/root'))\nrefused('pidfd_getfd', 0, 3, 0); refused('kcmp', 1, 1, 0, 0, 0)"),
    Attack("namespaces", "[refused('unshare', flag) for flag in (0x10000000, 0x20000, 0x20000000, 0x40000000, 0x08000000, 0x04000000, 0x02000000)]\nrefused('setns', 0, 0)"),
    Attack("clone", "refused('clone', 17, 0, 0, 0, 0); refused('clone', 0x10000000 | 17, 0, 0, 0, 0); refused('clone', 0x10010f00, 0, 0, 0, 0); refused(435, bytes(88), 88)"),
    Attack("mounts", "refused('mount', b'none', b'/tmp', b'tmpfs', 0, 0); refused('umount2', b'/tmp', 2); refused('pivot_root', b'/tmp', b'/tmp'); refused('chroot', b'/tmp'); [refused(n, 0, 0, 0, 0, 0) for n in (428, 429, 430, 432, 442)]"),
    Attack("capabilities and ids", "refused('capset', bytes([0x22, 5, 8, 0x20, 0, 0, 0, 0]), b'\\xff' * 24); refused('setuid', 0); refused('setgid', 0); refused('setresuid', 0, 0, 0); refused('setgroups', 0, 0)"),
    Attack("kernel machines", "[refused(n, 0, 0, 0, 0, 0) for n in ('bpf', 'perf_event_open', 'userfaultfd', 'io_uring_setup', 'personality', 'reboot')]; [refused(n, 0, 0, 0, 0, 0) for n in (425, 426, 427, 434, 438, 440, 444, 445, 446, 447, 462)]"),
    Attack("another filter", "refused('seccomp', 1, 0, 0); print(sc('prctl', 22, 1, 0, 0, 0)); refused('prctl', 4, 1, 0, 0, 0); refused('prctl', 1, 9, 0, 0, 0); refused('prctl', 36, 1, 0, 0, 0)"),
    Attack("32-bit calls", "import mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(bytes.fromhex('b814000000cd80c3'))\naddress = ctypes.addressof(ctypes.c_char.from_buffer(m))\nprint('ESCAPED', ctypes.CFUNCTYPE(ctypes.c_int)(address)())",
           ("error",)),
    Attack("x32 calls", "refused(0x40000000 + 39)"),
    Attack("terminal", "import fcntl\nattempt('TIOCSTI', lambda: fcntl.ioctl(0, 0x5412, b'x'))\nattempt('tty', lambda: open('/dev/tty'))\nattempt('ptmx', lambda: open('/dev/ptmx'))\nattempt('console', lambda: open('/dev/console'))\nattempt('vcs', lambda: open('/dev/vcs'))"),
    Attack("devices", "attempt('mem', lambda: open('/dev/mem')); attempt('kmsg', lambda: open('/dev/kmsg')); attempt('kvm', lambda: open('/dev/kvm')); attempt('fuse', lambda: open('/dev/fuse')); attempt('loop', lambda: open('/dev/loop-control'))\nrefused('mknodat', -100, b'/tmp/n', 0o20666, 0x103)"),
    Attack("sysfs and kernel settings", "[attempt(p, lambda p=p: open(p).read()) for p in ('/sys/kernel/uevent_seqnum', '/sys/class/net', '/proc/sys/kernel/core_pattern', '/proc/kallsyms', '/proc/kcore', '/proc/cmdline', '/proc/net/tcp', '/proc/mounts/x', '/proc/sysrq-trigger', '/proc/keys', '/proc/cpuinfo', '/proc/version', '/sys/fs/cgroup/cgroup.procs')]"),
    Attack("files of the host", "[attempt(p, lambda p=p: open(p).read()) for p in ('/etc/passwd', '/etc/shadow', '/etc/hostname', '/etc/resolv.conf', '/etc/machine-id', '/root/.bashrc', '/var/log/dpkg.log', '/proc/1/root/etc/passwd', '../etc/passwd', '/tmp/../etc/passwd', '/usr/bin/bwrap', '/usr/lib/os-release')]\n[attempt(p, lambda p=p: os.listdir(p)) for p in ('/etc', '/home', '/root', '/var', '/run', '/boot', '/mnt', '/opt', '/srv', '/sys')]"),
    Attack("installed packages", "import sysconfig\nlib = sysconfig.get_paths()['stdlib']\nfor name in ('site-packages', 'dist-packages'):\n    for d in (lib, '/usr/lib/python3', '/usr/local/lib/python3'):\n        path = os.path.join(d, name)\n        try: names = os.listdir(path)\n        except OSError: names = []\n        for n in names: attempt(n, lambda: open(os.path.join(path, n, '__init__.py')))\nattempt('pip', lambda: __import__('pip'))"),
    Attack("symbolic links", "os.symlink('/etc/passwd', 'a'); os.symlink('/proc/1/root', 'b')\nattempt('a', lambda: open('a').read()); attempt('b', lambda: os.listdir('b/etc'))", tiers=("bubblewrap",)),
    Attack("write to what is shown", "[attempt(p, lambda p=p: open(p, 'a')) for p in (os.__file__, sys.executable, '/x', '/usr/x', '/usr/lib/x', '/dev/x', '/proc/self/uid_map')]\n[attempt('rm ' + p, lambda p=p: os.unlink(p)) for p in (os.__file__, sys.executable)]\nattempt('chmod', lambda: os.chmod(os.__file__, 0o777)); attempt('utime', lambda: os.utime(os.__file__)); attempt('truncate', lambda: os.truncate(os.__file__, 0))"),
    Attack("secrets in the environment", "found = [p for p in os.listdir('/proc') if p.isdigit()] if os.access('/proc', os.R_OK) else []\nseen = str(dict(os.environ))\nfor p in ['self', *found]:\n    try: seen += open(f'/proc/{p}/environ').read()\n    except OSError: pass\nprint('ESCAPED' if 'SECRET' in seen or 'TOKEN' in seen else 'held')"),
    Attack("secrets in memory", "import gc, re\nseen = []\nframe = sys._getframe()\nwhile frame:\n    seen.append(repr(dict(frame.f_globals)) + repr(dict(frame.f_locals))); frame = frame.f_back\n"
           "for o in gc.get_objects():\n    if type(o) in (dict, list, tuple, set):\n        try: seen.append(repr(o))\n        except BaseException: pass\n"
           "mine = sys.stdin.read()\nprint('ESCAPED' if any(re.search('4711[#]|SECRET[-]VALUE', s) for s in seen) and len(mine) == 4 else 'held')",
           ("ok", "cpu_timeout"), inputs=("other test input 4711#", "mine"), limits=QUICK.model_copy(update={"cpu_s": 5})),
    Attack("secrets in raw memory", "import re\nhits = 0\n"
           "try:\n    for line in open('/proc/self/maps'):\n        if 'rw' not in line: continue\n        a, b = (int(x, 16) for x in line.split()[0].split('-'))\n"
           "        with open('/proc/self/mem', 'rb', 0) as f:\n            try: f.seek(a); data = f.read(b - a)\n            except (OSError, ValueError, OverflowError): continue\n"
           "        hits += bool(re.search(b'4711[#]|SECRET[-]VALUE', data))\nexcept OSError: pass\nprint('ESCAPED' if hits else 'held')",
           ("ok", "memory"), inputs=("other test input 4711#", "mine"), limits=QUICK.model_copy(update={"cpu_s": 5, "memory_mb": 256})),
    *[
        Attack(f"network: {family} {kind}", f"import socket\nattempt('socket', lambda: socket.socket({family}, {kind}))\nrefused('socket', {family}, {kind}, 0)")
        for family, kind in (("2", "1"), ("2", "2"), ("2", "3"), ("10", "1"), ("1", "1"), ("16", "3"), ("17", "3"), ("40", "1"), ("38", "5"), ("29", "3"), ("31", "1"), ("44", "2"))
    ],
    Attack("network by the library", "import urllib.request, socket\nattempt('get', lambda: urllib.request.urlopen('http://127.0.0.1', timeout=1))\nattempt('dns', lambda: socket.getaddrinfo('example.org', 80))\nrefused('connect', 0, bytes(16), 16); refused('bind', 0, bytes(16), 16); refused('sendto', 0, b'x', 1, 0, bytes(16), 16)", ("ok",)),
    Attack("socket pair of another family", "import socket\nattempt('pair', lambda: socket.socketpair(socket.AF_INET))"),
    Attack("huge arguments", "attempt('exec', lambda: os.execve(sys.executable, ['x' * 100000] * 100, {}))\nattempt('exec', lambda: os.execve(sys.executable, ['x'], {'A' * 10000: 'B' * 100000}))"),
    Attack("another program", "attempt('exec', lambda: os.execv(sys.executable, ['python3', '-c', 'print(1)']))\nattempt('sh', lambda: os.execv('/bin/sh', ['sh']))\nrefused('execveat', -100, sys.executable.encode(), 0, 0, 0)"),
    Attack("exec in C", "#include <unistd.h>\n#include <stdio.h>\nint main(){char*a[]={\"x\",0};execve(\"/usr/bin/python3\",a,a+1);execve(\"/bin/sh\",a,a+1);printf(\"held\");}", ("ok",), "c"),
    Attack("socket in C", "#include <sys/socket.h>\n#include <stdio.h>\nint main(){printf(socket(2,1,0)<0?\"held\":\"ESCAPED\");}", ("ok",), "c"),
    Attack("files in C++", "#include <fstream>\n#include <iostream>\nint main(){for(auto p:{\"/etc/passwd\",\"/proc/1/environ\",\"/root/.bashrc\"}){std::ifstream f(p);std::cout<<(f.good()?\"ESCAPED \":\"held \")<<p<<'\\n';}}", ("ok",), "cpp"),
]  # fmt: skip

LIES = [
    Attack("reply on every open file", "import json\nreply = json.dumps({'exit': 0, 'killed': '', 'cpu_s': 0, 'wall_s': 0, 'peak_mb': 0, 'clean': True}).encode()\n"
           "for fd in range(3, 1024):\n    try: os.write(fd, reply); print('ESCAPED', fd)\n    except OSError: pass\nsys.exit(7)",
           ("error",), after=lambda o: o[0].exit_code == 7),
    Attack("reply through the harness", "import socket\nframe = sys._getframe()\nwhile frame:\n    for scope in (frame.f_locals, frame.f_globals):\n        for value in list(scope.values()):\n            for target in (value, getattr(value, 'sock', None)):\n                try: socket.socket.send(target, b'{\"exit\": 0}'); print('ESCAPED', target)\n                except BaseException: pass\n    frame = frame.f_back\nsys.exit(7)",
           ("error",), after=lambda o: o[0].exit_code == 7),
    Attack("reply through the garbage collector", "import gc, socket\nfor o in gc.get_objects():\n    if isinstance(o, socket.socket):\n        try: o.send(b'{}'); print('ESCAPED')\n        except OSError: pass\nsys.exit(7)",
           ("error",), after=lambda o: o[0].exit_code == 7),
    Attack("patched exit", "os._exit_ = os._exit\nos._exit = lambda code: os._exit_(0)\nsys.exit(7)", ("error", "ok")),
    Attack("harness called again", "import gc\nfor o in gc.get_objects():\n    if type(o).__name__ == 'Zygote':\n        try: o.serve(); print('ESCAPED')\n        except BaseException: pass\nsys.exit(7)",
           ("error", "wall_timeout"), limits=SLEEPY),
    Attack("early exit", "os._exit(0)\n", ("ok",), after=lambda o: o[0].stdout == b""),
    Attack("early exit with output", "print(42); os._exit(0)", ("ok",), after=lambda o: o[0].stdout in (b"", b"42\n")),
    Attack("exit at import", "import sys; sys.exit(3)", ("error",), after=lambda o: o[0].exit_code == 3),
    Attack("exit with a text", "sys.exit('no')", ("error",), after=lambda o: o[0].exit_code == 1 and b"no" in o[0].stderr),
    Attack("exit by signal", "os.kill(os.getpid(), signal.SIGSEGV)", ("error",), after=lambda o: o[0].exit_code == -11),
    Attack("abort", "os.abort()", ("error",), after=lambda o: o[0].exit_code == -6),
    Attack("crash", "ctypes.string_at(0)", ("error",), after=lambda o: o[0].exit_code == -11),
    Attack("bytecode that crashes", "import types\nf = (lambda: 0).__code__.replace(co_code=bytes([100, 255] * 50))\nexec(f)", ("error", "cpu_timeout", "ok", "memory", "wall_timeout"), limits=SLEEPY),
    Attack("print replaced", "class S:\n    def write(self, s): return os.write(1, b'42\\n')\n    def flush(self): pass\n    closed = False\nsys.stdout = S(); print('x')", ("ok",)),
    Attack("stdout of another kind", "sys.stdout = None; os.write(1, b'x')", ("ok",), after=lambda o: o[0].stdout == b"x"),
    Attack("exception that lies", "class E(BaseException):\n    def __str__(self): os._exit(0)\n    __repr__ = __str__\nraise E()", ("ok", "error")),
    Attack("its own input rewritten", "attempt('write', lambda: os.write(0, b'x')); attempt('truncate', lambda: os.ftruncate(0, 0)); attempt('open', lambda: open('/dev/stdin', 'w'))", inputs=("mine",)),
    Attack("the kept code rewritten", "import marshal\nfor fd in range(3, 300):\n    try: os.pwrite(fd, b'C' + (4).to_bytes(8, 'little') + marshal.dumps(None), 0); print('ESCAPED', fd)\n    except OSError: pass\nprint('run')",
           ("ok",), inputs=("", "", ""), after=_same),
    Attack("a mark of ours", "sys.stderr.write('X sandbox: killed from outside'); sys.exit(9)", ("error",)),
    Attack("surrogates and NUL in output", "sys.stdout.buffer.write(b'\\xff\\x00\\xed\\xa0\\x80')", ("ok",), after=lambda o: o[0].stdout == b"\xff\x00\xed\xa0\x80"),
    Attack("atexit", "import atexit\natexit.register(lambda: os._exit(0))\nraise SystemExit(5)", ("ok", "error")),
    Attack("__main__ removed", "del sys.modules['__main__']; sys.modules.clear()", ("ok", "error")),
]  # fmt: skip

_COMPILED = Limits(cpu_s=0.5, wall_s=10, memory_mb=64, files_mb=4, output_mb=1)
COMPILERS = [
    Attack("include /dev/urandom", '#include "/dev/urandom"\nint main(){}', ("compile_error",), "cpp"),
    Attack("include /dev/zero", '#include "/dev/zero"\nint main(){}', ("compile_error",), "c"),
    Attack("include /dev/stdin", '#include "/dev/stdin"\nint main(){}', ("compile_error", "ok"), "c"),
    Attack("include /etc/passwd", '#include "/etc/passwd"\nint main(){}', ("compile_error",), "cpp",
           after=lambda o: b"root:" not in o[0].stderr),
    Attack("include /proc/1/environ", '#include "/proc/1/environ"\nint main(){}', ("compile_error",), "c"),
    Attack(".incbin /etc/passwd", 'asm("x: .incbin \\"/etc/passwd\\"");int main(){}', ("compile_error",), "c"),
    Attack(".incbin /dev/urandom", 'asm("x: .incbin \\"/dev/urandom\\"");int main(){}', ("compile_error",), "c"),
    Attack("templates without end", "template<int N,int M> struct A{static const int v=A<N-1,M>::v+A<N-1,M+1>::v;};template<int M> struct A<0,M>{static const int v=1;};int main(){return A<800,0>::v;}",
           ("compile_error",), "cpp"),
    Attack("an executable without end", "char a[1u<<30]={1};int main(){}", ("compile_error",), "c"),
    Attack("include itself", '#include __FILE__\n#include __FILE__\nint main(){}', ("compile_error",), "c"),
    Attack("macros without end", "".join(f"#define A{i} A{i + 1} A{i + 1} A{i + 1} A{i + 1}\n" for i in range(20)) + "#define A20 x\nA0", ("compile_error",), "c"),
    Attack("messages without end", "\n".join(f'#warning "{"x" * 200}"\n#error "{"y" * 200}"' for _ in range(8000)), ("compile_error",), "c"),
    Attack("a plugin", '#pragma GCC plugin "/tmp/x.so"\n#pragma comment(linker, "x")\nint main(){}', ("ok", "compile_error"), "c"),
    Attack("code before main", "#include <unistd.h>\n__attribute__((constructor)) void f(){_exit(0);}int main(){return 3;}", ("ok",), "c"),
]  # fmt: skip
COMPILER_BOMBS = {"include /dev/urandom", "include /dev/zero", ".incbin /dev/urandom", "templates without end", "an executable without end", "macros without end", "include itself"}  # fmt: skip

ATTACKS = [*EXHAUSTION, *LEFTOVERS, *ESCAPES, *LIES, *COMPILERS]
