"""The public door: running programs, what an outcome says, limits, bad requests, life and death of the workers."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from processes import runs

from openr1.errors import OutsideError, UserError
from openr1.sandbox import LANGUAGES, Case, Language, Limits, Outcome, Sandbox, register_language, tiers
from openr1.sandbox.inside import confine

ECHO = "import sys; sys.stdout.write(sys.stdin.read())"


def one(
    sandbox: Sandbox, program: Any, stdin: str | bytes | Case = "", language: str = "python", **limits: Any
) -> Outcome:
    [outcome] = sandbox.run(program, language, [stdin], limits=Limits(**limits) if limits else None)
    return outcome


# ------------------------------------------------------------------------------------------------------- what it says
def test_each_input_is_a_run_of_its_own(sandbox: Sandbox) -> None:
    outcomes = sandbox.run("print(int(input()) * 2)", "python", ["21", b"4\n", "x"])
    assert [outcome.status for outcome in outcomes] == ["ok", "ok", "error"]
    assert [outcome.stdout for outcome in outcomes] == [b"42\n", b"8\n", b""]
    assert b"ValueError" in outcomes[2].stderr and outcomes[2].exit_code == 1


def test_bytes_pass_unchanged(sandbox: Sandbox) -> None:
    data = bytes(range(256)) * 5000
    outcome = one(sandbox, "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())", data)
    assert outcome.status == "ok" and outcome.stdout == data


def test_text_of_any_language_passes(sandbox: Sandbox) -> None:
    assert one(sandbox, "print(input()[::-1])", "ğüλ語🙂").stdout.decode() == "🙂語λüğ\n"


def test_a_program_sees_what_it_would_see_as_a_script(sandbox: Sandbox) -> None:
    program = "import sys\nprint(__name__, sys.argv[1:], open('data').read())\nprint((lambda: 0).__module__)\nexit(4)"
    outcome = one(sandbox, program, Case("", ("a b", "c"), {"data": "seen"}))
    assert outcome.stdout == b"__main__ ['a b', 'c'] seen\n__main__\n" and outcome.exit_code == 4


def test_a_traceback_names_the_programs_own_lines(sandbox: Sandbox) -> None:
    said = one(sandbox, "def f():\n    return 1 / 0\nf()").stderr.decode()
    assert (
        'File "solution.py", line 3' in said
        and "return 1 / 0" in said
        and "zygote" not in said
        and "inside" not in said
    )


def test_what_honest_programs_do(sandbox: Sandbox) -> None:
    """Idioms of contest programs: fast input, deep recursion in a thread, output at exit, raised limits, asyncio."""
    program = """
