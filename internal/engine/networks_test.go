package engine

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/network"
)

func networkNames(t *testing.T, e *Engine, filters map[string][]string) []string {
	t.Helper()
	all, err := e.Networks(t.Context(), filters)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, n := range all {
		names = append(names, n.Name)
	}
	return names
}

func TestCreateNetwork(t *testing.T) {
	e, r := engineWith(t)
	r.networks.host = network.Occupied{Links: []string{"cove1"}, Addresses: []netip.Prefix{netip.MustParsePrefix("10.89.0.0/24")}}
	n, err := e.CreateNetwork(t.Context(), cove.Network{Name: "front", DNSEnabled: true, Labels: map[string]string{"a": "b"}}, false)
	if err != nil {
		t.Fatal(err)
	}
	if n.ID != network.ID("front") || n.NetworkInterface != "cove2" || n.Driver != "bridge" || !n.DNSEnabled || n.Created.IsZero() {
		t.Errorf("made %+v", n)
	}
	if got := n.Subnets[0]; got.Subnet.String() != "10.89.1.0/24" || got.Gateway.String() != "10.89.1.1" {
		t.Errorf("subnet %v via %v: it must keep clear of the host's", got.Subnet, got.Gateway)
	}
	again, err := e.CreateNetwork(t.Context(), cove.Network{Name: "front"}, true)
	if err != nil || again.ID != n.ID || again.Labels["a"] != "b" {
		t.Errorf("ignored: %+v, %v", again, err)
	}
	_, err = e.CreateNetwork(t.Context(), cove.Network{Name: "front"}, false)
	wantKind(t, err, cove.Exists, "network name front already used: network already exists")
	_, err = e.CreateNetwork(t.Context(), cove.Network{Name: "podman"}, false)
	wantKind(t, err, cove.Exists, "")
	_, err = e.CreateNetwork(t.Context(), cove.Network{Name: "a b"}, false)
	wantKind(t, err, cove.Invalid, "names must match")
	nameless, err := e.CreateNetwork(t.Context(), cove.Network{}, false)
	if err != nil || nameless.Name != nameless.NetworkInterface || nameless.Name == "" {
		t.Errorf("without a name: %+v, %v", nameless, err)
	}
	six, err := e.CreateNetwork(t.Context(), cove.Network{Name: "six", IPv6Enabled: true}, false)
	if err != nil || len(six.Subnets) != 2 || !six.Subnets[1].Subnet.Addr().Is6() {
		t.Errorf("IPv6: %+v, %v", six, err)
	}
	r.events.has(t, "network create front", "network create "+nameless.Name, "network create six")
}

func TestNetworkFilters(t *testing.T) {
	e, _ := engineWith(t)
	for _, n := range []cove.Network{{Name: "alpha", Labels: map[string]string{"tier": "1", "x": ""}}, {Name: "beta", Labels: map[string]string{"tier": "2"}}} {
		if _, err := e.CreateNetwork(t.Context(), n, false); err != nil {
			t.Fatal(err)
		}
	}
	stored(t, e, "c1", onNetwork("alpha"))
	for _, test := range []struct {
		filters map[string][]string
		want    []string
	}{
		{nil, []string{"alpha", "beta", "podman"}},
		{map[string][]string{"name": {"^al", "eta"}}, []string{"alpha", "beta"}},
		{map[string][]string{"id": {network.ID("beta")[:7]}}, []string{"beta"}},
		{map[string][]string{"driver": {"macvlan"}}, nil},
		{map[string][]string{"label": {"tier"}}, []string{"alpha", "beta"}},
		{map[string][]string{"label": {"tier=1", "x"}}, []string{"alpha"}},
		{map[string][]string{"label": {"ti*"}}, []string{"alpha", "beta"}},
		{map[string][]string{"label!": {"tier=1"}}, []string{"beta", "podman"}},
		{map[string][]string{"dangling": {"true"}}, []string{"beta"}},
		{map[string][]string{"dangling": {"false"}}, []string{"alpha", "podman"}},
		{map[string][]string{"until": {"1h"}}, nil},
	} {
		if got := networkNames(t, e, test.filters); !slices.Equal(got, test.want) {
			t.Errorf("%v: %q, want %q", test.filters, got, test.want)
		}
	}
	for _, bad := range []map[string][]string{{"foo": {"x"}}, {"name": {"["}}, {"dangling": {"x"}}, {"until": {"never"}}, {"until": {"1h", "2h"}}} {
		_, err := e.Networks(t.Context(), bad)
		wantKind(t, err, cove.Invalid, "")
	}
}

