#!/usr/bin/env bash
# example.bash skip|wait|count NAME N SECONDS: works for SECONDS under the lock NAME.
. "$(dirname "${BASH_SOURCE[0]}")/lockd.bash"

way=$1 name=$2 n=$3 seconds=$4
server=${LOCKD_SERVER:-tcp://127.0.0.1:9999} server=${server#tcp://}
lockd_connect "${server%:*}" "${server##*:}" || exit
case $way in
  skip) lockd_get "$name" ;;             # get it, or let whoever has it do the work
  wait) lockd_get "$name" "$n" ;;        # wait for it, N seconds at most
  count) lockd_get_shared "$name" "$n" ;; # be one of N at most
esac
case $? in
  0) echo "got it ${lockd_reply%% *}" ;;
  1) echo "not got"; exit ;;
  *) exit 1 ;;
esac

lockd_run sleep "$seconds" # the work
case $? in
  0) echo "done" ;;
  3) echo "lost" ;; # somebody else may have the lock now
esac
