package conn

import (
	"io"
	"testing"
	"time"
)

// takesAll takes a reply, to the line that has no - in front.
type takesAll struct{ got string }

func (r *takesAll) Take(part []byte) bool {
	r.got += string(part)
	return part[0] == '-'
}

func (*takesAll) Fail() {}

// A list is not waited for without end where upstream says nothing any more.
func TestRelayOfSilence(t *testing.T) {
	here, there := Pipe()
	defer here.Close()
	defer there.Close()
	io.WriteString(there, "2 lockd test\n0 - a\n")
	var to takesAll
	if takeReply(here, 1, &to, 50*time.Millisecond) {
		t.Error("it is whole")
	}
	io.WriteString(there, "2 lockd test\n0 1 End\n")
	if !takeReply(here, 1, &to, time.Minute) || to.got != "- a\n1 End\n" {
		t.Errorf("got %q", to.got)
	}
}
