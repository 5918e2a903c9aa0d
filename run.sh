#!/usr/bin/env bash
# From nothing to a table of word error rates: makes .venv, then runs the stages of a recipe. ./run.sh --help explains.
set -euo pipefail

usage() {
  cat <<'HELP'
Trains speech recognisers on less data and with fewer weights, and compares them with training on all data.

  ./run.sh [OPTION ...] [HYDRA_OVERRIDE ...]     makes .venv (once), then runs a recipe from its corpus to its WER table
  ./run.sh test [--all] [PYTEST_ARGUMENT ...]    makes .venv (once), then runs ruff, mypy and the tests;
                                                 --all runs the slow tests, too
  ./run.sh docs                                  makes .venv (once), then builds the site of docs/ in site/

Options
  --recipe NAME        mini (default; its corpus is synthesised), or a corpus that you have: grid, lrs2, lrs3,
                       librispeech (960 h), librispeech_100, or kaldi (any Kaldi data directories)
  --corpus-dir DIR     the folder of the corpus; all recipes but mini need it until stage 1 is done
  --systems "A B"      the systems, in this order (default: full-dense easy2hard masks easy2hard-masks); the others are
                       compared with the first one. full-dense-as-easy2hard: full data, stopped at the time of
                       easy2hard; trained after the others
  --stage N            the first stage to run (default 1)
  --stop-stage N       the last stage to run (default 5)
  --jobs N             how many systems are trained at the same time (default 2 on a machine with two or more cores and
                       no GPU, else 1); 1 shows a progress bar, and gives seconds that can be compared
  --help               this text

Stages
  1 prepare   corpus -> validated manifests and cuts         data/<corpus>/
  2 train     each system; continues an interrupted training exp/<recipe>/<system>/
  3 decode    each system's averaged model on the test sets  exp/<recipe>/<system>/decode_*/
  4 score     word, character, token error rates             exp/<recipe>/<system>/decode_*/{result.txt,score.json}
  5 report    the table                                      exp/<recipe>/RESULTS.md, report.html, ...

Finished work is not repeated: you can stop at any moment and call the same command again. Words with = are Hydra
overrides for every stage and system. The environment variable PYTHON names the interpreter for .venv.

Examples
  ./run.sh                                                   the mini recipe
  ./run.sh --recipe grid --corpus-dir ~/corpora/grid         the same on GRID
  ./run.sh --systems "full-dense easy2hard" --stage 2        two systems, from stage 2 (training) on
  ./run.sh --stage 3 decode=joint                            decodes again with another decoder
HELP
}

fail() { echo "run.sh: $*" >&2; exit 2; }

# "; did you mean X?" for the nearest of the further words, or nothing.
nearest() { # WORD KNOWN ...
  python3 -c 'import difflib, sys
for word in difflib.get_close_matches(sys.argv[1], sys.argv[2:], n=1): print(f"; did you mean {word}?")' "$@" 2>/dev/null || true
}

check_known() { # KIND WORD KNOWN ...: fails unless WORD is known
  local kind=$1 word=$2 known
  shift 2
  for known in "$@"; do [ "$word" != "$known" ] || return 0; done
  fail "unknown $kind '$word'$(nearest "$word" "$@") Known: $*."
}

check_recipe() { # NAME
  local known=("$root"/recipes/*/run.sh)
  known=("${known[@]%/run.sh}")
  check_known recipe "$1" "${known[@]##*/}"
}

check_systems() { # NAME ...
  local known=("$root"/asrsparse/conf/system/*.yaml) name
  known=("${known[@]%.yaml}")
  for name in "$@"; do check_known system "$name" "${known[@]##*/}"; done
}

check_jobs() { # VALUE
  [[ $1 =~ ^[1-9][0-9]?$ ]] || fail "--jobs got '$1'; allowed are 1 to 99."
}

default_jobs() { # the small models of the recipes for CPUs gain from a second training, not from a second thread
  if [ -e /dev/nvidiactl ] || [ "$(nproc 2>/dev/null || echo 1)" -lt 2 ]; then echo 1; else echo 2; fi
}

check_stage() { # OPTION VALUE
  [[ $2 =~ ^[1-5]$ ]] || fail "$1 got '$2'; a stage is one of 1 prepare, 2 train, 3 decode, 4 score, 5 report."
}

needs_corpus_dir() { [ "$recipe" != mini ] && [ "$stage" -eq 1 ]; }

layout() { # what the folder of the recipe's corpus holds
  case $recipe in
    grid) echo "s1/, s2/, ... and alignments/" ;;
    lrs2) echo "mvlrs_v1/ and its lists, train.txt and so on" ;;
    lrs3) echo "pretrain/, trainval/ and test/" ;;
    librispeech*) echo "train-clean-100/, dev-clean/ and so on" ;;
    kaldi) echo "the data directories train/, dev/ and test/" ;;
  esac
}

is_prepared() { [ -f "$root/data/$recipe/cuts/.completed" ]; }

# What can be known to be wrong is said now, before minutes go into .venv.
check_corpus() {
  local word
  if [ -n "$corpus_dir" ]; then
    [ "$recipe" != mini ] || fail "--corpus-dir got '$corpus_dir', but mini is synthesised and needs none. Leave it out, or" \
      "name the recipe that it is for: --recipe grid."
    [ -d "$corpus_dir" ] || fail "--corpus-dir got '$corpus_dir', which is no folder. Give the folder of the corpus."
    [ -n "$(ls -A "$corpus_dir")" ] || fail "--corpus-dir got '$corpus_dir', which is empty. Give the folder of the corpus."
    corpus_dir=$(cd "$corpus_dir" && pwd) # the commands run in the repository's root
  elif needs_corpus_dir && ! is_prepared; then
    for word in "${overrides[@]}"; do [[ $word != corpus.corpus_dir=* ]] || return 0; done
    fail "--recipe $recipe needs its corpus: add --corpus-dir DIR, the folder that holds $(layout)." \
      "docs/guides/recipes.md says where to get it; recipes/README.md, how to add a corpus of your own."
  fi
}

