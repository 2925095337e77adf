package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// document has the program write what it knows of itself into a folder: man
// (the manual pages) and completions. The packages and the archives share them.
func (j *job) document(dir string) error {
	man := filepath.Join(dir, "man")
	completions := filepath.Join(dir, "completions")
	for _, d := range []string{man, completions} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if _, err := j.ask("man", man); err != nil {
		return err
	}
	for shell, name := range map[string]string{"bash": "lockd.bash", "zsh": "_lockd", "fish": "lockd.fish"} {
		script, err := j.ask("completion", shell)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(completions, name), script, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// ask runs the program, in no environment that would change what it prints.
func (j *job) ask(args ...string) ([]byte, error) {
	cmd := exec.Command(j.host, args...)
	cmd.Env = []string{"SOURCE_DATE_EPOCH=" + os.Getenv("SOURCE_DATE_EPOCH")}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("lockd %s: %w\n%s", strings.Join(args, " "), err, &stderr)
	}
	return out, nil
}

// zipped compresses as gzip -9n does: no name, no time.
func zipped(text []byte) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	io.Copy(w, bytes.NewReader(text))
	w.Close()
	return b.Bytes()
}
