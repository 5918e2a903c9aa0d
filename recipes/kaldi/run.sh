#!/usr/bin/env bash
# The recipe kaldi from its corpus to its WER table; takes the options of ../../run.sh, which --help explains.
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/../../run.sh" --recipe kaldi "$@"
