#!/bin/sh
# Runs every fuzz target for some time each: tools/fuzz.sh 10s
set -e
cd "$(dirname "$0")/.."
for package in $(go list ./...); do
	for target in $(go test -timeout 5m -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		echo "fuzzing $target in $package for $1"
		go test -timeout 10m -run '^$' -fuzz "^$target\$" -fuzztime "$1" "$package"
	done
done