func TestRemoveNetwork(t *testing.T) {
	e, r := engineWith(t)
	if _, err := e.CreateNetwork(t.Context(), cove.Network{Name: "front"}, false); err != nil {
		t.Fatal(err)
	}
	c := stored(t, e, "web", onNetwork("front"))
	_, err := e.RemoveNetwork(t.Context(), "front", RemoveOptions{})
	wantKind(t, err, cove.InUse, `"front" has associated containers with it. Use -f to forcibly delete containers and pods: network is being used`)
	_, err = e.RemoveNetwork(t.Context(), "podman", RemoveOptions{Force: true})
	wantKind(t, err, cove.Invalid, "default network podman cannot be removed")
	_, err = e.RemoveNetwork(t.Context(), "nonesuch", RemoveOptions{})
	wantKind(t, err, cove.NotFound, "unable to find network with name or ID nonesuch: network not found")
	if len(r.networks.removed) > 0 {
		t.Errorf("the kernel lost %q", r.networks.removed)
	}
	name, err := e.RemoveNetwork(t.Context(), network.ID("front")[:8], RemoveOptions{Force: true})
	if err != nil || name != "front" || !slices.Equal(r.networks.removed, []string{"front"}) {
		t.Errorf("forced: %q, %v, kernel lost %q", name, err, r.networks.removed)
	}
	if _, err := e.find(c.ID); !cove.Is(err, cove.NotFound) {
		t.Errorf("its container is still there: %v", err)
	}
	if exists(filepath.Join(e.conf.Locks(), "network-front")) {
		t.Error("its lock file is still there")
	}
}

// A removal that is cut short after its record is put aside hides the network
// at once and is finished by the next command that changes networks.
func TestRemoveNetworkCutShort(t *testing.T) {
	for name, next := range map[string]func(e *Engine) error{
		"create": func(e *Engine) error {
			_, err := e.CreateNetwork(t.Context(), cove.Network{Name: "front"}, false)
			return err
		},
		"prune": func(e *Engine) error {
			_, err := e.PruneNetworks(t.Context(), nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) { removeNetworkCutShort(t, next) })
	}
}

func removeNetworkCutShort(t *testing.T, next func(e *Engine) error) {
	e, r := engineWith(t)
	if _, err := e.CreateNetwork(t.Context(), cove.Network{Name: "front"}, false); err != nil {
		t.Fatal(err)
	}
	r.networks.fail = errors.New("killed here")
	if _, err := e.RemoveNetwork(t.Context(), "front", RemoveOptions{}); err == nil {
		t.Fatal("no error")
	}
	if got := networkNames(t, e, nil); !slices.Equal(got, []string{"podman"}) {
		t.Errorf("networks %q", got)
	}
	r.networks.fail = nil
	if err := next(e); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.networks.removed, []string{"front"}) {
		t.Errorf("the first one's bridge was not removed: %q", r.networks.removed)
	}
	if found, err := e.Check(t.Context(), false, true); err != nil || len(found) > 0 {
		t.Errorf("check: %+v, %v", found, err)
	}
}

