package netlab

import (
	"fmt"
	"math/rand/v2"
	"runtime"
)

// Nobody is an address that nobody listens at: the kernel gives its port to no one who
// asks for any.
const Nobody = "127.0.0.1:1"

// OwnHost returns an address of loopback that no other test listens at: a port
// that is closed there stays closed, where the kernel soon gives one of 127.0.0.1
// to the next who asks for any. Systems but Linux have 127.0.0.1 alone.
func OwnHost() string {
	if runtime.GOOS != "linux" {
		return "127.0.0.1"
	}
	return fmt.Sprintf("127.%d.%d.%d", 1+rand.N(254), rand.N(256), 1+rand.N(254))
}
