"""Servers that an engine starts: supervised, restarted, and gone with the stage, with real processes.

The program is a stand-in that speaks vLLM's protocol; the same is tested on vLLM itself in tests/real_vllm.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import parent, runs, wait_until
from tiny_engine import PROMPTS, make_model

from openr1.engines import make_requests, open_engine
from openr1.engines.server import WATCHER
from openr1.engines.settings import SamplingSettings, VLLMSettings
from openr1.engines.vllm_log import reason_in
from openr1.engines.vllm_program import as_flags, engine_arguments, find_executable
from openr1.errors import OpenR1Error, OutsideError, UserError
from openr1.models.source import load_tokenizer
from openr1.records import Completion, Prompt

STAND_IN = Path(__file__).with_name("stand_in_vllm.py")
SAMPLING = SamplingSettings(temperature=1.0, max_new_tokens=16)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "tiny")


class Site:
    """A stand-in installed as a program, and what its processes have written."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder / "processes"
        self.folder.mkdir()
        self.program = folder / "vllm"
        self.program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
        self.program.chmod(0o755)
        self.logs = folder / "logs"
        self.engines: list[Any] = []
        self.scratch = folder / "tmp"
        self.scratch.mkdir()
        monkeypatch.setenv("TMPDIR", str(self.scratch))
        monkeypatch.setattr("tempfile.tempdir", None)  # it is asked for anew
        monkeypatch.setenv("STAND_IN_FOLDER", str(self.folder))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def settings(self, **more: Any) -> VLLMSettings:
        return VLLMSettings.model_validate(
            {"name": "vllm", "executable": str(self.program), "concurrency": 8, "start_timeout_s": 60} | more
        )

    def open(self, model: Path, **more: Any) -> Any:
        """An engine that is closed at the end of the test."""
        self.engines.append(open_engine(self.settings(**more), model, self.logs))
        return self.engines[-1]

    def processes(self, role: str | None = None) -> list[dict[str, Any]]:
        found = [json.loads(p.read_text()) for p in self.folder.glob("*.json")]
        return [p for p in found if role in (None, p["role"])]

    def alive(self, role: str | None = None) -> list[int]:
        return [p["pid"] for p in self.processes(role) if runs(p["pid"])]

    def shared_memory(self, remove: bool = False) -> list[Path]:
        """What the cores have left of it."""
        left = [Path(f"/dev/shm/psm_stand_in_{p['pid']}") for p in self.processes("core")]
        left = [p for p in left if p.exists()]
        for path in left if remove else []:
            path.unlink()
        return left

    def served(self) -> int:
        path = self.folder / "served.txt"
        return len(path.read_text()) if path.exists() else 0


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    made = Site(tmp_path, monkeypatch)
    yield made
    for engine in made.engines:
        engine.close()
    left = made.alive()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, "processes were left behind"
    assert list(made.scratch.iterdir()) == []
    made.shared_memory(remove=True)


def keys_of(requests: Any) -> list[tuple[str, int]]:
    return sorted(r.key for r in requests)


def test_every_completion_once_decoded_here_and_nothing_left(site: Site, model: Path) -> None:
    engine = site.open(model, data_parallel=2, max_num_seqs=4)
    assert site.processes() == []  # nothing starts before there is work
    requests = make_requests(PROMPTS, 3, 0)
    skipped = {r.key for r in requests[:5]}
    rows = [c for commit in engine.generate(requests, SAMPLING, skipped, "<think>") for c in commit]
    apis = site.processes("api")
    assert len(apis) == 2 and len(site.alive("core")) == 2
    assert len(site.shared_memory()) == 2
    engine.close()
    assert site.shared_memory() == []
    assert keys_of(rows) == sorted({r.key for r in requests} - skipped)
    tokenizer = load_tokenizer(model)
    seeds = {r.key: r.seed for r in requests}
    for row in rows:
        assert row.seed == seeds[row.key] and row.text.startswith("<think>") and row.error is None
        made = tokenizer(row.text.removeprefix("<think>"), add_special_tokens=False)["input_ids"]
        assert row.completion_tokens == len(made) + (row.finish_reason == "stop")
    assert {r.finish_reason for r in rows} == {"stop", "length"}
    words = apis[0]["arguments"]
    assert words[:2] == ["serve", str(model)] and words[words.index("--max-num-seqs") + 1] == "4"
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert engine.identity()["version"] == "0.0.stand-in" and engine.parameters > 10_000
    assert site.alive() == []


