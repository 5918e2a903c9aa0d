#!/usr/bin/env bash
# Makes .venv with every version of constraints.txt in it, once; says nothing if it is there already. run.sh calls this.
# Needs Python 3.10-3.13 and either uv or Python's own venv module; no compiler, no administrator's rights.
#   PYTHON=/path/to/python3.12 tools/setup_env.sh     takes that interpreter instead of the newest that works
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly ROOT=$PWD VENV=$PWD/.venv
readonly LOCK=$VENV/setup.lock   # held while .venv is being made; its presence also says that this script made the folder
readonly STAMP=$VENV/setup.stamp # written last: a folder without it is half-made

say() { echo "set-up: $*" >&2; }
fail() { say "$*"; exit 1; }

# The interpreter's version, "3.12", or nothing: a name on PATH may be a shim (of pyenv, asdf) that cannot run.
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }

works() { "$@" >/dev/null 2>&1; }

have_uv() { works uv --version; }

choose_python() { # prints the path of the interpreter to build with
  local candidates=(python3.13 python3.12 python3.11 python3.10 python3) candidate version found="" without_venv=""
  [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    version=$(version_of "$candidate")
    case $version in
      3.10 | 3.11 | 3.12 | 3.13)
        if have_uv || works "$candidate" -c "import venv, ensurepip"; then
          "$candidate" -c 'import sys; print(sys.executable)'
          return
        fi
        without_venv+=" $version" ;;
      ?*) found+=" $version ($candidate)" ;;
    esac
  done
  [ -z "$without_venv" ] || fail "Python$without_venv is here without its venv module, which Debian and Ubuntu pack" \
    "apart. Install it (sudo apt-get install python3-venv) or uv, then run this again."
  [ -n "$found" ] || found=" no Python that runs${PYTHON:+ as PYTHON=$PYTHON}"
  fail "found$found; allowed are Python 3.10, 3.11," \
    "3.12 and 3.13. Install one (say, sudo apt-get install python3 python3-venv, or uv python install 3.13) and name it if" \
    "need be: PYTHON=/path/to/python3.13 ./run.sh"
}

# What must not change while .venv is reused. Its folder is part of it: the scripts in .venv/bin name it.
wanted_stamp() { # PYTHON_VERSION
  echo "python $1"
  echo "folder $ROOT"
  echo "pins $(cat constraints.txt pyproject.toml | sha256sum | cut -d ' ' -f 1)"
}

is_ready() {
  local version
  version=$(version_of "$VENV/bin/python")
  if [ -n "${PYTHON:-}" ] && [ "$(version_of "$PYTHON")" != "$version" ]; then return 1; fi
  [ -n "$version" ] && [ "$(cat "$STAMP" 2>/dev/null)" = "$(wanted_stamp "$version")" ]
}

check_disk() {
  local free_gb needed_gb=9 # .venv 5.7, and 3.0 of downloads that pip holds until it is done
  if have_uv; then needed_gb=7; fi
  free_gb=$(($(df -Pk "$ROOT" | awk 'NR == 2 { print $4 }') / 1048576))
  [ "$free_gb" -ge "$needed_gb" ] || fail "$free_gb GB are free on the disk of $ROOT; PyTorch and the rest of .venv need" \
    "about $needed_gb GB. Make room, or put the repository on another disk."
}

install() { # PYTHON: fills .venv; constraints.txt is complete, so nothing needs to be resolved
  mkdir "$VENV/tmp" # pip unpacks gigabytes here rather than in /tmp, which is often a small disk in memory
  export TMPDIR=$VENV/tmp
  if have_uv; then
    uv venv --quiet --allow-existing --python "$1" "$VENV"
    uv pip install --python "$VENV/bin/python" --no-deps -r constraints.txt
    uv pip install --python "$VENV/bin/python" --quiet --no-deps --no-build-isolation -e .
  else
    "$1" -m venv "$VENV"
    local pip=("$VENV/bin/python" -m pip --disable-pip-version-check --no-input)
    # A cache would take 3 GB more. "Ignoring" is said of each line that is for another Python or system.
    "${pip[@]}" install --no-cache-dir --no-deps -r constraints.txt | grep --line-buffered -v "^Ignoring "
    "${pip[@]}" install --quiet --no-deps --no-build-isolation -e .
  fi
  rm -rf "$TMPDIR"
}

make_venv() {
  local python started=$SECONDS
  python=$(choose_python)
  if [ ! -e "$LOCK" ] && compgen -G "$VENV/*" >/dev/null; then
    fail "$VENV is there, but this script did not make it. Move it away (mv .venv .venv.old), then run this again."
  fi
  mkdir -p "$VENV"
  exec 9>>"$LOCK"
  flock --nonblock 9 || { say "waiting for another call that is making .venv"; flock 9; }
  if is_ready; then return; fi # the other call has made it
  if [ "$(head -n 2 "$STAMP" 2>/dev/null)" = "$(wanted_stamp "$(version_of "$python")" | head -n 2)" ]; then
    say "constraints.txt or pyproject.toml has changed: bringing .venv up to date"
    rm -rf "$STAMP" "$VENV/tmp"
  else
    find "$VENV" -mindepth 1 -maxdepth 1 ! -name "${LOCK##*/}" -exec rm -rf {} +
    check_disk
    say "making .venv with $python; this is done once, downloads about 3 GB and takes a few minutes"
  fi
  install "$python"
  wanted_stamp "$(version_of "$python")" >"$STAMP.new"
  mv "$STAMP.new" "$STAMP"
  say "done in $((SECONDS - started)) s"
}

is_ready || make_venv
