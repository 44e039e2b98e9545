"""Which system calls a program may make, and the seccomp filter that says so, for x86-64 and aarch64.

An allow-list: what is not named here answers ENOSYS, so that libraries fall back, and what one would try on purpose
answers EPERM. Where a call can be turned against others its arguments are looked at. Runs inside the sandbox: standard
library only, Python 3.9 and later.
"""

from __future__ import annotations

import struct
from functools import cache

# name:number on x86-64:number on aarch64, from the kernel's unistd tables
PLAIN = """
read:0:63 write:1:64 readv:19:65 writev:20:66 pread64:17:67 pwrite64:18:68 preadv:295:69 pwritev:296:70
preadv2:327:286 pwritev2:328:287 open:2:- openat:257:56 close:3:57 close_range:436:436 lseek:8:62 stat:4:-
fstat:5:80 lstat:6:- newfstatat:262:79 statx:332:291 access:21:- faccessat:269:48 faccessat2:439:439 readlink:89:-
readlinkat:267:78 getdents:78:- getdents64:217:61 getcwd:79:17 chdir:80:49 fchdir:81:50 mkdir:83:- mkdirat:258:34
rmdir:84:- unlink:87:- unlinkat:263:35 rename:82:- renameat:264:38 renameat2:316:276 link:86:- linkat:265:37
symlink:88:- symlinkat:266:36 ftruncate:77:46 fallocate:285:47 fsync:74:82 fdatasync:75:83 flock:73:32
fadvise64:221:223 statfs:137:43 fstatfs:138:44 umask:95:166 copy_file_range:326:285 sendfile:40:71 pipe:22:-
pipe2:293:59 dup:32:23 dup2:33:- dup3:292:24 poll:7:- ppoll:271:73 select:23:- pselect6:270:72 epoll_create:213:-
epoll_create1:291:20 epoll_ctl:233:21 epoll_wait:232:- epoll_pwait:281:22 epoll_pwait2:441:441 eventfd:284:-
eventfd2:290:19 recvfrom:45:207 sendto:44:206 recvmsg:47:212 sendmsg:46:211 shutdown:48:210 getsockopt:55:209
mmap:9:222 munmap:11:215 mremap:25:216 mprotect:10:226 madvise:28:233 brk:12:214 msync:26:227 rt_sigaction:13:134
rt_sigprocmask:14:135 rt_sigreturn:15:139 rt_sigpending:127:136 rt_sigsuspend:130:133 rt_sigtimedwait:128:137
sigaltstack:131:132 pause:34:- alarm:37:- setitimer:38:103 getitimer:36:102 timerfd_create:283:85
timerfd_settime:286:86 timerfd_gettime:287:87 nanosleep:35:101 clock_nanosleep:230:115 clock_gettime:228:113
clock_getres:229:114 gettimeofday:96:169 time:201:- times:100:153 restart_syscall:219:128 futex:202:98
futex_waitv:449:449 futex_wake:454:454 futex_wait:455:455 futex_requeue:456:456 set_robust_list:273:99
get_robust_list:274:100 set_tid_address:218:96 rseq:334:293 exit:60:93 exit_group:231:94 wait4:61:260 waitid:247:95
getpid:39:172 getppid:110:173 gettid:186:178 getuid:102:174 geteuid:107:175 getgid:104:176 getegid:108:177
getgroups:115:158 getresuid:118:148 getresgid:120:150 getpgid:121:155 getpgrp:111:- getsid:124:156 getrlimit:97:163
getrusage:98:165 sysinfo:99:179 uname:63:160 getcpu:309:168 sched_yield:24:124 sched_getaffinity:204:123
sched_getscheduler:145:120 sched_get_priority_max:146:125 sched_get_priority_min:147:126
sched_rr_get_interval:148:127 getpriority:140:141 arch_prctl:158:- getrandom:318:278 capget:125:90 setsid:112:157
setpgid:109:154
"""
# They change files of the same user by their path, which Landlock does not look at.
CHANGING = """
truncate:76:45 chmod:90:- fchmod:91:52 fchmodat:268:53 utime:132:- utimes:235:- utimensat:280:88 futimesat:261:-
"""
CHECKED = """
kill:62:129 tgkill:234:131 clone:56:220 ioctl:16:29 fcntl:72:25 prctl:157:167 prlimit64:302:261 setrlimit:160:164
socketpair:53:199 execve:59:221 execveat:322:281 vfork:58:- fork:57:-
"""
REFUSED = """
socket:41:198 connect:42:203 bind:49:200 listen:50:201 accept:43:202 accept4:288:242 ptrace:101:117
process_vm_readv:310:270 process_vm_writev:311:271 mount:165:40 umount2:166:39 pivot_root:155:41 chroot:161:51
unshare:272:97 setns:308:268 bpf:321:280 perf_event_open:298:241 userfaultfd:323:282 io_uring_setup:425:425
keyctl:250:219 add_key:248:217 request_key:249:218 memfd_create:319:279 setuid:105:146 setgid:106:144
setresuid:117:147 setresgid:119:149 setgroups:116:159 setpriority:141:140 sched_setaffinity:203:122
sched_setscheduler:144:119 ioprio_set:251:30 personality:135:92 mknod:133:- mknodat:259:33 chown:92:- fchown:93:55
lchown:94:- fchownat:260:54 shmget:29:194 semget:64:190 msgget:68:186 mq_open:240:180 pidfd_open:434:434
pidfd_getfd:438:438 pidfd_send_signal:424:424 rt_sigqueueinfo:129:138 rt_tgsigqueueinfo:297:240 tkill:200:130
kcmp:312:272 sethostname:170:161 reboot:169:142 capset:126:91 splice:275:76 tee:276:77 vmsplice:278:75
timer_create:222:107 mlock:149:228 mlockall:151:230 setxattr:188:5 lsetxattr:189:6 fsetxattr:190:7 seccomp:317:277
"""