func TestNetworkInspectAndPrune(t *testing.T) {
	e, r := engineWith(t)
	for _, name := range []string{"used", "free"} {
		if _, err := e.CreateNetwork(t.Context(), cove.Network{Name: name}, false); err != nil {
			t.Fatal(err)
		}
	}
	c := stored(t, e, "web", onNetwork("used"))
	n, err := e.Network(t.Context(), "used")
	if err != nil || len(n.Containers) != 0 {
		t.Errorf("only running containers are shown: %+v, %v", n, err)
	}
	got := networkContainer(c, "used").Interfaces["eth0"]
	if len(got.Subnets) != 1 || got.Subnets[0].IPNet != c.Attachments[0].Addresses[0].String() || got.Subnets[0].Gateway == "" {
		t.Errorf("interface %+v", got)
	}
	names, err := e.PruneNetworks(t.Context(), nil)
	if err != nil || !slices.Equal(names, []string{"free"}) || !slices.Equal(r.networks.removed, names) {
		t.Errorf("pruned %q, %v", names, err)
	}
	// A container that its monitor has removed uses nothing any more.
	if err := os.Rename(e.dir(c.ID), e.removedDir(c.ID)); err != nil {
		t.Fatal(err)
	}
	names, err = e.PruneNetworks(t.Context(), nil)
	if err != nil || !slices.Equal(names, []string{"used"}) {
		t.Errorf("pruned %q, %v", names, err)
	}
}

// A container whose networks are all internal has nobody asked about other
// names; one way out is enough.
func TestInternalNamesStayInside(t *testing.T) {
	e, _ := engineWith(t)
	c := &cove.Container{Spec: cove.ContainerSpec{DNS: []string{"192.0.2.53"}}}
	in := cove.Network{Name: "in", DNSEnabled: true, Internal: true}
	out := cove.Network{Name: "out"}
	if r := e.resolver(c, []cove.Network{in}); r == nil || len(r.Upstream) != 0 {
		t.Errorf("internal alone: %+v, want no server to ask", r)
	}
	if r := e.resolver(c, []cove.Network{in, out}); r == nil || len(r.Upstream) != 1 {
		t.Errorf("with a way out: %+v, want one server to ask", r)
	}
}

// What nobody can ask for is no path either, and the last one of a name takes its
// directory along.
func TestPublishedNames(t *testing.T) {
	e, _ := engineWith(t)
	n, err := e.CreateNetwork(t.Context(), cove.Network{Name: "front", DNSEnabled: true}, false)
	if err != nil {
		t.Fatal(err)
	}
	c := stored(t, e, "web", func(c *cove.Container) {
		onNetwork("front")(c)
		c.Spec.Hostname = "a/../../back/web"
		c.Attachments[0].Aliases = []string{"../../x", "..", ".ptr", "a/b", "a b", "", "Www.Example.org", strings.Repeat("a", 64), strings.Repeat("ab.", 90)}
	})
	files, err := e.publishNames(c, []cove.Network{n})
	if err != nil {
		t.Fatal(err)
	}
	var there []string
	err = filepath.WalkDir(e.conf.Home(), func(path string, _ fs.DirEntry, err error) error {
		if filepath.Base(path) == c.ID && filepath.Dir(path) != e.conf.Containers() {
			there = append(there, path)
		}
		return err
	})
	var want []string
	for _, name := range []string{c.ID[:12], "web", "www.example.org"} {
		want = append(want, filepath.Join(e.namesDir(), "front", name, c.ID))
	}
	slices.Sort(files)
	if err != nil || !slices.Equal(there, want) || !slices.Equal(files, want) {
		t.Errorf("published %q, said %q, want %q: %v", there, files, want, err)
	}
	for _, file := range files { // as the monitor does
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	e.forget(c)
	if left, err := os.ReadDir(filepath.Join(e.namesDir(), "front")); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// A container that has ended since it was looked at is no missing file.
func TestNetworkOfEnded(t *testing.T) {
	for _, wait := range []bool{false, true} { // not yet reaped, and gone
		cmd := exec.Command("true")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
			t.Fatal(err)
		}
		if wait {
			_ = cmd.Wait()
		}
		c := new(Container)
		c.Run.PID = cmd.Process.Pid
		_, err := networkOf(c)
		wantKind(t, err, cove.WrongStatus, "")
		if !wait {
			_ = cmd.Wait()
		}
	}
}
