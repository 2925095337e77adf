//go:build linux

package main

import (
	"bufio"
	"fmt"
	"net"
	"sync"
	"time"
)

// A fence is a store as fencing tokens are for: it accepts a write of a lock's holder
// unless it has accepted one with a greater token before. It is a file, so that all
// machines reach it whatever becomes of their cables.
type fence struct {
	l  net.Listener
	mu sync.Mutex // guards what follows
	is map[string]uint64

	accepted, refused int
}

func newFence(path string) (*fence, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	f := &fence{l: l, is: map[string]uint64{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f.serve(c)
		}
	}()
	return f, nil
}

func (f *fence) serve(c net.Conn) {
	defer c.Close()
	for in := bufio.NewReader(c); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		token, name := split(line)
		fmt.Fprintf(c, "%d\n", f.write(name, token))
	}
}

// write returns the greatest token that was there before.
func (f *fence) write(name string, token uint64) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.is[name]
	if was > token {
		f.refused++
		return was
	}
	f.accepted++
	f.is[name] = token
	return was
}

func (f *fence) close() { f.l.Close() }

// A fenced is a client of the store.
type fenced struct {
	path string
	mu   sync.Mutex // guards what follows
	conn net.Conn
	in   *bufio.Reader
}

// write writes under a lock's token, and returns the one that stood against it; 0: none.
func (f *fenced) write(name string, token uint64) (against uint64, err error) {
	if f.path == "" || token == 0 {
		return 0, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn == nil {
		if f.conn, err = net.DialTimeout("unix", f.path, time.Second); err != nil {
			return 0, err
		}
		f.in = bufio.NewReader(f.conn)
	}
	fmt.Fprintf(f.conn, "%d %s\n", token, name)
	line, err := f.in.ReadString('\n')
	if err != nil {
		f.conn.Close()
		f.conn = nil
		return 0, err
	}
	if was, _ := split(line); was > token {
		return was, nil
	}
	return 0, nil
}
