package native

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/network/teardown"
)

func at(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }

func TestAttach(t *testing.T) {
	l := newLab(t)
	n := bridgeNet(0)
	a := l.container(nil, joined(n, 0, "eth0"))
	b := l.container(nil, joined(n, 1, "eth0"))
	l.echo(b.Netns, "tcp", 80, "b")
	l.echo(b.Netns, "udp", 80, "b")
	l.echo(l.outside, "tcp", 80, "outside")
	for i := range 2 {
		for _, p := range []string{"tcp", "udp"} {
			l.answers(a.Netns, p, at(b.addr(i), 80), "b", a.addr(i).String())
			l.answers(l.host, p, at(b.addr(i), 80), "b", n.Subnets[i].Gateway.String())
		}
	}
	l.answers(a.Netns, "tcp", at(outside4.Addr(), 80), "outside", hostOut4.Addr().String())
	l.answers(a.Netns, "tcp", at(outside6.Addr(), 80), "outside", hostOut6.Addr().String())
	if !a.teardown.Empty() {
		t.Errorf("teardown without ports: %v", a.teardown)
	}
	r := l.list()
	if len(r.Links) != 2 || len(r.Bridges) != 1 || len(r.Elements) != 0 || r.Bridges[0].NetworkID != n.ID || !r.Bridges[0].Used {
		t.Errorf("reality %+v", r)
	}
}

