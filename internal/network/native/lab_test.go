package native

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/network/teardown"
)

// lab is a host, an outside and any number of containers, each a network
// namespace of its own: nothing touches the machine's.
type lab struct {
	t       testing.TB
	host    int
	outside int
}

// The outside network: the host is .1, the outside machine .2.
var (
	hostOut4, outside4 = netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("192.0.2.2/24")
	hostOut6, outside6 = netip.MustParsePrefix("2001:db8:ffff::1/64"), netip.MustParsePrefix("2001:db8:ffff::2/64")
)

func newLab(t testing.TB) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	l := &lab{t: t}
	l.host, l.outside = l.netns(), l.netns()
	l.in(l.host, func() error {
		s, err := open(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer s.shut()
		var m message
		m.veth("uplink", 0, l.outside, "net0", nil, 0)
		m.up(1)
		if err := s.must(&m); err != nil {
			return err
		}
		i, err := s.index("uplink")
		if err != nil {
			return err
		}
		m = message{}
		m.address(i, hostOut4)
		m.address(i, hostOut6)
		return s.must(&m)
	})
	l.in(l.outside, func() error {
		s, err := open(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer s.shut()
		i, err := s.index("net0")
		if err != nil {
			return err
		}
		var m message
		m.up(1)
		m.up(i)
		m.address(i, outside4)
		m.address(i, outside6)
		return s.must(&m)
	})
	l.in(l.host, func() error {
		s, err := open(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer s.shut()
		var m message
		m.ask("uplink") // see settle
		return s.must(&m)
	})
	return l
}

// netns makes a network namespace that lives as long as the test.
func (l *lab) netns() int {
	l.t.Helper()
	fd, err := newNetns()
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func newNetns() (int, error) {
	fd, fail := -1, errors.New("thread ended")
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends here
		if fail = unix.Unshare(unix.CLONE_NEWNET); fail == nil {
			fd, fail = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
	}()
	<-done
	return fd, fail
}

// enter runs f on a thread in a network namespace.
func enter(netns int, f func() error) error {
	c := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(netns, unix.CLONE_NEWNET); err != nil {
			c <- err
			return
		}
		c <- f()
	}()
	return <-c
}

func (l *lab) in(netns int, f func() error) {
	l.t.Helper()
	if err := enter(netns, f); err != nil {
		l.t.Fatal(err)
	}
}

// sh runs a command in a namespace and gives its output.
func (l *lab) sh(netns int, args ...string) string {
	l.t.Helper()
	var out []byte
	l.in(netns, func() (err error) {
		c := exec.Command(args[0], args[1:]...)
		out, err = c.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
		}
		return err
	})
	return string(out)
}

func newID() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// bridgeNet is network number i: 10.88.i.0/24 and fd00:88:i::/64 on cove<i>.
func bridgeNet(i int) cove.Network {
	p4 := netip.MustParsePrefix(fmt.Sprintf("10.88.%d.0/24", i))
	p6 := netip.MustParsePrefix(fmt.Sprintf("fd00:88:%x::/64", i))
	name := fmt.Sprintf("net%d", i)
	return cove.Network{
		Name: name, ID: network.ID(name), Driver: "bridge", NetworkInterface: fmt.Sprintf("cove%d", i),
		IPv6Enabled: true, Options: map[string]string{},
		Subnets: []cove.Subnet{
			{Subnet: p4, Gateway: p4.Addr().Next()},
			{Subnet: p6, Gateway: p6.Addr().Next()},
		},
	}
}

// joined is container number k's membership of n.
func joined(n cove.Network, k int, ifname string) network.Membership {
	a := cove.NetworkAttachment{Network: n.Name, Interface: ifname, Link: int(ifname[len(ifname)-1] - '0')}
	for _, s := range n.Subnets {
		ip := s.Gateway
		for range k + 1 {
			ip = ip.Next()
		}
		a.Addresses = append(a.Addresses, netip.PrefixFrom(ip, s.Subnet.Bits()))
		a.Gateways = append(a.Gateways, s.Gateway)
	}
	return network.Membership{Network: n, Attachment: a}
}

// container is a namespace joined to networks.
type container struct {
	network.Request
	teardown teardown.Teardown
}

func (c *container) addr(i int) netip.Addr { return c.Networks[0].Attachment.Addresses[i].Addr() }

func (l *lab) container(ports []cove.PortMapping, ms ...network.Membership) *container {
	l.t.Helper()
	c := &container{Request: network.Request{ContainerID: newID(), Netns: l.netns(), Networks: ms, Ports: ports}}
	l.setup(c)
	return c
}

func (l *lab) setup(c *container) {
	l.t.Helper()
	l.in(l.host, func() (err error) {
		c.teardown, err = Driver{}.Setup(context.Background(), c.Request)
		return err
	})
}

func (l *lab) list() network.Reality {
	l.t.Helper()
	var r network.Reality
	l.in(l.host, func() (err error) {
		r, err = Driver{}.List(context.Background())
		return err
	})
	return r
}

// echo answers on a port with the given name and the client's address, until
// the test ends. Protocol is tcp or udp.
func (l *lab) echo(netns int, protocol string, port uint16, name string) {
	l.t.Helper()
	at := fmt.Sprintf(":%d", port)
	l.in(netns, func() error {
		if protocol == "udp" {
			c, err := net.ListenPacket("udp", at)
			if err != nil {
				return err
			}
			l.t.Cleanup(func() { c.Close() })
			go func() {
				b := make([]byte, 64)
				for {
					_, from, err := c.ReadFrom(b)
					if err != nil {
						return
					}
					c.WriteTo([]byte(name+" "+from.(*net.UDPAddr).AddrPort().Addr().Unmap().String()), from)
				}
			}()
			return nil
		}
		s, err := net.Listen("tcp", at)
		if err != nil {
			return err
		}
		l.t.Cleanup(func() { s.Close() })
		go func() {
			for {
				c, err := s.Accept()
				if err != nil {
					return
				}
				io.WriteString(c, name+" "+c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().String())
				c.Close()
			}
		}()
		return nil
	})
}

// ask gives what the service at an address answers within a second, "" when it does not.
func (l *lab) ask(netns int, protocol, address string) string {
	l.t.Helper()
	var answer string
	err := enter(netns, func() error {
		c, err := net.DialTimeout(protocol, address, time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Second))
		if protocol == "udp" {
			if _, err := c.Write([]byte("?")); err != nil {
				return err
			}
		}
		b := make([]byte, 64)
		n, err := c.Read(b)
		answer = string(b[:n])
		return err
	})
	if err != nil {
		return ""
	}
	return answer
}

// answers fails the test unless the service answers with the name, seen as
// coming from the given address ("" for any). A busy machine is asked again; and the
// kernel joins an IPv6 address's group, by which neighbours find it, in a work queue that
// nobody can wait for.
func (l *lab) answers(netns int, protocol, address, name, from string) {
	l.t.Helper()
	var got string
	for end := time.Now().Add(time.Minute); got == "" && time.Now().Before(end); {
		if got = l.ask(netns, protocol, address); got == "" {
			time.Sleep(10 * time.Millisecond) // a refusal comes at once
		}
	}
	who, seen, _ := strings.Cut(got, " ")
	if who != name || from != "" && seen != from {
		l.t.Errorf("%s %s answered %q, want %s seen from %s", protocol, address, got, name, from)
	}
}

func (l *lab) silent(netns int, protocol, address string) {
	l.t.Helper()
	if got := l.ask(netns, protocol, address); got != "" {
		l.t.Errorf("%s %s answered %q, want nothing", protocol, address, got)
	}
}
