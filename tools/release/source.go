package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A source is what is released.
type source struct {
	version  string // that the program tells of itself
	revision string // the commit
	date     time.Time
}

// identify finds out what is released. To ask the program itself, and for what
// it tells of its command line, it is built for this machine first.
func (j *job) identify() error {
	if err := j.date(); err != nil {
		return err
	}
	if err := j.build(here, j.host); err != nil {
		return err
	}
	out, err := exec.Command(j.host, "version").Output()
	if err != nil {
		return err
	}
	m := regexp.MustCompile(`^lockd (\d+\.\d+\.\d+) \(go\S+, revision (\S+)\)\n$`).FindSubmatch(out)
	if m == nil {
		return fmt.Errorf("lockd version prints %q", out)
	}
	j.source.version = string(m[1])
	fmt.Printf("lockd %s, revision %s, of %s\n", m[1], m[2], j.source.date.Format(time.RFC3339))
	return nil
}

// date asks git for the commit and its time. SOURCE_DATE_EPOCH, as in
// https://reproducible-builds.org, comes first.
func (j *job) date() error {
	j.source.revision = j.revision
	seconds := os.Getenv("SOURCE_DATE_EPOCH")
	if _, err := os.Stat(filepath.Join(j.root, ".git")); err == nil {
		if j.source.revision == "" {
			commit, err := git(j.root, "rev-parse", "HEAD")
			if err != nil {
				return err
			}
			changed, err := git(j.root, "status", "--porcelain", "--untracked-files=no")
			if err != nil {
				return err
			}
			if j.source.revision = commit; changed != "" {
				j.source.revision += "+dirty"
			}
		}
		if seconds == "" {
			var err error
			if seconds, err = git(j.root, "log", "-1", "--format=%ct"); err != nil {
				return err
			}
		}
	}
	if seconds == "" {
		return errors.New("there is no git here to tell when this source was made: set SOURCE_DATE_EPOCH")
	}
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH is no number of seconds: %q", seconds)
	}
	j.source.date = time.Unix(n, 0).UTC()
	return os.Setenv("SOURCE_DATE_EPOCH", seconds) // nfpm's time, and that of lockd man
}

func git(root string, args ...string) (string, error) {
	out, err := exec.Command("git", append([]string{"-C", root}, args...)...).Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}

// build builds the program for a target, in the same bytes anywhere. The
// commit, which Go would tell, too, is set so that it is there without git.
func (j *job) build(t target, binary string) error {
	ldflags := "-s -w"
	if j.source.revision != "" {
		ldflags += " -X github.com/nylen/lockd/pkg/server.archived=" + j.source.revision
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o", binary, "./cmd/lockd")
	cmd.Dir = j.root
	cmd.Env = append(os.Environ(), "GOOS="+t.system, "GOARCH="+t.processor, "CGO_ENABLED=0",
		"GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}
