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
	"time"
)

// A witness sees who holds a lock, and does not ask the server: whoever was granted
// one locks a file, which the kernel gives to one at a time and takes from a process
// that is killed. The file has the last fencing token.
//
// But in no order that one could count on: the server may see the connection of a
// killed process end before the kernel has taken its files. So dying tells when
// there is such a process, and then whoever is granted a lock waits for its file.
type witness struct {
	name  string
	dying string     // is there while a process is being killed
	files []*os.File // as many as may hold it
	held  int        // which of them is ours; -1: none
}

func newWitness(dir, name string, limit int) (*witness, error) {
	w := &witness{name: name, dying: filepath.Join(dir, dying), held: -1}
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

// dying is the name of the file that is there from before a process is killed until
// it is gone.
const dying = "dying"

// enter notes that the lock is held, with a token if it is exclusive.
func (w *witness) enter(token uint64) error {
	for {
		_, err := os.Stat(w.dying) // before the try: what is gone by now has left no lock
		last := err != nil
		got, err := w.try()
		switch {
		case err != nil:
			return err
		case got:
			return w.follow(token)
		case last:
			return breach{fmt.Errorf("%s was granted, and %d others hold it", w.name, len(w.files))}
		}
		time.Sleep(time.Millisecond)
	}
}

// try locks a file that nobody else has locked.
func (w *witness) try() (bool, error) {
	for i, f := range w.files {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return false, err
		}
		w.held = i
		return true, nil
	}
	return false, nil
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