func TestPublish(t *testing.T) {
	l := newLab(t)
	n := bridgeNet(0)
	a := l.container(nil, joined(n, 0, "eth0"))
	web := l.container([]cove.PortMapping{
		{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"},
		{HostPort: 8080, ContainerPort: 80, Protocol: "udp"},
		{HostPort: 9000, ContainerPort: 81, Range: 20, Protocol: "tcp"},
		{HostPort: 9100, ContainerPort: 80, Protocol: "tcp", HostIP: "127.0.0.1"},
		{HostPort: 9200, ContainerPort: 80, Protocol: "tcp", HostIP: hostOut4.Addr().String()},
		{HostPort: 9300, ContainerPort: 80, Protocol: "tcp", HostIP: hostOut6.Addr().String()},
		{HostPort: 9400, ContainerPort: 80, Protocol: "tcp", HostIP: "0.0.0.0"},
		{HostPort: 9500, ContainerPort: 80, Protocol: "tcp", HostIP: "::"},
		{HostPort: 9600, ContainerPort: 80, Protocol: "sctp"},
	}, joined(n, 1, "eth0"))
	l.echo(web.Netns, "tcp", 80, "web")
	l.echo(web.Netns, "udp", 80, "web")
	l.echo(web.Netns, "tcp", 81, "first")
	l.echo(web.Netns, "tcp", 100, "last")

	h4, h6, lo4, lo6 := hostOut4.Addr(), hostOut6.Addr(), netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()
	gw4, gw6 := n.Subnets[0].Gateway, n.Subnets[1].Gateway
	o4, o6 := outside4.Addr().String(), outside6.Addr().String()
	for _, c := range []struct {
		netns    int
		protocol string
		to       netip.Addr
		port     uint16
		name     string // "" expects no answer
		from     string
	}{
		{l.outside, "tcp", h4, 8080, "web", o4},
		{l.outside, "tcp", h6, 8080, "web", o6},
		{l.outside, "udp", h4, 8080, "web", o4},
		{l.outside, "udp", h6, 8080, "web", o6},
		{l.outside, "tcp", h4, 9000, "first", o4},
		{l.outside, "tcp", h6, 9019, "last", o6},
		{l.outside, "tcp", h4, 9020, "", ""},
		{l.outside, "tcp", h4, 9100, "", ""},
		{l.outside, "tcp", h4, 9200, "web", o4},
		{l.outside, "tcp", h6, 9200, "", ""},
		{l.outside, "tcp", h6, 9300, "web", o6},
		{l.outside, "tcp", h4, 9300, "", ""},
		{l.outside, "tcp", h4, 9400, "web", o4},
		{l.outside, "tcp", h6, 9400, "", ""},
		{l.outside, "tcp", h4, 9500, "", ""},
		{l.outside, "tcp", h6, 9500, "web", o6},
		// The host itself, by loopback and by its other addresses.
		{l.host, "tcp", lo4, 8080, "web", gw4.String()},
		{l.host, "udp", lo4, 8080, "web", gw4.String()},
		{l.host, "tcp", lo4, 9100, "web", gw4.String()},
		{l.host, "tcp", lo6, 8080, "", ""},
		{l.host, "tcp", h4, 8080, "web", ""},
		{l.host, "tcp", h6, 8080, "web", ""},
		{l.host, "tcp", h4, 9100, "", ""},
		// A neighbour, by the host's address and by the gateway's.
		{a.Netns, "tcp", h4, 8080, "web", ""},
		{a.Netns, "tcp", h6, 8080, "web", ""},
		{a.Netns, "udp", gw4, 8080, "web", ""},
		{a.Netns, "tcp", gw6, 8080, "web", ""},
		// The container itself.
		{web.Netns, "tcp", h4, 8080, "web", ""},
		{web.Netns, "tcp", gw6, 8080, "web", ""},
	} {
		if c.name == "" {
			l.silent(c.netns, c.protocol, at(c.to, c.port))
		} else {
			l.answers(c.netns, c.protocol, at(c.to, c.port), c.name, c.from)
		}
	}

	want := 2*2 + 2*20 + 3 + 1 + 1 + 2
	if r := l.list(); len(r.Elements) != want {
		t.Errorf("%d elements, want %d: %v", len(r.Elements), want, r.Elements)
	} else {
		for _, e := range r.Elements {
			if e.ContainerID != web.ContainerID {
				t.Errorf("element %v has a foreign owner", e)
			}
			if e.HostPort == 9200 && (e.HostIP != h4 || e.Target != netip.AddrPortFrom(web.addr(0), 80) || e.Protocol != "tcp") {
				t.Errorf("element %v", e)
			}
		}
	}

	// A foreign hand took two elements: the rest must go.
	l.sh(l.host, "nft", "delete", "element", "inet", "cove", "port4-any", "{ tcp . 8080, tcp . 9400 }")
	for range 2 {
		text, err := json.Marshal(web.teardown)
		if err != nil {
			t.Fatal(err)
		}
		var td teardown.Teardown
		if err := json.Unmarshal(text, &td); err != nil {
			t.Fatal(err)
		}
		l.in(l.host, func() error { return teardown.Run(td) })
		if r := l.list(); len(r.Elements) != 0 {
			t.Errorf("after teardown: %v", r.Elements)
		}
	}
	l.silent(l.outside, "tcp", at(h4, 8080))
}

// A container must not reach what the host published on 127.0.0.1, although
// the bridge has route_localnet.
func TestLoopbackGuard(t *testing.T) {
	l := newLab(t)
	n := bridgeNet(0)
	a := l.container(nil, joined(n, 0, "eth0"))
	l.echo(l.host, "tcp", 77, "private")
	l.echo(l.host, "udp", 77, "private")
	l.sh(a.Netns, "ip", "addr", "del", "127.0.0.1/8", "dev", "lo")
	l.sh(a.Netns, "ip", "route", "add", "127.0.0.1/32", "via", n.Subnets[0].Gateway.String(), "src", a.addr(0).String())
	l.sh(a.Netns, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet")
	l.silent(a.Netns, "tcp", "127.0.0.1:77")
	l.sh(l.host, "nft", "flush", "chain", "inet", "cove", "guard")
	l.answers(a.Netns, "tcp", "127.0.0.1:77", "private", "") // or the test proves nothing
	// A kernel that can have no guard gets no such bridge.
	l.in(l.host, func() error { return without(false, &a.Request) })
	l.silent(a.Netns, "tcp", "127.0.0.1:77")
}

// Nor may a neighbour of the host, who sends 127.0.0.1's packets to it.
func TestLoopbackFromOutside(t *testing.T) {
	l := newLab(t)
	web := l.container([]cove.PortMapping{
		{HostPort: 8080, ContainerPort: 80, Protocol: "tcp", HostIP: "127.0.0.1"},
		{HostPort: 8081, ContainerPort: 80, Protocol: "tcp"},
	}, joined(bridgeNet(0), 0, "eth0"))
	l.echo(web.Netns, "tcp", 80, "web")
	l.sh(l.outside, "ip", "addr", "del", "127.0.0.1/8", "dev", "lo")
	l.sh(l.outside, "ip", "route", "add", "127.0.0.1/32", "via", hostOut4.Addr().String(), "src", outside4.Addr().String())
	l.sh(l.outside, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/net0/route_localnet")
	l.answers(l.host, "tcp", "127.0.0.1:8080", "web", "")
	for _, port := range []string{"8080", "8081"} {
		l.silent(l.outside, "tcp", "127.0.0.1:"+port)
	}
	l.answers(l.outside, "tcp", at(hostOut4.Addr(), 8081), "web", outside4.Addr().String())
	l.sh(l.host, "nft", "insert", "rule", "inet", "cove", "dnat-in", "jump", "publish")
	l.answers(l.outside, "tcp", "127.0.0.1:8080", "web", "") // or the test proves nothing
}

// Nor may a neighbour who routes a network's subnets to the host reach more of
// its containers than what is published, unless the network is open to that.
func TestDirectRouting(t *testing.T) {
	l := newLab(t)
	n := bridgeNet(0)
	web := l.container([]cove.PortMapping{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}, joined(n, 0, "eth0"))
	open, half := bridgeNet(1), bridgeNet(2)
	for _, key := range []string{"ipv4", "ipv6"} {
		open.Options["com.docker.network.bridge.gateway_mode_"+key] = "nat-unprotected"
	}
	half.Options["com.docker.network.bridge.gateway_mode_ipv6"] = "nat-unprotected"
	half.Options["com.docker.network.bridge.gateway_mode_ipv4"] = "nat"
	other := l.container(nil, joined(open, 0, "eth0"))
	third := l.container(nil, joined(half, 0, "eth0"))
	inner := bridgeNet(3)
	inner.Internal = true
	shut := l.container(nil, joined(inner, 0, "eth0"))
	for name, c := range map[string]*container{"web": web, "open": other, "half": third, "shut": shut} {
		for _, p := range []string{"tcp", "udp"} {
			l.echo(c.Netns, p, 80, name)
		}
	}
	for _, p := range []string{"tcp", "udp"} {
		l.echo(l.outside, p, 80, "outside")
	}
	for i := range 4 {
		l.sh(l.outside, "ip", "route", "add", bridgeNet(i).Subnets[0].Subnet.String(), "via", hostOut4.Addr().String())
		l.sh(l.outside, "ip", "route", "add", bridgeNet(i).Subnets[1].Subnet.String(), "via", hostOut6.Addr().String())
	}
	check := func(c *container, family int, name string, reached bool) {
		t.Helper()
		if reached {
			l.answers(l.outside, "tcp", at(c.addr(family), 80), name, "")
		} else {
			l.silent(l.outside, "tcp", at(c.addr(family), 80))
		}
	}
	for family := range 2 {
		check(web, family, "web", false)
		l.silent(l.outside, "udp", at(web.addr(family), 80))
		check(other, family, "open", true)
		check(third, family, "half", family == 1)
		check(shut, family, "shut", false)
		// All else is as ever: published ports, the way out, the host, other bridges.
		host, outside := []netip.Addr{hostOut4.Addr(), hostOut6.Addr()}[family], []netip.Addr{outside4.Addr(), outside6.Addr()}[family]
		l.answers(l.outside, "tcp", at(host, 8080), "web", outside.String())
		for _, p := range []string{"tcp", "udp"} {
			l.answers(web.Netns, p, at(outside, 80), "outside", host.String())
			l.answers(l.host, p, at(web.addr(family), 80), "web", "")
			l.answers(other.Netns, p, at(web.addr(family), 80), "web", "")
			l.answers(web.Netns, p, at(third.addr(family), 80), "half", "")
		}
	}
	// An open network that is made anew without the options is shut.
	again := bridgeNet(1)
	l.container(nil, joined(again, 1, "eth0"))
	check(other, 0, "open", false)
	l.in(l.host, func() error { return Driver{}.RemoveNetwork(t.Context(), again) })

	l.sh(l.host, "nft", "flush", "chain", "inet", "cove", "inward")
	for family := range 2 { // or the test proves nothing
		check(web, family, "web", true)
		l.answers(l.outside, "udp", at(web.addr(family), 80), "web", "")
	}
}

func TestIsolation(t *testing.T) {
	l := newLab(t)
	mk := func(i int, isolate string, internal bool) cove.Network {
		n := bridgeNet(i)
		n.Internal = internal
		if isolate != "" {
			n.Options["isolate"] = isolate
		}
		return n
	}
	nets := []cove.Network{mk(0, "", false), mk(1, "", false), mk(2, "true", false), mk(3, "true", false), mk(4, "strict", false), mk(5, "", true)}
	var cs []*container
	for _, n := range nets {
		c := l.container(nil, joined(n, 0, "eth0"))
		// A container that adds the route that it was not given.
		if n.Internal {
			l.sh(c.Netns, "ip", "route", "add", "default", "via", n.Subnets[0].Gateway.String())
			l.sh(c.Netns, "ip", "route", "add", "default", "via", n.Subnets[1].Gateway.String())
		}
		l.echo(c.Netns, "tcp", 80, n.Name)
		cs = append(cs, c)
	}
	l.echo(l.outside, "tcp", 80, "outside")
	allowed := map[[2]int]bool{{0, 1}: true, {1, 0}: true, {0, 2}: true, {2, 0}: true, {0, 3}: true, {1, 3}: true}
	for _, pair := range [][2]int{{0, 1}, {1, 0}, {0, 2}, {2, 0}, {2, 3}, {3, 2}, {0, 4}, {4, 0}, {2, 4}, {4, 2}, {0, 5}, {5, 0}} {
		a, b := cs[pair[0]], cs[pair[1]]
		for f := range 2 {
			if allowed[pair] {
				l.answers(a.Netns, "tcp", at(b.addr(f), 80), nets[pair[1]].Name, "")
			} else {
				l.silent(a.Netns, "tcp", at(b.addr(f), 80))
			}
		}
	}
	for i, c := range cs {
		if nets[i].Internal {
			l.silent(c.Netns, "tcp", at(outside4.Addr(), 80))
			l.silent(c.Netns, "tcp", at(outside6.Addr(), 80))
		} else {
			l.answers(c.Netns, "tcp", at(outside4.Addr(), 80), "outside", "")
		}
	}
	// The same bridge for another network: its old rules must not stay.
	l.in(l.host, func() error { return Driver{}.RemoveNetwork(t.Context(), nets[5]) })
	again := mk(5, "", false)
	c := l.container(nil, joined(again, 1, "eth0"))
	l.answers(c.Netns, "tcp", at(outside4.Addr(), 80), "outside", "")
	// And without the removal.
	again.Internal = true
	d := l.container(nil, joined(again, 2, "eth0"))
	l.sh(d.Netns, "ip", "route", "add", "default", "via", again.Subnets[0].Gateway.String())
	l.silent(d.Netns, "tcp", at(outside4.Addr(), 80))
	again.Internal = false
	e := l.container(nil, joined(again, 3, "eth0"))
	l.answers(e.Netns, "tcp", at(outside4.Addr(), 80), "outside", "")
}

func TestRemove(t *testing.T) {
	l := newLab(t)
	n, m := bridgeNet(0), bridgeNet(1)
	ports := []cove.PortMapping{{HostPort: 80, ContainerPort: 80, Protocol: "tcp"}}
	a := l.container(ports, joined(n, 0, "eth0"), joined(m, 0, "eth1"))
	b := l.container([]cove.PortMapping{{HostPort: 81, ContainerPort: 80, Protocol: "tcp"}}, joined(n, 1, "eth0"))
	ctx := t.Context()
	d := Driver{}
	l.in(l.host, func() error { return d.RemoveElements(ctx, a.ContainerID) })
	r := l.list()
	if len(r.Elements) != 2 || r.Elements[0].ContainerID != b.ContainerID {
		t.Errorf("elements %v", r.Elements)
	}
	for _, link := range r.Links {
		if link.OwnerPrefix == a.ContainerID[:12] {
			l.in(l.host, func() error { return d.RemoveLink(ctx, link.Name) })
			l.in(l.host, func() error { return d.RemoveLink(ctx, link.Name) })
		}
	}
	if r := l.list(); len(r.Links) != 1 || len(r.Bridges) != 2 {
		t.Errorf("reality %+v", r)
	}
	// A successor takes the port of one whose elements were lost.
	l.setup(&container{Request: network.Request{ContainerID: newID(), Netns: l.netns(),
		Ports: b.Ports, Networks: []network.Membership{joined(n, 5, "eth0")}}})
	if r := l.list(); len(r.Elements) != 2 || r.Elements[0].ContainerID == b.ContainerID {
		t.Errorf("elements %v", r.Elements)
	}
	wrong := n
	wrong.ID = network.ID("other")
	l.in(l.host, func() error { return d.RemoveNetwork(ctx, wrong) })
	if r := l.list(); len(r.Bridges) != 2 {
		t.Errorf("a bridge was removed by a foreign ID: %+v", r)
	}
	for range 2 {
		l.in(l.host, func() error { return d.RemoveNetwork(ctx, n) })
		l.in(l.host, func() error { return d.RemoveBridge(ctx, m.NetworkInterface) })
	}
	if r := l.list(); len(r.Bridges) != 0 {
		t.Errorf("reality %+v", r)
	}
	if out := l.sh(l.host, "nft", "list", "table", "inet", "cove"); strings.Contains(out, "cove0") || strings.Contains(out, "cove1") {
		t.Errorf("rules left: %s", out)
	}
}

// TestFlushed: a change makes anew what others have taken away.
func TestFlushed(t *testing.T) {
	l := newLab(t)
	n := bridgeNet(0)
	a := l.container([]cove.PortMapping{{HostPort: 80, ContainerPort: 80, Protocol: "tcp"}}, joined(n, 0, "eth0"))
	l.echo(a.Netns, "tcp", 80, "a")
	l.echo(l.outside, "tcp", 80, "outside")
	before := l.sh(l.host, "nft", "list", "ruleset")
	for _, ruin := range []string{"flush ruleset", "flush table inet cove", "flush map inet cove port4-any"} {
		l.sh(l.host, append([]string{"nft"}, strings.Fields(ruin)...)...)
		l.in(l.host, func() error { _, err := Driver{}.Change(t.Context(), a.Request); return err })
		if after := l.sh(l.host, "nft", "list", "ruleset"); after != before {
			t.Errorf("after %q and change:\n%s\nbefore:\n%s", ruin, after, before)
		}
	}
	l.answers(l.outside, "tcp", at(hostOut4.Addr(), 80), "a", "")
	// Of another store that has something there nothing is lost.
	other := bridgeNet(1)
	l.container([]cove.PortMapping{{HostPort: 90, ContainerPort: 80, Protocol: "tcp"}}, joined(other, 0, "eth0"))
	both := l.sh(l.host, "nft", "list", "ruleset")
	l.sh(l.host, "nft", "flush", "chain", "inet", "cove", "nat-cove0")
	l.in(l.host, func() error { _, err := Driver{}.Change(t.Context(), a.Request); return err })
	if after := l.sh(l.host, "nft", "list", "ruleset"); after != both {
		t.Errorf("after the change beside another store:\n%s\nbefore:\n%s", after, both)
	}
	// The next container of a flushed host brings the rules back too.
	l.sh(l.host, "nft", "flush", "ruleset")
	b := l.container([]cove.PortMapping{{HostPort: 81, ContainerPort: 80, Protocol: "tcp"}}, joined(n, 1, "eth0"))
	l.echo(b.Netns, "tcp", 80, "b")
	l.answers(l.outside, "tcp", at(hostOut4.Addr(), 81), "b", "")
	l.answers(b.Netns, "tcp", at(outside4.Addr(), 80), "outside", "")
}

// A host with docker drops what it does not forward itself.
func TestBesideDocker(t *testing.T) {
	l := newLab(t)
	if _, err := exec.LookPath("iptables-nft"); err != nil {
		t.Skip("needs iptables-nft")
	}
	n := bridgeNet(0)
	a := l.container(nil, joined(n, 0, "eth0"))
	l.echo(l.outside, "tcp", 80, "outside")
	for _, c := range []string{"-P FORWARD DROP", "-N DOCKER-USER", "-A DOCKER-USER -j RETURN", "-A FORWARD -j DOCKER-USER"} {
		l.sh(l.host, append([]string{"iptables-nft"}, strings.Fields(c)...)...)
	}
	l.silent(a.Netns, "tcp", at(outside4.Addr(), 80))
	// The next start notices docker.
	b := l.container(nil, joined(n, 1, "eth0"))
	l.container(nil, joined(n, 2, "eth0"))
	l.answers(a.Netns, "tcp", at(outside4.Addr(), 80), "outside", "")
	l.answers(b.Netns, "tcp", at(outside4.Addr(), 80), "outside", "")
	out := l.sh(l.host, "iptables-nft", "-S", "DOCKER-USER")
	if strings.Count(out, "-i cove0 ")+strings.Count(out, "-o cove0 ") != 2 {
		t.Errorf("iptables shows %s", out)
	}
	l.in(l.host, func() error { return Driver{}.RemoveNetwork(t.Context(), n) })
	if out := l.sh(l.host, "iptables-nft", "-S", "DOCKER-USER"); strings.Contains(out, "cove0") {
		t.Errorf("rules left: %s", out)
	}
}

func TestFailureLeavesNothing(t *testing.T) {
	l := newLab(t)
	n := bridgeNet(0)
	bad := joined(n, 0, "eth0")
	bad.Attachment.Gateways = []netip.Addr{netip.MustParseAddr("203.0.113.1")} // unreachable
	r := network.Request{ContainerID: newID(), Netns: l.netns(), Networks: []network.Membership{joined(bridgeNet(1), 0, "eth1"), bad}}
	r.Networks[0].Attachment.Gateways = nil
	err := enter(l.host, func() error {
		_, err := Driver{}.Setup(t.Context(), r)
		return err
	})
	if err == nil {
		t.Fatal("no error")
	}
	t.Log(err)
	if r := l.list(); len(r.Links) != 0 || len(r.Elements) != 0 {
		t.Errorf("left %+v", r)
	}
}

func TestParallel(t *testing.T) {
	l := newLab(t)
	const many = 50
	n, m := bridgeNet(0), bridgeNet(1)
	rs := make([]network.Request, many)
	tds := make([]teardown.Teardown, many)
	errs := make([]error, many)
	for i := range rs {
		rs[i] = network.Request{ContainerID: newID(), Netns: l.netns(),
			Networks: []network.Membership{joined(n, i, "eth0"), joined(m, i, "eth1")},
			Ports:    []cove.PortMapping{{HostPort: uint16(8000 + i), ContainerPort: 80, Protocol: "tcp"}}}
	}
	start := time.Now()
	var wg sync.WaitGroup
	for i := range rs {
		wg.Go(func() {
			errs[i] = enter(l.host, func() (err error) {
				tds[i], err = Driver{}.Setup(t.Context(), rs[i])
				return err
			})
		})
	}
	wg.Wait()
	t.Logf("%d containers on two networks each in %v", many, time.Since(start))
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	r := l.list()
	if len(r.Links) != 2*many || len(r.Bridges) != 2 || len(r.Elements) != 2*many {
		t.Errorf("%d links, %d bridges, %d elements", len(r.Links), len(r.Bridges), len(r.Elements))
	}
	for _, i := range []int{0, many / 2, many - 1} {
		l.echo(rs[i].Netns, "tcp", 80, rs[i].ContainerID[:12])
		l.answers(l.outside, "tcp", at(hostOut4.Addr(), uint16(8000+i)), rs[i].ContainerID[:12], "")
	}
	start = time.Now()
	for i := range rs {
		wg.Go(func() { errs[i] = enter(l.host, func() error { return teardown.Run(tds[i]) }) })
	}
	wg.Wait()
	t.Logf("teardown of all in %v", time.Since(start))
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if r := l.list(); len(r.Elements) != 0 {
		t.Errorf("%d elements left", len(r.Elements))
	}
}

// What a kernel without NAT gets: isolation, and no published ports.
func TestWithoutNAT(t *testing.T) {
	l := newLab(t)
	n := bridgeNet(0)
	n.Internal = true
	l.in(l.host, func() error {
		f, err := openFirewall()
		if err != nil {
			return err
		}
		defer f.shut()
		b := newBatch()
		if err := f.networks(b, []*cove.Network{&n}, false); err != nil {
			return err
		}
		_, err = f.commit(b)
		return err
	})
	a := l.container(nil, joined(n, 0, "eth0"))
	l.sh(a.Netns, "ip", "route", "add", "default", "via", n.Subnets[0].Gateway.String())
	l.echo(l.outside, "tcp", 80, "outside")
	l.silent(a.Netns, "tcp", at(outside4.Addr(), 80))
	if out := l.sh(l.host, "nft", "list", "ruleset"); strings.Contains(out, "type nat") {
		t.Errorf("NAT was tried again: %s", out)
	}
	l.in(l.host, func() error { return Driver{}.RemoveNetwork(t.Context(), n) })
	if r := l.list(); len(r.Bridges) != 0 {
		t.Errorf("%+v", r)
	}
	// Ports are worth another try, which succeeds here.
	m := bridgeNet(1)
	b := l.container([]cove.PortMapping{{HostPort: 80, ContainerPort: 80, Protocol: "tcp"}}, joined(m, 0, "eth0"))
	l.echo(b.Netns, "tcp", 80, "b")
	l.answers(l.outside, "tcp", at(hostOut4.Addr(), 80), "b", "")
}

// A client that has been sending since before the port was published reaches
// the container.
func TestOldFlow(t *testing.T) {
	l := newLab(t)
	n := bridgeNet(0)
	l.container(nil, joined(n, 0, "eth0"))
	l.sh(l.host, "nft", "add", "rule", "inet", "cove", "forward", "ct", "state", "invalid", "accept") // switches tracking on
	var c net.Conn
	l.in(l.outside, func() (err error) {
		c, err = net.Dial("udp", at(hostOut4.Addr(), 5353))
		return err
	})
	defer c.Close()
	answered := func(want string) {
		t.Helper()
		b := make([]byte, 64)
		for end := time.Now().Add(time.Minute); time.Now().Before(end); { // a datagram may be lost, or late
			c.SetDeadline(time.Now().Add(time.Second))
			c.Write([]byte("?"))
			if k, err := c.Read(b); err == nil && strings.HasPrefix(string(b[:k]), want) {
				return
			}
		}
		t.Fatalf("no answer of the %s", want)
	}
	l.echo(l.host, "udp", 5353, "host")
	answered("host")
	a := &container{Request: network.Request{ContainerID: newID(), Netns: l.netns(),
		Networks: []network.Membership{joined(n, 1, "eth0")},
		Ports:    []cove.PortMapping{{HostPort: 5353, ContainerPort: 53, Protocol: "udp"}}}}
	l.echo(a.Netns, "udp", 53, "container")
	l.setup(a)
	answered("container")
}

func TestOccupied(t *testing.T) {
	l := newLab(t)
	l.sh(l.host, "ip", "route", "add", "172.30.0.0/16", "via", outside4.Addr().String())
	l.sh(l.host, "ip", "route", "add", "default", "via", outside4.Addr().String())
	l.in(l.host, func() error {
		o, err := Driver{}.Occupied(t.Context())
		if err != nil {
			return err
		}
		if !slices.Contains(o.Links, "uplink") || !slices.Contains(o.Addresses, hostOut4.Masked()) || !slices.Contains(o.Addresses, hostOut6.Masked()) ||
			!slices.Contains(o.Routes, netip.MustParsePrefix("172.30.0.0/16")) ||
			slices.ContainsFunc(o.Routes, func(p netip.Prefix) bool { return p.Bits() == 0 }) {
			t.Errorf("%+v", o)
		}
		return nil
	})
}

// The same as root of a user namespace.
func TestInUserNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const child = "COVE_TEST_IN_USER_NAMESPACE"
	if os.Getenv(child) != "" {
		t.Skip("is in one")
	}
	c := exec.Command("/proc/self/exe", "-test.run", "^(TestAttach|TestPublish|TestRemove|TestReload)$", "-test.v")
	c.Env = append(os.Environ(), child+"=1")
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 65536}}
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, UidMappings: ids, GidMappings: ids}
	out, err := c.CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("--- SKIP")) {
		t.Errorf("%v: %s", err, out)
	}
}

