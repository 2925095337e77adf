package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"
)

// A disturbance is what a client that takes much does to a server. setup is
// what it needs beforehand.
type disturbance struct {
	label string
	setup func(d *disturber) error
	do    func(d *disturber) error
}

const (
	million        = 1_000_000
	disturbingTime = 2 * time.Second // of what has no end of its own
)

var disturbances = []disturbance{
	{"nothing", nil, func(d *disturber) error { time.Sleep(disturbingTime); return nil }},
	{"20 clients send requests without end and read nothing", nil, (*disturber).deaf},
	{"one sends a line of 1 GB", nil, (*disturber).longLine},
	{"5,000 connect and do nothing", nil, func(d *disturber) error { return d.connect(5000) }},
	{"500 take locks and reset their connections", nil, (*disturber).resets},
	{"one asks for `q` without end", nil, func(d *disturber) error { return d.flood("q\n") }},
	{"one takes a million locks", nil, func(d *disturber) error { return d.take(million) }},
	{"`d` of a million locks", (*disturber).takeAll, func(d *disturber) error { return d.list("d\n") }},
	{"`dump` of a million locks", (*disturber).takeAll, func(d *disturber) error { return d.list("dump\n") }},
	{"the holder of a million locks goes", (*disturber).takeAll, (*disturber).orphan},
}

// disturber is the process that disturbs the server at addr. It is one of its
// own, so that it can have a core of its own.
type disturber struct {
	addr  string
	conns []net.Conn
}

// disturb is what the process does: it says so when it is set up and when it
// is through, and each time goes on when there is a line to read.
func disturb(number int, addr string) error {
	what := disturbances[number]
	d := &disturber{addr: addr}
	in := bufio.NewReader(os.Stdin)
	step := func(do func(*disturber) error) error {
		if do != nil {
			if err := do(d); err != nil {
				return err
			}
		}
		fmt.Println("done")
		_, err := in.ReadString('\n')
		return err
	}
	if err := step(what.setup); err != nil {
		return err
	}
	if err := step(what.do); err != io.EOF {
		return err
	}
	return nil
}

func (d *disturber) dial() (net.Conn, error) {
	c, err := net.Dial("tcp", d.addr)
	if err == nil {
		d.conns = append(d.conns, c)
	}
	return c, err
}

func (d *disturber) connect(n int) error {
	for range n {
		if _, err := d.dial(); err != nil {
			return err
		}
	}
	return nil
}

// deaf sends requests on 20 connections for as long as the server takes them.
func (d *disturber) deaf() error {
	requests := bytes.Repeat([]byte("i some name\n"), 1000)
	until := time.Now().Add(disturbingTime)
	ended := make(chan error)
	for range 20 {
		c, err := d.dial()
		if err != nil {
			return err
		}
		c.SetDeadline(until)
		go func() {
			for {
				if _, err := c.Write(requests); err != nil {
					ended <- err
					return
				}
			}
		}()
	}
	for range 20 {
		if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return nil
}

func (d *disturber) longLine() error {
	c, err := d.dial()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(c, "g "); err != nil {
		return err
	}
	part := bytes.Repeat([]byte("x"), 1<<20)
	for range 1 << 10 {
		if _, err := c.Write(part); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(c, "\n"); err != nil {
		return err
	}
	_, err = read(c, "\n")
	return err
}

// resets takes ten locks on each of 500 connections and resets them all.
func (d *disturber) resets() error {
	if err := d.connect(500); err != nil {
		return err
	}
	for i, c := range d.conns {
		var requests []byte
		for j := range 10 {
			requests = fmt.Appendf(requests, "g lock %d of %d\n", j, i)
		}
		if _, err := c.Write(requests); err != nil {
			return err
		}
	}
	for _, c := range d.conns {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	return nil
}

// flood asks the same again and again, as fast as the replies are read.
func (d *disturber) flood(request string) error {
	c, err := d.dial()
	if err != nil {
		return err
	}
	go io.Copy(io.Discard, c)
	requests := bytes.Repeat([]byte(request), 1000)
	c.SetWriteDeadline(time.Now().Add(disturbingTime))
	for err == nil {
		_, err = c.Write(requests)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// take takes n locks on one connection.
func (d *disturber) take(n int) error {
	c, err := d.dial()
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() {
		w := bufio.NewWriterSize(c, 64<<10)
		for i := range n {
			w.WriteString("g lock/")
			w.WriteString(strconv.Itoa(i))
			w.WriteByte('\n')
		}
		failed <- w.Flush()
	}()
	if _, err := read(c, fmt.Sprintf(": lock/%d\n", n-1)); err != nil {
		return err
	}
	return <-failed
}

func (d *disturber) takeAll() error { return d.take(million) }

// list asks for a list of locks and reads it.
func (d *disturber) list(request string) error {
	_, err := ask(d.conns[0], request)
	return err
}

// orphan ends the connection that holds all locks, and waits until they are
// free.
func (d *disturber) orphan() error {
	d.conns[0].Close()
	c, err := d.dial()
	if err != nil {
		return err
	}
	for {
		reply, err := ask(c, "q\n")
		if err != nil || bytes.Contains(reply, []byte("\nlocks: 0\n")) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// ask sends a request whose reply has many lines, and one more to see where
// they end. It returns the last ones.
func ask(c net.Conn, request string) ([]byte, error) {
	if _, err := io.WriteString(c, request+"i end of list\n"); err != nil {
		return nil, err
	}
	return read(c, "0 Lock Not Locked: end of list\n")
}

// read reads until a reply that ends in end, and returns the last ones.
func read(c net.Conn, end string) ([]byte, error) {
	const kept = 4 << 10
	buf := make([]byte, 64<<10)
	var last []byte
	for !bytes.HasSuffix(last, []byte(end)) {
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		last = append(last, buf[:n]...)
		last = append(last[:0], last[max(0, len(last)-kept):]...)
	}
	return last, nil
}
