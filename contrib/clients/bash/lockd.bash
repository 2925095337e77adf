# A client of lockd for bash, which needs no other program; to be sourced. The
# shell has one connection, which owns what it gets. Status 0: yes, 1: no,
# 2: refused for another reason, which is on stderr, 3: the connection is lost,
# and with it all that was held.

lockd_connect() { # [HOST PORT]
  local token
  exec {lockd_fd}<>"/dev/tcp/${1:-127.0.0.1}/${2:-9999}" || return 3
  lockd_patience=5
  if [[ ${LOCKD_TOKEN_FILE-} ]]; then
    read -r token <"$LOCKD_TOKEN_FILE" || [[ $token ]] || return 2
    lockd_yes "auth $token" || return
  fi
  # The server frees what we hold after so long without a word: we have to know before.
  lockd_yes limits || return
  [[ $lockd_reply =~ dead_peer_ms=([0-9]+) ]] && lockd_patience=$(((BASH_REMATCH[1] + 4999) / 5000))
  lockd_ask "iam $HOSTNAME:${0##*/}:$$"
}

lockd_close() { exec {lockd_fd}>&-; }

# The exclusive lock, waiting for up to SECONDS for it.
lockd_get() { lockd_take "gw $((${2:-0} * 1000))" "$1" "${2:-0}"; } # NAME [SECONDS]

# A place among LIMIT; how many there are then is ${lockd_reply%% *}.
lockd_get_shared() { lockd_take "sgw $2 $((${3:-0} * 1000))" "$1" "${3:-0}"; } # NAME LIMIT [SECONDS]

lockd_release() { lockd_ask "r $1" && [[ $lockd_reply == 1* ]]; }

lockd_release_shared() { lockd_ask "sr $1" && [[ $lockd_reply == 1* ]]; }

# Runs a command, and ends it if the connection is lost: 3 then, else its own status.
lockd_run() { # COMMAND [ARGUMENT...]
  local pid killer status
  "$@" <&0 &
  pid=$!
  while kill -0 $pid 2>/dev/null; do
    # Nothing was asked, so what can be read is the end. A time-out is more than 128.
    status=0
    read -r -t 0.2 -u $lockd_fd || status=$?
    if ((status > 128 && SECONDS < lockd_heard + lockd_patience)) || lockd_ask ping; then continue; fi
    kill $pid 2>/dev/null
    (sleep $lockd_patience && kill -KILL $pid) >/dev/null 2>&1 &
    killer=$!
    wait $pid || :
    kill $killer 2>/dev/null
    return 3
  done
  wait $pid
}

# Sends a request whose reply is one line, and has that in lockd_reply.
lockd_ask() { # LINE [SECONDS]
  [[ $1 != *$'\n'* ]] || { echo "lockd: a line break in a name" >&2; return 2; }
  local sent=$SECONDS
  # In a subshell, which dies of SIGPIPE if the connection has been reset.
  (printf '%s\n' "$1" >&$lockd_fd) 2>/dev/null && IFS= read -r -t $((${2:-0} + lockd_patience)) -u $lockd_fd lockd_reply || {
    exec {lockd_fd}>&- {lockd_fd}</dev/null # what comes late must not answer the next request
    echo "lockd: the connection is lost" >&2
    return 3
  }
  lockd_heard=$sent
}

lockd_yes() {
  lockd_ask "$1" || return
  [[ $lockd_reply != 0* ]] || { echo "lockd: ${lockd_reply#0 }" >&2; return 2; }
}

lockd_take() { # REQUEST NAME SECONDS
  [[ $2 == *[![:space:]]* ]] || { echo "lockd: an empty name: most often a variable that is not set" >&2; return 2; }
  lockd_ask "$1 $2" "$3" || return
  case $lockd_reply in
    "0 Lock Get Timeout: "* | "0 Shared Lock Get Timeout: "*) return 1 ;;
    0*) echo "lockd: ${lockd_reply#0 }" >&2; return 2 ;;
  esac
}