// BenchmarkSetup is one container on one network: without ports, with two, and
// with a range.
func BenchmarkSetup(b *testing.B) {
	for _, c := range []struct {
		name  string
		ports []cove.PortMapping
	}{
		{"none", nil},
		{"two", []cove.PortMapping{{HostPort: 80, ContainerPort: 80, Protocol: "tcp"}, {HostPort: 443, ContainerPort: 443, Protocol: "tcp"}}},
		{"range1000", []cove.PortMapping{{HostPort: 10000, ContainerPort: 10000, Range: 1000, Protocol: "tcp"}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			l := newLab(b)
			n := bridgeNet(0)
			l.container(nil, joined(n, 0, "eth0"))
			r := network.Request{Ports: c.ports}
			var down time.Duration
			l.in(l.host, func() error {
				for i := 1; b.Loop(); i++ {
					b.StopTimer()
					var err error
					// An address again as late as can be: the last to have it is not gone at once.
					r.Networks = []network.Membership{joined(n, i%200, "eth0")}
					r.ContainerID = newID()
					if r.Netns, err = newNetns(); err != nil {
						return err
					}
					b.StartTimer()
					td, err := Driver{}.Setup(b.Context(), r)
					b.StopTimer()
					if err != nil {
						return err
					}
					start := time.Now()
					if err := teardown.Run(td); err != nil {
						return err
					}
					down += time.Since(start)
					unix.Close(r.Netns)
					b.StartTimer()
				}
				return nil
			})
			b.ReportMetric(float64(down.Nanoseconds())/float64(b.N), "teardown-ns/op")
		})
	}
}

