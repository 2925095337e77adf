package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"time"
)

// DefaultTarget is where a lockd server listens that was started without flags.
const DefaultTarget = "tcp://127.0.0.1:9999"

const (
	defaultConnectTimeout = 5 * time.Second
	defaultReadTimeout    = 30 * time.Second

	// glockd reads a line into a buffer of 4096 bytes, its newline included,
	// and takes what does not fit for the next request.
	defaultMaxLine = 4095

	// No more than an eighth of the address space: it is copied as it grows.
	defaultMaxReply = min(1<<30, math.MaxInt>>3+1)
)

// Options say how to reach a server. The zero value connects to DefaultTarget
// with default timeouts.
type Options struct {
	// Target is where the server listens: tcp://HOST:PORT, tls://HOST:PORT,
	// unix:///PATH, ws://HOST:PORT/PATH or, within TLS, wss://HOST:PORT/PATH.
	// HOST:PORT alone means tcp, and a PORT alone means tcp on localhost. Empty
	// means DefaultTarget, or, with Dial, whatever Dial gives. A path from the
	// working directory is unix://./PATH.
	//
	// It may be several, with commas between: tcp://a:9999,b:9999,c:9999. Then whichever
	// answers is connected to, in a random order; HOST:PORT has the scheme of the one before
	// it. All of them have to be ways to the same locks: nodes of a cluster, or proxies of
	// one server. Servers that know nothing of each other would each grant the same lock.
	Target string

	// TLS is for tls:// and wss:// targets: who is trusted (RootCAs), the client's
	// own certificate (Certificates, or GetClientCertificate to have it replaced
	// while the program runs), the name that the server's certificate has to have
	// (ServerName; empty means HOST of the target). Nil means the authorities that
	// the system trusts, and no certificate. TLS is 1.2 at least, unless it says
	// otherwise. TLSFiles makes one of files. It is not to be changed any more.
	//
	// With another target it is an error, lest somebody believe in TLS that is
	// not there.
	TLS *tls.Config

	// Token gives the token by which the server knows who this is, for each
	// connection anew: TokenFile reads it from a file. It is presented before
	// anything else is said. Nil means that there is none. It has to give up when
	// ctx ends, and a Locker may call it from several goroutines at once. Without
	// TLS whoever can listen to the network learns the token.
	Token func(ctx context.Context) (string, error)

	// Dial, if set, makes the connection in place of this package, say to a
	// server inside the same program or through a tunnel; there is one Target then. The connection need not
	// hold anything: the ends of a net.Pipe will do. Dial has to give up when
	// ctx ends, and a Locker may call it from several goroutines at once. If
	// Target is within TLS, that is spoken over the connection; if it is a ws://
	// or wss:// address, the WebSocket handshake is made; else it carries lines.
	Dial func(ctx context.Context) (net.Conn, error)

	// Name is what the server shows to those who ask who holds a lock, and who
	// waits for one; it is registered right after connecting. Several clients may
	// have the same. A server that is told to register nobody is no failure. It
	// is a name as those of locks are, of at most 255 bytes. Empty means none; a
	// Locker then takes ProcessName(), unless it is to be Anonymous.
	Name string

	// ConnectTimeout bounds connecting, the handshakes of TLS and WebSocket and
	// the presentation of a token included.
	// Zero means 5 seconds, a negative value no bound.
	ConnectTimeout time.Duration

	// ReadTimeout is how long the server may take to reply, and between two
	// lines of a long reply. When it passes, the connection is given up and
	// all locks are lost, because a late reply would be taken for the next
	// one's; what came while the process was stopped is read first. A client
	// that holds locks has less time if the server frees them earlier, and needs
	// no request of its own under way, see Client.Lost. Zero means 30 seconds, a
	// negative value no bound.
	//
	// To bound how long a caller waits without losing the connection, use a
	// context.
	ReadTimeout time.Duration

	// MaxLine is the longest request line to send, in bytes, without its
	// newline; a longer one is refused with ErrLineTooLong. Zero means 4095,
	// which every server takes. Raise it only for servers with a higher limit:
	// glockd would carry out the rest of a longer line as another request.
	MaxLine int

	// MaxReply is the longest reply of many lines to take, in bytes: the lists
	// of DumpAll, DumpAllShared, Clients and their like, and Stats. Of List,
	// whose entries are passed on as they come, it is how much may have come
	// that was not passed on. When it is exceeded, the connection is given up
	// because of ErrReplyTooLong; but not that of a Locker's locks. What is made
	// of a list may take several times its length. Zero means 1 GiB, room for 16
	// million locks with lines of 64 bytes, and 256 MiB on 32-bit systems.
	MaxReply int

	markAfter time.Duration // how long a server may be silent before it is asked whether it is too old
}

// Validate returns the error that New would return for these options, without
// asking the network.
func (o Options) Validate() error {
	_, _, err := o.withDefaults()
	return err
}

// withDefaults returns the options with every default filled in, and the
// targets that they mean.
func (o Options) withDefaults() (Options, targets, error) {
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = defaultConnectTimeout
	}
	if o.ReadTimeout == 0 {
		o.ReadTimeout = defaultReadTimeout
	}
	if o.markAfter == 0 {
		o.markAfter = markAfter
	}
	name, err := fold(o.Name)
	switch {
	case err != nil:
		return o, nil, errors.New("lockd: Options.Name contains a line break")
	case len(name) > maxName:
		return o, nil, fmt.Errorf("lockd: Options.Name is longer than %d bytes", maxName)
	}
	o.Name = name
	switch {
	case o.MaxLine == 0:
		o.MaxLine = defaultMaxLine
	case o.MaxLine < 0:
		return o, nil, errors.New("lockd: Options.MaxLine is negative")
	}
	switch {
	case o.MaxReply == 0:
		o.MaxReply = defaultMaxReply
	case o.MaxReply < 0:
		return o, nil, errors.New("lockd: Options.MaxReply is negative")
	}
	if o.Target == "" {
		if o.Dial != nil && o.TLS == nil {
			return o, targets{{}}, nil
		}
		o.Target = DefaultTarget
	}
	all, err := parseTargets(o.Target)
	if err != nil {
		return o, nil, err
	}
	if len(all) > 1 && o.Dial != nil {
		return o, nil, errOneDial
	}
	for i, to := range all {
		if o.TLS != nil && !to.secure {
			return o, nil, fmt.Errorf("lockd: target %q: Options.TLS needs tls:// or wss://", splitTargets(o.Target)[i])
		}
	}
	return o, all, nil
}