import asyncio, atexit, functools, os, random, resource, sys, tempfile, threading
sys.setrecursionlimit(1 << 25); threading.stack_size(1 << 27)
resource.setrlimit(resource.RLIMIT_STACK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
@functools.lru_cache(None)
def depth(n): return 0 if n == 0 else 1 + depth(n - 1)
out = []
thread = threading.Thread(target=lambda: out.append(depth(20000))); thread.start(); thread.join()
async def soon(): await asyncio.sleep(0); return 7
out.append(asyncio.run(soon())); out.append(len(sys.stdin.buffer.readline().split()))
with tempfile.TemporaryFile() as f: f.write(b"x"); out.append(f.tell())
atexit.register(lambda: print("last"))
print(*out); assert 0 <= random.random() < 1
"""
    outcome = one(sandbox, program, "1 2 3\n")
    assert (outcome.status, outcome.stdout) == ("ok", b"20000 7 3 1\nlast\n"), outcome


def test_files_of_the_program_beside_it(sandbox: Sandbox) -> None:
    assert one(sandbox, {"main.py": "import helper; print(helper.x)", "helper.py": "x = 5"}).stdout == b"5\n"


def test_random_numbers_differ_from_run_to_run(sandbox: Sandbox) -> None:
    first, second = sandbox.run("import random; print(random.random())", "python", ["", ""])
    assert first.stdout != second.stdout


def test_sets_have_one_order(tier: str) -> None:
    seen = set()
    for _ in range(3):
        with Sandbox(workers=1) as sandbox:
            seen.add(one(sandbox, "print({'a', 'b', 'c', 'd', 'e'})").stdout)
    assert len(seen) == 1


def test_stop_ends_the_list(sandbox: Sandbox) -> None:
    seen: list[int] = []

    def stop(number: int, outcome: Outcome) -> bool:
        seen.append(number)
        return outcome.stdout == b"2"

    outcomes = sandbox.run(ECHO, "python", ["1", "2", "3", "4"], stop=stop)
    assert [outcome.stdout for outcome in outcomes] == [b"1", b"2"] and seen == [0, 1]


def test_what_stop_raises_reaches_the_caller(sandbox: Sandbox) -> None:
    def stop(number: int, outcome: Outcome) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sandbox.run(ECHO, "python", ["1"], stop=stop)
    assert one(sandbox, ECHO, "still there").stdout == b"still there"


# ------------------------------------------------------------------------------------------------------------ limits
@pytest.mark.parametrize(
    "program, limits, status",
    [
        ("while True: pass", {"cpu_s": 0.2}, "cpu_timeout"),
        ("import time; time.sleep(99)", {"wall_s": 0.3}, "wall_timeout"),
        ("x = b'1' * (1 << 30)", {"memory_mb": 64}, "memory"),
        ("x = []\nwhile True: x.append(bytearray(1 << 20))", {"memory_mb": 64}, "memory"),
        ("print('x' * (2 << 20))", {"output_mb": 1}, "output_limit"),
        ("import sys; sys.stderr.write('x' * (2 << 20))", {"output_mb": 1}, "output_limit"),
        ("while True: print('x' * 1000)", {"output_mb": 1}, "output_limit"),
        ("def f(:", {}, "compile_error"),
        ("import os; os.fork()", {}, "error"),
        ("raise SystemExit(3)", {}, "error"),
        ("import os; os._exit(0)", {}, "ok"),
    ],
)
def test_each_limit_has_its_status(sandbox: Sandbox, program: str, limits: dict[str, Any], status: str) -> None:
    assert one(sandbox, program, **limits).status == status


def test_output_up_to_the_limit_is_kept(sandbox: Sandbox) -> None:
    outcome = one(sandbox, "import sys; sys.stdout.write('x' * (1 << 20))", output_mb=1)
    assert outcome.status == "ok" and len(outcome.stdout) == 1 << 20
    outcome = one(sandbox, "import sys; sys.stdout.write('x' * ((1 << 20) + 1))", output_mb=1)
    assert outcome.status == "output_limit" and len(outcome.stdout) == 1 << 20


def test_cpu_time_counts_and_waiting_does_not(sandbox: Sandbox) -> None:
    outcome = one(sandbox, "import time; time.sleep(0.5)", cpu_s=0.4)
    assert outcome.status == "ok" and outcome.cpu_s < 0.3 and outcome.wall_s >= 0.5


def test_memory_within_the_limit_is_given(sandbox: Sandbox) -> None:
    outcome = one(sandbox, "x = b'1' * (100 << 20); print(len(x))", memory_mb=128)
    assert outcome.status == "ok" and 100 <= outcome.peak_mb < 144


def test_files_within_the_limit_are_given() -> None:
    if not tiers.probe("bubblewrap").works:
        pytest.skip("tier landlock gives no folder to write in")
    program = "import os\nopen('x', 'wb').write(b'x' * (int(input()) << 20)); print(os.path.getsize('x'))"
    with Sandbox(workers=1, tier="bubblewrap") as sandbox:
        assert one(sandbox, program, "3", files_mb=4).stdout == b"3145728\n"
        assert one(sandbox, program, "6", files_mb=4).status == "error"
        assert one(sandbox, program, "6", files_mb=8).stdout == b"6291456\n"


def test_processes_where_they_are_allowed() -> None:
    if not tiers.probe("bubblewrap").works:
        pytest.skip("processes are counted in a namespace of their own")
    program = (
        "import subprocess, sys; print(subprocess.run([sys.executable, '-c', 'print(5)'], capture_output=True).stdout)"
    )
    with Sandbox(workers=1, tier="bubblewrap") as sandbox:
        assert one(sandbox, program, processes=4).stdout == b"b'5\\n'\n"
        assert one(sandbox, program, processes=1).status == "error"


def test_landlock_cannot_count_processes() -> None:
    if not tiers.probe("landlock").works:
        pytest.skip("no Landlock here")
    with Sandbox(workers=1, tier="landlock") as sandbox, pytest.raises(UserError, match="processes=4.*bubblewrap"):
        one(sandbox, "print(1)", processes=4)


@pytest.mark.slow
def test_waiting_for_a_core_is_not_running(each_tier: str) -> None:
    """On a machine that is far too busy the wall limit ends only programs that wait for something else."""
    burning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(5 * (os.cpu_count() or 1))]
    try:
        with Sandbox(workers=1, tier=each_tier) as sandbox:  # type: ignore[arg-type]
            work = "import time\nwhile time.process_time() < 1: pass\nprint(1)"
            thread = "import threading, time\ndef f():\n    while time.process_time() < 1: pass\n    print(1)\n"
            for program in (work, thread + "t = threading.Thread(target=f); t.start(); t.join()"):
                assert one(sandbox, program, wall_s=1.5).stdout == b"1\n"
            assert one(sandbox, "import time; time.sleep(60)", wall_s=1.5).status == "wall_timeout"
    finally:
        for process in burning:
            process.kill()
            process.wait()


# --------------------------------------------------------------------------------------------------------- languages
def test_c_and_cpp_are_compiled_once(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENR1_CACHE", str(tmp_path))
    program = '#include <cstdio>\nint main(){int n;if(scanf("%d",&n)!=1)return 2;printf("%d\\n",n*2);}'
    first = sandbox.run(program, "cpp", ["21", "x"])
    assert [(o.status, o.stdout, o.exit_code) for o in first] == [("ok", b"42\n", 0), ("error", b"", 2)]
    [kept] = tmp_path.glob("sandbox-*/??/*")
    kept.write_bytes(b"#no executable")  # what the cache says is what runs
    assert one(sandbox, program, "21", "cpp").exit_code == 126
    assert one(sandbox, program.replace("cstdio", "stdio.h"), "4", "c").stdout == b"8\n"


def test_several_source_files(sandbox: Sandbox) -> None:
    files = {
        "main.c": '#include "add.h"\n#include <stdio.h>\nint main(){printf("%d", add(2, 3));}',
        "add.c": "int add(int a, int b){return a + b;}",
        "add.h": "int add(int, int);",
    }
    assert one(sandbox, files, language="c").stdout == b"5"


def test_a_compile_error_says_what_the_compiler_said(sandbox: Sandbox) -> None:
    outcomes = sandbox.run("int main(){return x;}", "c", ["", ""])
    assert [outcome.status for outcome in outcomes] == ["compile_error"] * 2 and b"undeclared" in outcomes[0].stderr


def test_memory_in_c(sandbox: Sandbox) -> None:
    program = "#include <stdlib.h>\n#include <string.h>\nint main(){for(;;)memset(malloc(1<<20),1,1<<20);}"
    assert one(sandbox, program, language="c", memory_mb=64).status == "memory"


def test_a_language_is_added_by_a_row(sandbox: Sandbox) -> None:
    row = Language("bash-of-this-test", "main.sh", interpreter="bash")
    register_language(row)
    try:
        assert one(sandbox, "read x; echo $((x * 2))", "21", "bash-of-this-test").stdout == b"42\n"
        register_language(Language("nothing", "x", interpreter="no-such-tool", hint="get it from its makers"))
        with pytest.raises(
            UserError, match="language nothing: no-such-tool is not on this machine; get it from its makers"
        ):
            one(sandbox, "x", language="nothing")
    finally:
        LANGUAGES.pop(row.name), LANGUAGES.pop("nothing", None)


# ------------------------------------------------------------------------------------------------------ bad requests
@pytest.mark.parametrize(
    "program, language, inputs, message",
    [
        ("print(1)", "cobol", [""], "language 'cobol' is not known"),
        ("print(1)", "pyton", [""], "did you mean python"),
        ("print(1)", None, [""], "language None is not known"),
        ("print(1)\0", "python", [""], "program solution.py: a NUL character at byte 8"),
        ("x = '\ud800'", "python", [""], "program solution.py: character 5 is half of a surrogate pair"),
        ("x" * (50 << 20), "python", [""], "program: 50 MB; at most 4 MB"),
        (b"print(1)", "python", [""], "program: a text, or a mapping of file names to texts, not bytes"),
        ({}, "python", [""], "program: a text, or a mapping"),
        ({"../x": ""}, "python", [""], "'../x' is no plain file name"),
        ({"@x": ""}, "c", [""], "'@x' is no plain file name"),
        ({"-x": ""}, "c", [""], "'-x' is no plain file name"),
        ({"a.py": 5}, "python", [""], "program a.py: a text, not int"),
        ("print(1)", "python", [], "inputs: none given"),
        ("print(1)", "python", "abc", "inputs: a list of texts, bytes or Cases, not str"),
        ("print(1)", "python", None, "inputs: a list of texts, bytes or Cases, not NoneType"),
        ("print(1)", "python", [{"input": "1"}], "input 0: a text, bytes or a Case, not dict"),
        ("print(1)", "python", ["", "\udfff"], "input 1: character 0 is half of a surrogate pair"),
        ("print(1)", "python", [Case(arguments=("\0",))], "input 0, arguments: a NUL"),
        ("print(1)", "python", [Case(arguments="ab")], "input 0: arguments is a sequence of texts"),
        ("print(1)", "python", [Case(arguments=("x" * 20000,))], "arguments of more than 16 KB"),
        ("print(1)", "python", [Case(files={"solution.py": ""})], "the file name solution.py is the program's own"),
        ("print(1)", "python", [Case(files={"a/b": ""})], "'a/b' is no plain file name"),
        ("print(1)", "python", [Case(files=["a"])], "files is a mapping"),
        ("print(1)", "python", [Case(files={f"f{n}": "" for n in range(40)})], "40 files; at most 32"),
        ("print(1)", "python", [Case(files={"a": b"x" * (40 << 20)})], "files of 40 MB; limits.files_mb is 32"),
    ],
)  # fmt: skip
def test_a_bad_request_is_one_clear_sentence(
    sandbox: Sandbox, program: Any, language: Any, inputs: Any, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        sandbox.run(program, language, inputs)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_bad_settings() -> None:
    with pytest.raises(UserError, match="workers=0"):
        Sandbox(workers=0)
    with pytest.raises(UserError, match="sandbox tier 'bubblewarp' is not known; did you mean bubblewrap"):
        Sandbox(tier="bubblewarp")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cpu_s"):
        Limits(cpu_s=0)
    with pytest.raises(ValueError, match="cpu_second"):
        Limits(cpu_second=1)  # type: ignore[call-arg]


# ------------------------------------------------------------------------------------------------------------- tiers
def test_both_tiers_answer_alike(each_tier: str) -> None:
    with Sandbox(workers=1, tier=each_tier) as sandbox:  # type: ignore[arg-type]
        assert sandbox.describe()["tier"] == sandbox.tier == each_tier
        assert one(sandbox, "print(int(input()) * 2)", "21").stdout == b"42\n"
        assert one(sandbox, "while True: pass", cpu_s=0.2).status == "cpu_timeout"
        program = f'#include <stdio.h>\nint main(){{printf("{each_tier}");}}'  # compiled in this tier
        assert one(sandbox, program, language="c").stdout == each_tier.encode()
        case = Case("", (), {"data": "seen"})
        assert one(sandbox, "print(open('data').read())", case).stdout == b"seen\n"


def test_without_any_tier_the_error_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tiers._probe.cache_clear()
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(tiers.host, "_PACKAGED", "no_such_package")
    monkeypatch.setattr(confine, "landlock_version", lambda: 0)
    try:
        with pytest.raises(OutsideError) as caught:
            Sandbox()
        text = str(caught.value)
        assert "bubblewrap: bwrap is not installed" in text and "landlock: this kernel has no Landlock" in text
        assert "install bubblewrap" in text and caught.value.exit_code == 3
        assert tiers.survey()["tier"] is None
    finally:
        tiers._probe.cache_clear()


def test_a_weaker_tier_is_said_aloud(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    if not tiers.probe("landlock").works:
        pytest.skip("no Landlock here")
    tiers._probe.cache_clear()
    monkeypatch.setattr(tiers.host, "bubblewrap", lambda: "/bin/false")
    try:
        with caplog.at_level("WARNING"):
            assert tiers.choose(None) == "landlock"
        assert "weaker than bubblewrap" in caplog.text
    finally:
        tiers._probe.cache_clear()


def test_a_tier_that_lets_programs_out_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bwrap that isolates nothing: it drops its options and runs the command as it is."""
    tiers._probe.cache_clear()
    bare = tiers._landlock

    def unlocked(kind: str, limits: Limits) -> Any:
        launch = bare(kind, limits)
        return tiers.Launch(
            launch.command, {**launch.setup, "readable": ["/"]}, launch.environment, launch.popen, launch.folder
        )

    monkeypatch.setitem(tiers._LAUNCHES, "landlock", unlocked)
    try:
        report = tiers.probe("landlock")
        assert not report.works and "read a file of the host" in report.reason
    finally:
        tiers._probe.cache_clear()


# -------------------------------------------------------------------------------------------------- workers and life
def test_async() -> None:
    async def both() -> list[bytes]:
        async with Sandbox(workers=2) as sandbox:
            runs = [sandbox.run_async(f"print({n})", "python", [""]) for n in range(4)]
            return [outcome.stdout for [outcome] in await asyncio.gather(*runs)]

    assert asyncio.run(both()) == [b"0\n", b"1\n", b"2\n", b"3\n"]


def test_many_threads_share_a_sandbox() -> None:
    with Sandbox(workers=2) as sandbox, ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda n: one(sandbox, "print(int(input()) ** 2)", str(n)), range(40)))
    assert [outcome.stdout for outcome in outcomes] == [b"%d\n" % n**2 for n in range(40)]