// A link of the host's that has the name of a bridge stays as it is, up or down.
func TestForeignLink(t *testing.T) {
	for _, state := range []string{"down", "up"} {
		l := newLab(t)
		n := bridgeNet(0)
		l.sh(l.host, "ip", "link", "add", n.NetworkInterface, "type", "veth", "peer", "name", "other")
		l.sh(l.host, "ip", "link", "set", n.NetworkInterface, state)
		look := func() string {
			return l.sh(l.host, "ip", "-o", "-4", "addr", "show", "dev", n.NetworkInterface) +
				l.sh(l.host, "ip", "-o", "link", "show", "up", "dev", n.NetworkInterface) +
				l.sh(l.host, "cat", "/proc/sys/net/ipv4/conf/"+n.NetworkInterface+"/route_localnet")
		}
		before := look()
		c := container{Request: network.Request{ContainerID: newID(), Networks: []network.Membership{joined(n, 3, "eth0")}, Netns: l.netns()}}
		l.in(l.host, func() error {
			if _, err := (Driver{}).Setup(t.Context(), c.Request); !cove.Is(err, cove.InUse) || !strings.Contains(err.Error(), "already exists but is a veth interface") {
				t.Errorf("%s: %v", state, err)
			}
			return nil
		})
		if after := look(); after != before {
			t.Errorf("%s: it was %s and is %s", state, before, after)
		}
	}
}
