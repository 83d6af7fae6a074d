package network

import (
	"io"
	"net"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// inNewNetns runs the test's body in a network namespace of its own.
func inNewNetns(t *testing.T, f func()) {
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(fd)
		lo, _ := unix.NewIfreq("lo")
		lo.SetUint16(unix.IFF_UP)
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}

func shut(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func mapping(proto, host string, port, count uint16) []cove.PortMapping {
	return []cove.PortMapping{{Protocol: proto, HostIP: host, HostPort: port, ContainerPort: 80, Range: count}}
}

func TestReserve(t *testing.T) {
	inNewNetns(t, func() {
		refused := func(what string, p []cove.PortMapping, text string) {
			t.Helper()
			_, fs, err := Reserve(p)
			if err == nil {
				shut(fs)
				t.Errorf("%s: no conflict", what)
				return
			}
			if cove.KindOf(err) != cove.Unavailable || !strings.Contains(err.Error(), text) || !strings.HasSuffix(err.Error(), "address already in use") {
				t.Errorf("%s: %v", what, err)
			}
		}
		free := func(what string, p []cove.PortMapping) ([]cove.PortMapping, []*os.File) {
			t.Helper()
			q, fs, err := Reserve(p)
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
			return q, fs
		}
		for _, proto := range []string{"tcp", "udp"} {
			_, fs := free("first", mapping(proto, "", 8000, 3))
			refused("another container", mapping(proto, "", 8002, 1), "0.0.0.0:8002/"+proto)
			refused("another on one address", mapping(proto, "127.0.0.1", 8001, 1), "127.0.0.1:8001/"+proto)
			refused("another by IPv6", mapping(proto, "::", 8001, 1), "[::]:8001/"+proto)
			refused("the end of a range", mapping(proto, "", 7998, 3), "0.0.0.0:8000/"+proto)
			_, none := free("a refused range holds nothing", mapping(proto, "", 7998, 2))
			shut(none)
			shut(fs)
			_, fs = free("after closing", mapping(proto, "", 8000, 3))
			shut(fs)
			_, a := free("one address", mapping(proto, "127.0.0.1", 8000, 1))
			_, b := free("another address", mapping(proto, "127.0.0.2", 8000, 1))
			shut(a)
			shut(b)
		}
		// Other programs: Go's listeners set SO_REUSEADDR.
		s, err := net.Listen("tcp", "127.0.0.1:9000")
		if err != nil {
			t.Fatal(err)
		}
		refused("a listener", mapping("tcp", "", 9000, 1), "0.0.0.0:9000/tcp")
		// What a stopped server leaves in TIME_WAIT is none.
		c, err := net.Dial("tcp", "127.0.0.1:9000")
		if err != nil {
			t.Fatal(err)
		}
		in, err := s.Accept()
		if err != nil {
			t.Fatal(err)
		}
		in.Close() // first: the server's side waits
		io.ReadAll(c)
		c.Close()
		s.Close()
		timeWait := regexp.MustCompile(`(?m)^ *\d+: 0100007F:2328 \S+ 06 `) // 127.0.0.1:9000
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
			text, _ := os.ReadFile("/proc/thread-self/net/tcp")
			if timeWait.Match(text) {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("the test has no connection in TIME_WAIT: %s", text)
			}
		}
		_, fs := free("a stopped server", mapping("tcp", "", 9000, 1))
		if l, err := net.Listen("tcp", "127.0.0.1:9000"); err == nil {
			l.Close()
			t.Error("a server could take the reserved port")
		}
		if c, err := net.Dial("tcp", "127.0.0.1:9000"); err == nil {
			c.Close()
			t.Error("the reservation takes connections")
		}
		shut(fs)

		q, fs := free("free ports", append(mapping("tcp", "", 0, 1), mapping("udp", "127.0.0.1", 0, 20)...))
		if len(fs) != 21 || q[0].HostPort == 0 || q[1].HostPort == 0 {
			t.Errorf("%d sockets for %+v", len(fs), q)
		}
		refused("a chosen port", mapping("tcp", "", q[0].HostPort, 1), strconv.Itoa(int(q[0].HostPort)))
		refused("a chosen port", mapping("udp", "", q[1].HostPort+19, 1), strconv.Itoa(int(q[1].HostPort)+19))
		shut(fs)
		if _, _, err := Reserve(mapping("tcp", "192.0.2.77", 80, 1)); !cove.Is(err, cove.Unavailable) || !strings.Contains(err.Error(), "192.0.2.77:80/tcp") {
			t.Errorf("an address of another host: %v", err)
		}
	})
}