def test_a_sandbox_is_replaced_after_so_many_programs() -> None:
    with Sandbox(workers=1, recycle_after=2) as sandbox:
        seen = []
        for _ in range(5):
            assert one(sandbox, "print(1)").status == "ok"
            seen.append(tuple(sandbox.worker_pids()))
    assert len({pids for pids in seen if pids}) == 3


def test_a_killed_worker_costs_no_verdict() -> None:
    with Sandbox(workers=1) as sandbox:
        one(sandbox, "print(1)")
        [pid] = sandbox.worker_pids()
        timer = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
        timer.start()
        outcomes = sandbox.run("import time; time.sleep(0.4); print(input())", "python", ["a", "b", "c"])
        timer.join()
        assert [(o.status, o.stdout) for o in outcomes] == [("ok", b"a\n"), ("ok", b"b\n"), ("ok", b"c\n")]
        assert sandbox.worker_pids() != [pid]


def test_a_worker_that_always_dies_is_ours_not_the_programs() -> None:
    with Sandbox(workers=1) as sandbox:
        one(sandbox, "print(1)")
        over = threading.Event()

        def kill() -> None:
            while not over.is_set():
                for pid in sandbox.worker_pids():
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.01)

        thread = threading.Thread(target=kill)
        thread.start()
        outcome = one(sandbox, "import time; time.sleep(3)")
        over.set()
        thread.join()
        assert outcome.status == "infra_error" and outcome.stderr.startswith(b"sandbox: ")
        assert one(sandbox, "print(1)").status == "ok"