run_tests() { # [--all] [PYTEST_ARGUMENT ...]
  local which=(-m "not slow") word arguments=()
  for word in "$@"; do
    if [ "$word" = --all ]; then which=(--hypothesis-profile=thorough); else arguments+=("$word"); fi
  done
  export OMP_NUM_THREADS=1 # one thread for each of pytest's two processes
  # Containers often set it. Then each process that a test starts would compile PyTorch and the rest anew, in 10 seconds.
  unset PYTHONDONTWRITEBYTECODE
  .venv/bin/ruff check .
  .venv/bin/ruff format --check .
  .venv/bin/mypy
  .venv/bin/pytest -n 2 --dist worksteal "${which[@]}" "${arguments[@]}" # of two -m, pytest takes the last one
}

asrsparse() { # COMMAND [OVERRIDE ...]: one stage's command, shown before it runs
  local command=("asrsparse" "$1" "recipe=$recipe" "${@:2}" "${overrides[@]}")
  echo "+ ${command[*]}" >&2
  ".venv/bin/${command[0]}" "${command[@]:1}"
}

prepare() {
  if needs_corpus_dir && [[ "${corpus[*]} ${overrides[*]}" != *corpus.corpus_dir=* ]]; then # check_corpus saw the cuts
    echo "run.sh: data/$recipe is prepared already; to compare it with the corpus, add --corpus-dir DIR" >&2
  else
    asrsparse prepare "system=${systems[0]}" "${corpus[@]}" # whose parts the overrides may speak of
  fi
}

takes_time_of_another() { grep -q "same_time_as" "$root/asrsparse/conf/system/$1.yaml"; }

train() { # first the systems that need no other, then those that end at the same time as one of them
  local system first=() later=()
  for system in "${systems[@]}"; do
    if takes_time_of_another "$system"; then later+=("$system"); else first+=("$system"); fi
  done
  [ ${#first[@]} -eq 0 ] || train_all "${first[@]}"
  [ ${#later[@]} -eq 0 ] || train_all "${later[@]}"
}

train_all() { # SYSTEM ...: $jobs at a time, each by a run.sh of its own
  local system
  if [ "$jobs" -eq 1 ]; then
    for system in "$@"; do asrsparse train "system=$system"; done
    return
  fi
  # xargs and not &, since a script's background jobs do not get Ctrl-C; a pipe, since progress bars cannot share a line.
  # The cat outlives Ctrl-C, to show what the trainings say when they leave their checkpoints.
  printf '%s\0' "$@" |
    xargs -0 -n 1 -P "$jobs" ./run.sh --jobs 1 --recipe "$recipe" --stage 2 --stop-stage 2 "${overrides[@]}" --systems 2>&1 |
    (trap '' INT TERM; exec cat) >&2 ||
    fail "a training did not reach its end; its last lines above say why. The same command resumes it."
}

run_stages() {
  local system corpus=()
  # Hydra reads spaces, commas and the like inside quotes as they stand.
  [ -z "$corpus_dir" ] || corpus=("corpus.corpus_dir='${corpus_dir//\'/\\\'}'")
  if runs 1; then prepare; fi
  if runs 2; then train; fi
  for system in "${systems[@]}"; do if runs 3; then asrsparse decode "system=$system"; fi; done
  for system in "${systems[@]}"; do if runs 4; then asrsparse score "system=$system"; fi; done
  if runs 5; then asrsparse report "system=${systems[0]}" "systems=[$(IFS=,; echo "${systems[*]}")]"; fi
}

runs() { [ "$stage" -le "$1" ] && [ "$1" -le "$stop_stage" ]; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

case ${1:-} in
  test | docs)
    cd "$root"
    tools/setup_env.sh
    if [ "$1" = test ]; then run_tests "${@:2}"; else .venv/bin/mkdocs build --strict; fi
    exit
    ;;
esac

recipe=mini
corpus_dir=""
systems=(full-dense easy2hard masks easy2hard-masks)
stage=1
stop_stage=5
overrides=()
jobs=$(default_jobs)
options=(--recipe --corpus-dir --systems --stage --stop-stage --jobs)

while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit ;;
    --*=*) option=${1%%=*} value=${1#*=}; shift ;;
    --*) option=$1 value=${2-}; shift $(($# > 1 ? 2 : 1)) ;;
    *=*) overrides+=("$1"); shift; continue ;;
    *) fail "unknown word '$1'$(nearest "$1" test docs "${options[@]}") Known: test, docs, ${options[*]} and Hydra overrides (key=value)." ;;
  esac
  option=${option//_/-} # --stop_stage, as in ESPnet
  check_known option "$option" "${options[@]}"
  [ -n "$value" ] || fail "$option needs a value. ./run.sh --help explains."
  case $option in
    --recipe) check_recipe "$value"; recipe=$value ;;
    --corpus-dir) corpus_dir=$value ;;
    --systems) read -ra systems <<<"${value//,/ }"; check_systems "${systems[@]}" ;;
    --stage) check_stage "$option" "$value"; stage=$value ;;
    --stop-stage) check_stage "$option" "$value"; stop_stage=$value ;;
    --jobs) check_jobs "$value"; jobs=$value ;;
  esac
done

[ "$stage" -le "$stop_stage" ] || fail "--stage $stage comes after --stop-stage $stop_stage; nothing would run."
check_corpus

cd "$root"
tools/setup_env.sh
run_stages
