package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// longestToken is far more than a token needs, and less than any server's line.
const longestToken = 1 << 10

// TokenFile returns an Options.Token that reads the file with that path, anew for
// each connection: so a token may be replaced while programs run. It is the file's
// only line, whose end is dropped with the blanks around. A file that is not there,
// cannot be read, is empty, or holds anything else, such as a key, is an
// ErrNoToken.
//
// A pipe, such as a shell's <(COMMAND), can be read once only. So what it gave is
// kept.
//
// Who else may read the file is not asked: that is up to whoever has made it, and
// containers often have theirs readable for all in there.
func TokenFile(path string) func(context.Context) (string, error) {
	f := &tokenFile{path: path, done: make(chan struct{})}
	return f.token
}

type tokenFile struct {
	path string

	once sync.Once     // reads a pipe
	done chan struct{} // closed when it has
	kept string        // what came of that
	err  error
}

func (f *tokenFile) token(ctx context.Context) (string, error) {
	info, err := os.Stat(f.path)
	switch {
	case err != nil:
		return "", err
	case info.Mode().IsRegular():
		return f.read()
	case info.IsDir():
		return "", fmt.Errorf("%s is a directory", f.path)
	}
	// Opening a pipe waits for somebody who writes, for as long as that takes.
	f.once.Do(func() {
		go func() {
			defer close(f.done)
			f.kept, f.err = f.read()
		}()
	})
	select {
	case <-f.done:
		return f.kept, f.err
	case <-ctx.Done():
		return "", fmt.Errorf("%s: %w", f.path, ctx.Err())
	}
}

func (f *tokenFile) read() (string, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, longestToken+1))
	if err != nil {
		return "", err
	}
	token := string(bytes.TrimSpace(text))
	if err := checkToken(token); err != nil {
		return "", fmt.Errorf("%s %w", f.path, err)
	}
	return token, nil
}

// checkToken refuses what cannot be a token, or would be another request. The
// errors go on with a sentence about where it came from, and never show it.
func checkToken(token string) error {
	switch {
	case token == "":
		return errors.New("is empty")
	case len(token) > longestToken:
		return fmt.Errorf("holds more than a token, over %d bytes", longestToken)
	}
	for i := range len(token) {
		if c := token[i]; c <= ' ' || c == 0x7f {
			return errors.New("holds more than a token, which is a single word")
		}
	}
	return nil
}
