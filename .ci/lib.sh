# Functions for the scripts in this folder.

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"
  elif command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then sudo "$@"
  else
    echo "setup: that needs root, or sudo" >&2
    return 1
  fi
}

# apt_install NAME...: installs packages of Debian or Ubuntu, if LOCKSTEP_APT is yes or a person at a terminal agrees; else
# says what is missing.
apt_install() {
  local answer
  if ! command -v apt-get >/dev/null; then
    echo "setup: missing: $* (their names on Debian). Install them with this system's package manager, then try again" >&2
    return 1
  fi
  if [ "${LOCKSTEP_APT:-}" != yes ]; then
    answer=
    [ ! -t 0 ] || read -r -p "setup: missing: $*. Install them with apt-get, as root? [y/N] " answer || true
    if [ "$answer" != y ]; then
      echo "setup: to install them: sudo apt-get install $*; unasked: LOCKSTEP_APT=yes" >&2
      return 1
    fi
  fi
  echo "setup: installing $* with apt-get"
  as_root env DEBIAN_FRONTEND=noninteractive sh -c \
    'apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"' sh "$@" >/dev/null
}

supported_python() {
  for candidate in python3 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null &&
      "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "setup: Python 3.11, 3.12 or 3.13 is needed" >&2
  return 1
}

make_venv() {
  local python
  python=$(supported_python)
  echo "setup: making .venv with $("$python" --version)"
  if ! "$python" -m venv .venv 2>/dev/null; then
    apt_install "$python-venv"
    "$python" -m venv --clear .venv
  fi
}

# has_locks LOCK: whether .venv is made from a lock file as it is now.
has_locks() {
  cat locks/bootstrap.txt "$1" pyproject.toml | cmp -s - .venv/lockstep-locks
}

# python_environment LOCK: makes .venv from a lock file, unless it is there.
python_environment() {
  # Two commands at once must not take the environment from under each other. macOS has no flock.
  mkdir -p .cache
  exec 9> .cache/setup.lock
  ! command -v flock >/dev/null || flock 9
  has_locks "$1" && return
  # Where Debian's package for it is missing, an environment is left without pip.
  .venv/bin/python -m pip --version >/dev/null 2>&1 || make_venv
  .venv/bin/python -m pip install --quiet --require-hashes -r locks/bootstrap.txt
  .venv/bin/uv pip sync --quiet --python .venv/bin/python --require-hashes "$1"
  .venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
  cat locks/bootstrap.txt "$1" pyproject.toml > .venv/lockstep-locks
}

# sha256 FILE: its digest. Older systems of Apple have the second program alone.
sha256() {
  { sha256sum "$1" 2>/dev/null || shasum -a 256 "$1"; } | cut -d' ' -f1
}

# environment NAME LOCK: makes .cache/NAME from a lock file, unless it is there.
environment() {
  local folder=".cache/$1" digest
  digest=$(sha256 "$2")
  [ "$(cat "$folder/lockstep-lock" 2>/dev/null || true)" = "$digest" ] && return
  echo "$1: creating $folder"
  .venv/bin/uv venv --quiet --clear --python .venv/bin/python "$folder"
  .venv/bin/uv pip sync --quiet --python "$folder/bin/python" --require-hashes "$2"
  echo "$digest" > "$folder/lockstep-lock"
}
