package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/nylen/lockd/internal/load"
)

// A disturbance is what a client that takes much does to a server. setup is
// what it needs beforehand.
type disturbance struct {
	label string
	setup func(d *disturber) error
	do    func(d *disturber) error
	most  int // connections that the server admits, if not what it can
}

const (
	million        = 1_000_000
	disturbingTime = 2 * time.Second // of what has no end of its own
	atOnce         = 5000
	regulars       = 100 // who have taken all but the bystanders' connections
)

var disturbances = []disturbance{
	{label: "nothing", do: func(d *disturber) error { time.Sleep(disturbingTime); return nil }},
	{label: "20 clients send requests without end and read nothing", do: (*disturber).deaf},
	{label: "one sends a line of 1 GB", do: (*disturber).longLine},
	{label: "5,000 connect and do nothing", do: func(d *disturber) error { return d.connect(atOnce) }},
	{label: "5,000 connect at once, for a lock each", do: func(d *disturber) error { return d.storm(load.Options{Connections: atOnce, Requests: atOnce}) }},
	{label: "500 at a time connect for a lock, without end", do: func(d *disturber) error { return d.storm(load.Options{Connections: 500, Duration: disturbingTime}) }},
	{
		label: "5,000 connect at once to a server that is full",
		setup: func(d *disturber) error { return d.connect(regulars) },
		do:    func(d *disturber) error { return d.storm(load.Options{Connections: atOnce, Requests: atOnce}) },
		most:  regulars + bystanderConnections,
	},
	{
		label: "500 at a time connect to a server that is full, without end",
		setup: func(d *disturber) error { return d.connect(regulars) },
		do:    func(d *disturber) error { return d.storm(load.Options{Connections: 500, Duration: disturbingTime}) },
		most:  regulars + bystanderConnections,
	},
	{label: "500 take locks and reset their connections", do: (*disturber).resets},
	{label: "one asks for `q` without end", do: func(d *disturber) error { return d.flood("q\n") }},
	{label: "one takes a million locks", do: func(d *disturber) error { return d.take(million) }},
	{label: "`d` of a million locks", setup: (*disturber).takeAll, do: func(d *disturber) error { return d.list("d\n") }},
	{label: "`dump` of a million locks", setup: (*disturber).takeAll, do: func(d *disturber) error { return d.list("dump\n") }},
	{label: "the holder of a million locks goes", setup: (*disturber).takeAll, do: (*disturber).orphan},
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

// storm makes short connections. Some are served and some refused, and those
// that the server ends without a word count as refused.
func (d *disturber) storm(o load.Options) error {
	o.Target, o.Short, o.Names, o.Threads = d.addr, true, load.New, 1
	_, err := load.Run(context.Background(), o)
	return err
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
// free, but for those of the clients that are disturbed.
func (d *disturber) orphan() error {
	d.conns[0].Close()
	c, err := d.dial()
	if err != nil {
		return err
	}
	for {
		reply, err := ask(c, "q\n")
		if err != nil {
			return err
		}
		_, after, _ := bytes.Cut(reply, []byte("\nlocks: "))
		count, _, _ := bytes.Cut(after, []byte("\n"))
		if held, err := strconv.Atoi(string(count)); err != nil || held <= bystanderConnections {
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