def test_close_ends_what_runs() -> None:
    sandbox = Sandbox(workers=1)
    caught: list[BaseException] = []

    def endless() -> None:
        try:
            one(sandbox, "import time; time.sleep(100)", wall_s=100)
        except OutsideError as error:
            caught.append(error)

    thread = threading.Thread(target=endless)
    thread.start()
    while not sandbox.worker_pids():
        time.sleep(0.05)
    time.sleep(0.3)
    sandbox.close()
    thread.join(30)
    assert not thread.is_alive() and "closed" in str(caught[0])
    with pytest.raises(UserError, match="closed"):
        one(sandbox, "print(1)")


def test_a_sandbox_is_not_for_a_forked_process(sandbox: Sandbox) -> None:
    one(sandbox, "print(1)")
    parent, child = multiprocessing.get_context("fork").Pipe()
    pid = os.fork()
    if pid == 0:
        try:
            one(sandbox, "print(1)")
        except UserError as error:
            child.send(str(error))
        os._exit(0)
    os.waitpid(pid, 0)
    assert "another process" in parent.recv()


def test_nothing_outlives_a_killed_host(tmp_path: Path) -> None:
    """`kill -9` of the process that opened the sandbox, in the middle of a run."""
    script = (
        "import threading, time\nfrom openr1.sandbox import Sandbox\ns = Sandbox(workers=1)\n"
        "threading.Thread(target=s.run, args=('import time; time.sleep(60)', 'python', [''])).start()\n"
        "while not s.worker_pids(): time.sleep(0.05)\ntime.sleep(0.5)\n"
        "print(*s.worker_pids(), flush=True)\ntime.sleep(60)"
    )
    host = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    pids = [int(word) for word in host.stdout.readline().split()]
    below = [pid for worker in pids for pid in _descendants(worker)]
    assert pids and below
    host.kill()
    host.wait()
    host.stdout.close()
    deadline = time.monotonic() + 30
    while any(runs(pid) for pid in (*pids, *below)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in (*pids, *below) if runs(pid)]


def _descendants(pid: int) -> list[int]:
    children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [below for child in children for below in _descendants(child)]


def test_no_main_guard_is_needed(tmp_path: Path) -> None:
    script = tmp_path / "plain.py"
    script.write_text(
        "from openr1.sandbox import Sandbox\nwith Sandbox(workers=2) as s: print(s.run('print(1)', 'python', ['']))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "status='ok'" in done.stdout
