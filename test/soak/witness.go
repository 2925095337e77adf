//go:build unix

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A witness sees who holds a lock, and does not ask the server: whoever was granted
// one locks a file, which the kernel gives to one at a time and takes from a process
// that is killed. The file has the last fencing token.
//
// An actor has its witnesses before it connects: the kernel closes the files of a
// process that ends in their order, so it does not hold them any more when the
// server sees the connection end.
type witness struct {
	name  string
	files []*os.File // as many as may hold it
	held  int        // which of them is ours; -1: none
}

func newWitness(dir, name string, limit int) (*witness, error) {
	w := &witness{name: name, held: -1}
	for i := range limit {
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("%s.%d", filepath.Base(name), i)), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		w.files = append(w.files, f)
	}
	return w, nil
}

// A breach is what a lock server must never let happen.
type breach struct{ error }

// enter notes that the lock is held, with a token if it is exclusive.
func (w *witness) enter(token uint64) error {
	for i, f := range w.files {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		w.held = i
		return w.follow(token)
	}
	return breach{fmt.Errorf("%s was granted, and %d others hold it", w.name, len(w.files))}
}

// follow checks that the token is the largest so far.
func (w *witness) follow(token uint64) error {
	if token == 0 {
		return nil
	}
	f := w.files[w.held]
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0)
	last, _ := strconv.ParseUint(strings.TrimSpace(string(b[:n])), 10, 64)
	if token <= last {
		return breach{fmt.Errorf("%s was granted with the token %d after %d", w.name, token, last)}
	}
	_, err := fmt.Fprintf(f, "%20d\n", token)
	if err == nil {
		_, err = f.Seek(0, 0)
	}
	return err
}

// leave comes before whatever lets the lock go.
func (w *witness) leave() {
	if w.held >= 0 {
		syscall.Flock(int(w.files[w.held].Fd()), syscall.LOCK_UN)
		w.held = -1
	}
}

func (w *witness) close() {
	for _, f := range w.files {
		f.Close()
	}
}
