#!/bin/sh
# Says of each program that some tests use, and that is not there, in one line
# what is skipped without it. Given 1, it first gets those that it can get
# without asking anybody. It never fails: the tests skip what they have no
# program for.
#
# promtool and prometheus are taken out of Debian's package prometheus and put into
# bin/tools, without installing it, which would start a service. Chromium and the proxies are
# installed, which only root can, and so are ip and nft, other shells, the
# interpreters of the languages that there are clients for, and what
# checks packages and units. A small Debian for packages to be installed in is an archive
# in bin/tools.
cd "$(dirname "$0")/.." || exit 0
tools=bin/tools
PATH=$PWD/$tools:$PATH
log=$(mktemp) || exit 0
work=$(mktemp -d) || exit 0
trap 'rm -rf "$log" "$work"' EXIT
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1

have() { command -v "$1" >/dev/null 2>&1; }

# quiet runs what may take long, where a network takes what is sent and answers
# nothing: after one that was given up there are no more.
quiet() {
	[ ! -e "$work/stuck" ] || return 1
	timeout 300 "$@" </dev/null >>"$log" 2>&1
	set -- $?
	[ "$1" != 124 ] || : >"$work/stuck"
	return "$1"
}

apt() { quiet apt-get -qq -o DPkg::Lock::Timeout=60 -o Acquire::Retries=2 "$@"; }

# updated brings the lists of packages up to date, once, if we may.
updated() {
	[ "$(id -u)" = 0 ] || return 0
	[ -n "$lists" ] || { apt update; lists=1; }
}

get_prometheus() {
	have apt-get && have dpkg-deb || return 1
	updated
	root=$PWD
	(cd "$work" && apt -o APT::Sandbox::User="$(id -un)" download prometheus) || return 1
	quiet dpkg-deb -x "$work"/prometheus_*.deb "$work/x" || return 1
	mkdir -p "$root/$tools" || return 1
	for program in promtool prometheus; do
		mv "$work/x/usr/bin/$program" "$root/$tools/" || return 1
		quiet "$root/$tools/$program" --version || { rm -f "$root/$tools/$program"; return 1; }
	done
}

get_netlab() {
	[ "$(id -u)" = 0 ] && have apt-get || return 1
	updated
	apt install -y --no-install-recommends iproute2 nftables && have ip && have nft
}

# get_package installs a package with a program, of the same name unless it is given.
# None starts a service where there is none to start (RUNLEVEL=1).
get_package() {
	[ "$(id -u)" = 0 ] && have apt-get || return 1
	updated
	apt install -y --no-install-recommends "$1" && have "${2:-$1}"
}

# axe-core is one script, which the npm package has; nothing of it is run here.
get_axe() {
	have npm || return 1 # which would bring hundreds of packages
	root=$PWD
	(cd "$work" && quiet npm pack axe-core@4.14.1 && tar -xzf axe-core-4.14.1.tgz package/axe.min.js) || return 1
	mkdir -p "$root/$tools" && mv "$work/package/axe.min.js" "$root/$tools/"
}

# A Debian of some 100 MB, as an archive, for packages to be installed in.
get_debian() {
	have mmdebstrap || get_package mmdebstrap || return 1
	root=$PWD
	(
		. /etc/os-release
		cd "$work" && quiet mmdebstrap --variant=essential --include=adduser,init-system-helpers \
			--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
			--dpkgopt='path-exclude=/usr/share/man/*' "$VERSION_CODENAME" debian.tar.gz
	) && mkdir -p "$root/$tools" && mv "$work/debian.tar.gz" "$root/$tools/"
}

if [ "$1" = 1 ]; then
	why="could not be got"
else
	why="is not installed (make test INSTALL=1 gets it where it can)"
	get_prometheus() { return 1; }
	get_netlab() { return 1; }
	get_package() { return 1; }
	get_debian() { return 1; }
	get_axe() { return 1; }
fi
{ have promtool && have prometheus; } || get_prometheus ||
	echo "skipping the checks of metrics, alerts and the dashboard: promtool or prometheus, of Debian's package prometheus, $why"
have chromium || have chromium-browser || have google-chrome || get_package chromium ||
	echo "skipping the tests in a browser: Chromium $why"
[ -e "$tools/axe.min.js" ] || get_axe ||
	echo "skipping the check of what shuts people out of the page: axe.min.js, of the npm package axe-core, $why"
have haproxy || get_package haproxy ||
	echo "skipping the tests behind a proxy, and with one that asks for rates: haproxy $why"
have nginx || get_package nginx-light nginx ||
	echo "skipping the tests with a proxy that asks for rates: nginx, of Debian's package nginx-light, $why"
have caddy || get_package caddy ||
	echo "skipping the tests with a proxy that asks for rates: caddy $why"
if [ "$(uname)" = Linux ]; then
	{ have ip && have nft; } || get_netlab ||
		echo "skipping the tests that cut networks: ip or nft, of Debian's packages iproute2 and nftables, $why"
	for shell in zsh fish; do
		have $shell || get_package $shell ||
			echo "skipping the test of completions in $shell: $shell $why"
	done
	have mandoc || get_package mandoc ||
		echo "skipping mandoc's check of the manual pages: mandoc $why"
	have systemd-analyze || get_package systemd systemd-analyze ||
		echo "skipping systemd's check of the units: systemd-analyze, of Debian's package systemd, $why"
	have lintian || get_package lintian ||
		echo "skipping lintian's check of the Debian package: lintian $why"
	have rpm || get_package rpm ||
		echo "skipping the test of the RPM package: rpm $why"
	[ -e "$tools/debian.tar.gz" ] || get_debian ||
		echo "skipping the tests that install packages: $tools/debian.tar.gz, which mmdebstrap makes of Debian's packages, $why"
fi
for language in php-cli:php python3:python3 ruby:ruby nodejs:node; do
	have "${language#*:}" || get_package "${language%:*}" "${language#*:}" ||
		echo "skipping the client for ${language#*:}: ${language%:*} $why"
done
exit 0
