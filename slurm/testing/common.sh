# shellcheck shell=bash disable=SC2034
# What start, stop and run share: where the cluster lies, its nodes, and whether it may be here at all.
ROOT=${OPENR1_TEST_SLURM_DIR:-/tmp/openr1-test-slurm}
NODES=(node1 node2)
HOSTS_MARK='# openr1 test cluster'
export SLURM_CONF=$ROOT/slurm.conf

allowed() { # a person, or CI, says that this machine's system files may be touched
  [ "${OPENR1_TEST_SLURM:-}" = system ] && [ "$(id -u)" = 0 ] && return
  cat >&2 <<'TEXT'
The test cluster installs Debian's Slurm, runs its daemons as root and writes node names into /etc/hosts.
On a machine that may be changed so (a container, CI), as root: OPENR1_TEST_SLURM=system make test-slurm
TEXT
  exit 1
}

pid_of() { cat "$ROOT/$1.pid" 2>/dev/null; }

alive() { # alive NAME: whether the daemon that start began still runs, and not another process of its number
  local pid
  pid=$(pid_of "$1") && [ -n "$pid" ] && grep -Eqs '^(slurm|munged|mariadbd)' "/proc/$pid/comm"
}
