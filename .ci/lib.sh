# Functions for the scripts in this folder.

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo "$@"
  else return 1
  fi
}

apt_install() {
  command -v apt-get >/dev/null || return 1
  echo "setup: installing $* with apt-get"
  as_root env DEBIAN_FRONTEND=noninteractive sh -c \
    'apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"' sh "$@" >/dev/null
}

# environment NAME LOCK: makes .cache/NAME from a lock file, unless it is there.
environment() {
  local folder=".cache/$1" digest
  digest=$(sha256sum "$2" | cut -d' ' -f1)
  [ "$(cat "$folder/lockstep-lock" 2>/dev/null || true)" = "$digest" ] && return
  echo "$1: creating $folder"
  .venv/bin/uv venv --quiet --clear --python .venv/bin/python "$folder"
  .venv/bin/uv pip sync --quiet --python "$folder/bin/python" --require-hashes "$2"
  echo "$digest" > "$folder/lockstep-lock"
}