ARCHES = {"x86_64": (0xC000003E, 1), "aarch64": (0xC00000B7, 2)}
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
EPERM, ENOSYS = 1, 38
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_OWN_PID = 0x0FEDCBA9  # stands in a cached filter for the pid that is put in at the last moment
_CLONE_THREAD, _CLONE_NEW = 0x00010000, 0x7E020080  # every CLONE_NEW* flag
_AT_EMPTY_PATH = 0x1000
_SIGKILL, _SIGSTOP = 9, 19
_IOCTLS = (
    0x5401,
    0x802C542A,
    0x5413,
    0x541B,
    0x5421,
    0x5450,
    0x5451,
)  # isatty, window size, FIONREAD, FIONBIO, cloexec
_FCNTLS = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1033, 1034)  # no owner, signal, lease, notify or pipe size
_PRCTLS = (3, 15, 16, 38, 39, 0x53564D41)  # names, no_new_privs, naming of mappings


def numbers(table: str, machine: str) -> dict[str, int]:
    """System call numbers by name; a call that the machine has not is left out."""
    column = ARCHES[machine][1]
    entries = (entry.split(":") for entry in table.split())
    return {entry[0]: int(entry[column]) for entry in entries if entry[column] != "-"}


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("<HBBI", code, yes, no, value)


def _argument(index: int) -> bytes:
    """Load the lower half of an argument; every argument looked at here is an int to the kernel."""
    return _op(_LOAD, 16 + 8 * index)


def _only(index: int, values: tuple[int, ...]) -> bytes:
    """Allow when the argument is one of `values`, else EPERM."""
    tests = b"".join(_op(_EQUAL, value, yes=0, no=1) + _op(_RETURN, _ALLOW) for value in values)
    return _argument(index) + tests + _op(_RETURN, _ERRNO | EPERM)


def _own_signals(pids: tuple[int, ...], signal_index: int) -> bytes:
    """A signal to the program itself, and neither SIGKILL, which would look like a kill by us, nor SIGSTOP."""
    refuse = _op(_RETURN, _ERRNO | EPERM)
    signals = _argument(signal_index) + b"".join(
        _op(_EQUAL, number, yes=0, no=1) + refuse for number in (_SIGKILL, _SIGSTOP)
    )
    return signals + _only(0, pids)


