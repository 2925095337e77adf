#!/bin/sh
# Says of each program that some tests use, and that is not there, in one line
# what is skipped without it. Given 1, it first gets those that it can get
# without asking anybody. It never fails: the tests skip what they have no
# program for.
#
# promtool is taken out of Debian's package prometheus and put into bin/tools,
# without installing it, which would start a service. Chromium and HAProxy are
# installed, which only root can, and so are ip and nft, and the interpreters of
# the languages that there are clients for.
cd "$(dirname "$0")/.." || exit 0
tools=bin/tools
PATH=$PWD/$tools:$PATH
log=$(mktemp) || exit 0
work=$(mktemp -d) || exit 0
trap 'rm -rf "$log" "$work"' EXIT
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1

have() { command -v "$1" >/dev/null 2>&1; }

quiet() { timeout 300 "$@" </dev/null >>"$log" 2>&1; }

apt() { quiet apt-get -qq -o DPkg::Lock::Timeout=60 -o Acquire::Retries=2 "$@"; }

# updated brings the lists of packages up to date, once, if we may.
updated() {
	[ "$(id -u)" = 0 ] || return 0
	[ -n "$lists" ] || { apt update; lists=1; }
}

get_promtool() {
	have apt-get && have dpkg-deb || return 1
	updated
	root=$PWD
	(cd "$work" && apt -o APT::Sandbox::User="$(id -un)" download prometheus) || return 1
	quiet dpkg-deb -x "$work"/prometheus_*.deb "$work/x" || return 1
	mkdir -p "$root/$tools" && mv "$work/x/usr/bin/promtool" "$root/$tools/" || return 1
	quiet "$root/$tools/promtool" --version || { rm -f "$root/$tools/promtool"; return 1; }
}

get_chromium() {
	[ "$(id -u)" = 0 ] && have apt-get || return 1
	updated
	apt install -y --no-install-recommends chromium && have chromium
}

# HAProxy's package starts no service where there is none to start (RUNLEVEL=1).
get_haproxy() {
	[ "$(id -u)" = 0 ] && have apt-get || return 1
	updated
	apt install -y --no-install-recommends haproxy && have haproxy
}

get_netlab() {
	[ "$(id -u)" = 0 ] && have apt-get || return 1
	updated
	apt install -y --no-install-recommends iproute2 nftables && have ip && have nft
}

# get_language installs an interpreter, that is a package and its command.
get_language() {
	[ "$(id -u)" = 0 ] && have apt-get || return 1
	updated
	apt install -y --no-install-recommends "$1" && have "$2"
}

if [ "$1" = 1 ]; then
	why="could not be got"
else
	why="is not installed (make test INSTALL=1 gets it where it can)"
	get_promtool() { return 1; }
	get_chromium() { return 1; }
	get_haproxy() { return 1; }
	get_netlab() { return 1; }
	get_language() { return 1; }
fi
have promtool || get_promtool ||
	echo "skipping the check of the metrics' text: promtool, of Debian's package prometheus, $why"
have chromium || have chromium-browser || have google-chrome || get_chromium ||
	echo "skipping the test in a browser: Chromium $why"
have haproxy || get_haproxy ||
	echo "skipping the test behind a proxy: haproxy $why"
if [ "$(uname)" = Linux ]; then
	{ have ip && have nft; } || get_netlab ||
		echo "skipping the tests that cut networks: ip or nft, of Debian's packages iproute2 and nftables, $why"
fi
for language in php-cli:php python3:python3 ruby:ruby nodejs:node; do
	have "${language#*:}" || get_language "${language%:*}" "${language#*:}" ||
		echo "skipping the client for ${language#*:}: ${language%:*} $why"
done
exit 0
