# For scripts to source: programs that they need, from the Debian packages of the same names.

say() { printf '%s: %s\n' "$caller" "$*" >&2; }

# require CALLER NOTE PROGRAM...
# Makes sure that the programs are there: says which are missing, and installs them. CALLER says it; NOTE is
# what whoever has to install them by hand should know.
require() {
  local caller=$1 note=$2 program
  local -a missing=()
  shift 2
  for program in "$@"; do
    command -v "$program" >/dev/null || missing+=("$program")
  done
  if [ "${#missing[@]}" -eq 0 ]; then
    return
  fi
  say "missing: ${missing[*]}; installing from the Debian packages of the same names"
  install "$note" "${missing[@]}"
  hash -r
  for program in "${missing[@]}"; do
    if ! command -v "$program" >/dev/null; then
      say "$program was installed, but is not in the PATH"
      exit 1
    fi
  done
}

install() {
  local note=$1
  local -a root=()
  shift
  if ! command -v apt-get >/dev/null; then
    say "there is no apt-get here; install $*$note so that they are in the PATH"
    exit 1
  fi
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      say "installing takes root or sudo, and here is neither; run as root: apt-get install $*"
      exit 1
    fi
    root=(sudo)
  fi
  if ! "${root[@]}" apt-get update ||
    ! "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install --yes --no-install-recommends "$@"; then
    say "$* could not be installed; install them$note so that they are in the PATH"
    exit 1
  fi
}