def _read_only_limits() -> bytes:
    """Limits may be read. Setting them is answered with 0 and not done: programs that raise their stack work, and
    none lowers its CPU limit to be killed by the kernel, which would look like a failure of ours.
    """
    done, refuse = _op(_RETURN, _ERRNO), _op(_RETURN, _ERRNO | EPERM)
    set_nothing = b"".join(_op(_LOAD, 16 + 8 * 2 + half) + _op(_EQUAL, 0, yes=1, no=0) + done for half in (0, 4))
    own = _argument(0) + _op(_EQUAL, 0, yes=2, no=0) + _op(_EQUAL, _OWN_PID, yes=1, no=0) + refuse
    return own + set_nothing + _op(_RETURN, _ALLOW)


def _checks(processes: bool, start: bool, own_namespace: bool) -> dict[str, bytes]:
    """What is looked at for each call of CHECKED; a call that is missing is refused."""
    allow, refuse = _op(_RETURN, _ALLOW), _op(_RETURN, _ERRNO | EPERM)
    checks = {
        "ioctl": _only(1, _IOCTLS),
        "fcntl": _only(1, _FCNTLS),
        "prctl": _only(0, _PRCTLS),
        "prlimit64": _read_only_limits(),
        "setrlimit": _op(_RETURN, _ERRNO),
        "socketpair": _only(0, (1,)),  # AF_UNIX, for asyncio
        "kill": _own_signals((0, _OWN_PID), 1),
        "tgkill": _own_signals((_OWN_PID,), 2),
        "clone": _argument(0) + _op(_ANY_BIT, _CLONE_NEW, yes=0, no=1) + refuse
        + _op(_ANY_BIT, _CLONE_THREAD, yes=0, no=1) + allow + refuse,
    }  # fmt: skip
    if start:
        checks["execveat"] = _only(4, (_AT_EMPTY_PATH,))
    if processes:
        checks["clone"] = _argument(0) + _op(_ANY_BIT, _CLONE_NEW, yes=0, no=1) + refuse + allow
        checks |= dict.fromkeys(("fork", "vfork", "execve", "execveat"), allow)
        if own_namespace:
            checks |= dict.fromkeys(("kill", "tgkill"), allow)
    return checks


@cache
def _template(machine: str, processes: bool, start: bool, own_namespace: bool) -> bytes:
    checks = _checks(processes, start, own_namespace)
    refuse = _op(_RETURN, _ERRNO | EPERM)
    program = _op(_LOAD, 4) + _op(_EQUAL, ARCHES[machine][0], yes=1) + _op(_RETURN, _KILL) + _op(_LOAD, 0)
    if machine == "x86_64":  # x32 has numbers of its own for the same calls
        program += _op(_AT_LEAST, 0x40000000, no=1) + _op(_RETURN, _ERRNO | ENOSYS)
    allowed = PLAIN + CHANGING if own_namespace else PLAIN
    blocks = [(number, _op(_RETURN, _ALLOW)) for number in numbers(allowed, machine).values()]
    blocks += [(number, checks.get(name, refuse)) for name, number in numbers(CHECKED, machine).items()]
    blocks += [(number, refuse) for number in numbers(REFUSED + CHANGING, machine).values()]
    for number, block in blocks:
        program += _op(_EQUAL, number, yes=0, no=len(block) // 8) + block
    return program + _op(_RETURN, _ERRNO | ENOSYS)


def seccomp_filter(machine: str, pid: int, *, processes: bool, start: bool, own_namespace: bool) -> bytes:
    """The filter of one program: `processes` may be made, `start` may exec what is open, in a pid namespace or not."""
    template = _template(machine, processes, start, own_namespace)
    return template.replace(struct.pack("<I", _OWN_PID), struct.pack("<I", pid))