@pytest.mark.parametrize("victim", ["api", "core", "watcher"])
def test_a_killed_server_is_restarted_and_nothing_is_lost(
    site: Site, model: Path, monkeypatch: pytest.MonkeyPatch, victim: str, caplog: pytest.LogCaptureFixture
) -> None:
    if victim == "api":
        monkeypatch.setenv("STAND_IN_SETSID", "1")  # the core has left the process group
    requests = make_requests(PROMPTS, 8, 0)
    engine = site.open(model)
    rows: list[Completion] = []
    kills = 0
    with caplog.at_level("WARNING", "openr1"):
        for commit in engine.generate(requests, SAMPLING):
            rows += commit
            if len(rows) > 40 * (kills + 1) and kills < 2 and site.alive("core") and site.alive("api"):
                api, core = site.alive("api")[0], site.alive("core")[0]
                target = {"api": api, "core": core, "watcher": parent(api)}[victim]
                os.kill(target, signal.SIGKILL)
                kills += 1
                wait_until(lambda gone=core: not runs(gone), 20)
    assert engine.servers.deaths == kills == 2
    assert keys_of(rows) == keys_of(requests) and all(c.error is None for c in rows)
    if victim == "api":
        engine.close()
        assert len(site.processes("core")) == 3 and site.shared_memory() == []
    if victim != "core":  # a core's end is its server's to tell
        assert "ended (killed by SIGKILL" in caplog.text
    assert "restart 1 of 3" in caplog.text and str(site.logs) in caplog.text


def test_servers_end_with_a_stage_that_is_killed(site: Site, model: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from tiny_engine import PROMPTS\n"
        "from openr1.engines import make_requests, open_engine\n"
        "from openr1.engines.settings import SamplingSettings, VLLMSettings\n"
        "engine = open_engine(VLLMSettings.model_validate_json(sys.argv[2]), *map(Path, sys.argv[3:]))\n"
        "sampling = SamplingSettings(temperature=1.0, max_new_tokens=16)\n"
        "for commit in engine.generate(make_requests(PROMPTS, 1000, 0), sampling):\n    pass\n"
    )
    words = [sys.executable, "-c", code, str(STAND_IN.parent), site.settings().model_dump_json()]
    words += [str(model), str(site.logs)]
    stage = subprocess.Popen(words)
    wait_until(lambda: site.served() > 20 or stage.poll() is not None, 300)
    assert len(site.alive()) == 2
    watcher = parent(site.alive("api")[0])
    stage.kill()
    stage.wait()
    wait_until(lambda: not runs(watcher))
    assert site.alive() == []


def test_a_process_whose_first_thread_has_ended_and_its_children_end_as_well(tmp_path: Path) -> None:
    code = (
        "import ctypes, os, signal, subprocess, sys, threading, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "print(os.getpid(), child.pid, flush=True)\n"
        "os.close(1)\n"
        "exit_thread = {'x86_64': 60, 'aarch64': 93}[os.uname().machine]\n"
        "ctypes.CDLL(None).syscall(exit_thread, 0)\n"
    )
    words = [sys.executable, "-I", "-S", str(WATCHER), "0.2", "SCRATCH", sys.executable, "-c", code]
    environment = os.environ | {"SCRATCH": str(tmp_path / "none")}
    watcher = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)
    assert watcher.stdin is not None and watcher.stdout is not None
    pids = [int(word) for word in watcher.stdout.readline().split()]
    wait_until(lambda: not runs(pids[0]))  # as far as one sees from outside
    watcher.stdin.close()
    watcher.wait(60)
    left = [pid for pid in pids if Path(f"/proc/{pid}").exists() and runs(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == [] and not Path(f"/proc/{pids[0]}").exists()
    watcher.stdout.close()


def test_a_consumer_that_stops_leaves_servers_that_answer_again(site: Site, model: Path) -> None:
    engine = site.open(model)
    requests = make_requests(PROMPTS, 2, 0)
    commits = engine.generate(requests, SAMPLING)
    first = next(commits)
    commits.close()
    have = {c.key for c in first}
    rest = [c for commit in engine.generate(requests, SAMPLING, have) for c in commit]
    assert sorted([c.key for c in first + rest]) == keys_of(requests)
    assert len(site.processes("api")) == 1
    engine.close()
    assert site.alive() == []


def test_a_server_that_dies_again_and_again_ends_the_run(
    site: Site, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_FAULT", "crash")
    engine = site.open(model, concurrency=2)
    with pytest.raises(OutsideError, match=r"ended 4 times: ValueError: a seed is no good; log: .*vllm-0.log") as e:
        list(engine.generate(make_requests(PROMPTS, 8, 0), SAMPLING))
    assert len(str(e.value).splitlines()) == 1
    assert len(site.processes("api")) == 4


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        (
            "start",
            UserError,
            r"ended before it answered: ValueError: no room for a single block \(log: .*vllm-0.log\)",
        ),
        ("mute", OutsideError, r"does not answer within 3 s \(it does not listen; .*engine.start_timeout_s"),
    ],
)
def test_a_server_that_does_not_start_says_why(
    site: Site, model: Path, monkeypatch: pytest.MonkeyPatch, fault: str, kind: type[OpenR1Error], says: str
) -> None:
    monkeypatch.setenv("STAND_IN_FAULT", fault)
    engine = site.open(model, start_timeout_s=3 if fault == "mute" else 60)
    with pytest.raises(kind, match=says):
        engine.generate(make_requests(PROMPTS, 1, 0), SAMPLING)


def test_gpus_are_shared_out(
    site: Site, model: Path, monkeypatch: pytest.MonkeyPatch, nvidia_smi: Callable[[int], None]
) -> None:
    nvidia_smi(8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    engine = site.open(model, data_parallel=2, tensor_parallel=2)
    list(engine.generate(make_requests(PROMPTS[:2], 1, 0), SAMPLING))
    engine.close()
    apis = site.processes("api")
    assert sorted(p["gpus"] for p in apis) == ["4,5", "6,7"]
    assert all("--gpu-memory-utilization" in p["arguments"] and "--enforce-eager" not in p["arguments"] for p in apis)
    with pytest.raises(UserError, match="needs 8 GPUs, 4 are visible"):
        site.open(model, data_parallel=2, tensor_parallel=4)


def test_what_cannot_be_answered_is_refused_before_a_server_starts(site: Site, model: Path, tmp_path: Path) -> None:
    engine = site.open(model)
    empty = Prompt(task="t", messages=[{"role": "user", "content": " "}], answer="1", verifier="math")
    with pytest.raises(UserError) as e:
        engine.generate(make_requests([*PROMPTS, empty], 1, 0), SamplingSettings(temperature=0, max_new_tokens=120))
    assert "no text in a user turn" in str(e.value) and "beyond the model's context of 128" in str(e.value)
    short = site.open(model, max_model_len=24)
    with pytest.raises(UserError, match="beyond the model's context of 24"):
        short.generate(make_requests(PROMPTS, 1, 0), SAMPLING)
    with pytest.raises(UserError, match="max_model_len 500 is beyond the model's context of 128"):
        site.open(model, max_model_len=500)
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in model.iterdir():
        if file.name != "chat_template.jinja":
            (bare / file.name).symlink_to(file)
    with pytest.raises(UserError, match="no chat template"):
        site.open(bare)
    assert site.processes() == []


def test_the_program_is_looked_for(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="engine.executable names nowhere/vllm, which is no program"):
        find_executable("nowhere/vllm")
    monkeypatch.setenv("OPENR1_VLLM", str(site.program))
    assert find_executable(None) == str(site.program)
    assert find_executable("/bin/sh") == "/bin/sh"
    monkeypatch.delenv("OPENR1_VLLM")
    monkeypatch.setenv("PATH", str(site.program.parent))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "elsewhere" / "python"))
    assert find_executable(None) == str(site.program)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    beside = tmp_path / "work" / ".venv-vllm" / "bin" / "vllm"
    beside.parent.mkdir(parents=True)
    beside.symlink_to(site.program)
    monkeypatch.chdir(tmp_path / "work")
    assert find_executable(None) == str(beside)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("openr1.__file__", str(tmp_path / "a" / "b" / "c" / "__init__.py"))
    with pytest.raises(UserError, match="make setup-vllm"):
        find_executable(None)


