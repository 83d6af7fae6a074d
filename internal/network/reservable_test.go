package network

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// What can never be had is refused before anything is tried.
func TestReservable(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < 7000 {
		t.Skip("needs more descriptors than ", limit.Cur, ": ", err)
	}
	inNewNetns(t, func() {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("60000 60999"), 0o644); err != nil {
			t.Error(err)
		}
		refused := func(p []cove.PortMapping, want string) {
			t.Helper()
			_, files, err := Reserve(p)
			shut(files)
			if !cove.Is(err, cove.Unavailable) || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		}
		refused(mapping("udp", "", 0, 6000), "6000 free udp ports are asked for, and the kernel has 5536 to give")
		half := mapping("tcp", "", 0, 3000)
		refused(append(half, half...), "6000 free tcp ports")
		// Each of another address or protocol.
		_, files, err := Reserve(append(mapping("tcp", "127.0.0.1", 0, 400), mapping("udp", "127.0.0.2", 0, 400)...))
		shut(files)
		if err != nil {
			t.Error(err)
		}
		few := unix.Rlimit{Cur: 100, Max: limit.Max}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
			t.Error(err)
		}
		refused(mapping("tcp", "", 1000, 100), "100 ports take as many descriptors beside those of a start, and 100 may be open (ulimit -n)")
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	})
}
