package main

import (
	"fmt"
	"strings"
)

// glockdFlags are the flags of glockd, and what has their place. It takes them
// with one dash, in which kong would see -p with the value "ort=9999".
var glockdFlags = map[string]string{
	"port":     "-t PORT",
	"ws":       "-w PORT",
	"unix":     "--unix PATH",
	"pidfile":  "-p FILE",
	"dump":     "--disable-dump for -dump=false",
	"registry": "--disable-registry for -registry=false",
	"verbose":  "-v",
	"ssl":      "--tls PORT in place of -t PORT",
	"ssl-cert": "--tls-cert FILE",
	"ssl-key":  "--tls-key FILE",
	"ssl-ca":   "--tls-client-ca FILE",
}

// checkGlockdFlags tells of a flag of glockd in the arguments of the server.
func checkGlockdFlags(args []string) error {
	if len(args) > 0 && args[0] == "serve" {
		args = args[1:]
	} else if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		return nil // another command
	}
	for _, arg := range args {
		name, _, _ := strings.Cut(arg, "=")
		if instead, ok := glockdFlags[strings.TrimPrefix(name, "-")]; ok && strings.HasPrefix(name, "-") {
			return fmt.Errorf("%s is a flag of glockd; here it is %s", name, instead)
		}
	}
	return nil
}