def test_arguments_are_vllms_own() -> None:
    settings = VLLMSettings.model_validate(
        {"name": "vllm", "max_num_seqs": 8, "extra": {"enforce_eager": None, "override": {"a": 1}, "swap_space": 2}}
    )
    gpu, cpu = engine_arguments(settings, True, 4096), engine_arguments(settings, False, 4096)
    assert gpu["dtype"] == "auto" and "enable_chunked_prefill" not in gpu
    assert cpu["dtype"] == "float32" and cpu["max_num_batched_tokens"] == 4096 and "enforce_eager" not in cpu
    flags = as_flags(cpu)
    assert "--no-enable-chunked-prefill" in flags and "--enforce-eager" not in flags
    assert flags[flags.index("--override") + 1] == '{"a": 1}' and flags[flags.index("--swap-space") + 1] == "2"


def test_the_reason_in_a_log() -> None:
    log = (
        "INFO 11-22 starting\n(EngineCore pid=7) ERROR 11-22 [core.py:9] torch.OutOfMemoryError: CUDA out of memory.\n"
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n\n"
    )
    assert reason_in(log) == "torch.OutOfMemoryError: CUDA out of memory."
    assert reason_in("usage: vllm serve\nvllm serve: error: unrecognized arguments: --frobnicate\n").startswith(
        "vllm ser"
    )
    assert reason_in("hello\n\n") == "hello"
    assert reason_in("") == "it said nothing"
    assert reason_in("", -9) == "killed by SIGKILL, it said nothing"
    assert reason_in("ValueError: long ago\nINFO: ready\n", 137) == 'killed by SIGKILL after "INFO: ready"'
    assert reason_in("ValueError: no room\nINFO: bye\n", 1) == "ValueError: no room"
    assert reason_in("hello\n", 3) == 'ended with code 3 after "hello"'


def test_offline_refuses_what_it_cannot_do(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="data_parallel is 2; use engine.mode=server"):
        open_engine(VLLMSettings(name="vllm", mode="offline", data_parallel=2), model)
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match="offline needs vLLM in this environment; make setup-vllm .*=server"):
        open_engine(VLLMSettings(name="vllm", mode="offline"), model)
