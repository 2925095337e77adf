package client

import (
	"cmp"
	"os"
)

// FromEnv returns the options that environment variables ask for, the same ones
// that the tools of lockd know, so that a program is told in the same way:
//
//	LOCKD_SERVER           Target, or several, unless there is one in the arguments
//	LOCKD_TOKEN_FILE       Token, by TokenFile
//	LOCKD_TLS_CA           TLSFiles.CA
//	LOCKD_CLIENT_CERT      TLSFiles.Cert
//	LOCKD_CLIENT_KEY       TLSFiles.Key
//	LOCKD_TLS_SERVER_NAME  TLSFiles.ServerName
//
// One that is empty counts as not set, and so does an empty target. Of a target
// without TLS a certificate and a key mean nothing; a CA or a server's name with it
// is an error, lest somebody believe in TLS that is not there. A token itself is in
// no variable: too many can read a program's environment. (LOCKD_TLS_CERT and
// LOCKD_TLS_KEY are the server's own.)
func FromEnv(target string) (Options, error) {
	o := Options{Target: cmp.Or(target, os.Getenv("LOCKD_SERVER"))}
	if path := os.Getenv("LOCKD_TOKEN_FILE"); path != "" {
		o.Token = TokenFile(path)
	}
	var err error
	o.TLS, err = TLSFiles{
		CA: os.Getenv("LOCKD_TLS_CA"), ServerName: os.Getenv("LOCKD_TLS_SERVER_NAME"),
		Cert: os.Getenv("LOCKD_CLIENT_CERT"), Key: os.Getenv("LOCKD_CLIENT_KEY"),
	}.For(o.Target)
	if err != nil {
		return Options{}, err
	}
	return o, nil
}
