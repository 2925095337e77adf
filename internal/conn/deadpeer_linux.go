package conn

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// hear asks the kernel about a TCP connection.
func hear(fd int) (h heard, ok bool) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return heard{}, false
	}
	// Either is younger when the other side has sent no data, or data alone.
	ago := min(info.Last_ack_recv, info.Last_data_recv)
	return heard{
		ago: time.Duration(ago) * time.Millisecond,
		// A closed window is asked about by probes, which are counted until one is
		// answered. So is keep-alive. Retransmissions are counted until one is
		// confirmed, also those that found no way out. A client that does not read
		// answers them and confirms nothing; so they count only where they come often
		// enough to be told from that by the time of the answer.
		unanswered: info.Probes > 0 || info.Unacked > 0 &&
			(info.Last_data_sent < ago || info.Retransmits > 0 && retriesBounded()),
		pending: info.Probes > 0 || info.Unacked > 0 || info.Notsent_bytes > 0,
	}, true
}

// boundRetries bounds the pause between retransmissions, and between probes of a
// closed window, which grows to two minutes otherwise: a client that does not read
// would be asked too seldom. Linux before 6.15 does not know the option, and asks
// as seldom as that.
func boundRetries(fd int, h time.Duration) {
	most := min(max(h/4, time.Second), 120*time.Second)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS, int(most/time.Millisecond))
}

// retriesBounded tells whether the kernel knows that option.
var retriesBounded = sync.OnceValue(func() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	_, err = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS)
	return err == nil
})
