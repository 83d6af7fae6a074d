package cgroup

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cove-engine/cove"
)

var update = flag.Bool("update", false, "write the golden files anew")

func p[T any](v T) *T { return &v }

func v1(writable bool) Layout {
	l := Layout{}
	for _, h := range []Hierarchy{
		{Name: "blkio", Controllers: []string{"blkio"}},
		{Name: "cpu,cpuacct", Controllers: []string{"cpu", "cpuacct"}},
		{Name: "cpuset", Controllers: []string{"cpuset"}},
		{Name: "devices", Controllers: []string{"devices"}},
		{Name: "freezer", Controllers: []string{"freezer"}},
		{Name: "hugetlb", Controllers: []string{"hugetlb"}},
		{Name: "memory", Controllers: []string{"memory"}},
		{Name: "net_cls,net_prio", Controllers: []string{"net_cls", "net_prio"}},
		{Name: "pids", Controllers: []string{"pids"}},
		{Name: "rdma", Controllers: []string{"rdma"}},
		{Name: "systemd", Controllers: []string{"name=systemd"}},
	} {
		h.Mount, h.Writable = standard+"/"+h.Name, writable
		l.Hierarchies = append(l.Hierarchies, h)
	}
	return l
}

func few() Layout {
	return Layout{Mount: standard + "/unified", Writable: true, Hierarchies: []Hierarchy{
		{Name: "freezer", Controllers: []string{"freezer"}, Mount: standard + "/freezer", Writable: true},
		{Name: "devices", Controllers: []string{"devices"}, Mount: standard + "/devices", Writable: true},
	}}
}

func v2() Layout {
	return Layout{Unified: true, Mount: standard, Writable: true,
		Controllers: []string{"cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"}}
}

func user() Layout {
	return Layout{Unified: true, Mount: standard, Writable: true, Rootless: true,
		Base: "/user.slice/user-1000.slice/user@1000.service", Controllers: []string{"memory", "pids"}}
}

// full asks for everything there is.
func full() *specs.LinuxResources {
	dev := specs.LinuxBlockIODevice{Major: 8, Minor: 16}
	throttle := func(rate uint64) []specs.LinuxThrottleDevice {
		return []specs.LinuxThrottleDevice{{LinuxBlockIODevice: dev, Rate: rate}}
	}
	return &specs.LinuxResources{
		Devices: []specs.LinuxDeviceCgroup{
			{Allow: false, Access: "rwm"},
			{Allow: true, Type: "c", Major: p(int64(10)), Minor: p(int64(229)), Access: "rw"},
			{Allow: true, Type: "a", Major: p(int64(7)), Access: "mr"},
			{Allow: false, Type: "c", Major: p(int64(10)), Minor: p(int64(229)), Access: "w"},
		},
		Memory: &specs.LinuxMemory{Limit: p(int64(64 << 20)), Reservation: p(int64(32 << 20)), Swap: p(int64(96 << 20)),
			Kernel: p(int64(1)), KernelTCP: p(int64(1)), Swappiness: p(uint64(60)), DisableOOMKiller: p(true), UseHierarchy: p(true), CheckBeforeUpdate: p(true)},
		CPU: &specs.LinuxCPU{Shares: p(uint64(512)), Quota: p(int64(50000)), Burst: p(uint64(1000)), Period: p(uint64(100000)),
			RealtimeRuntime: p(int64(5000)), RealtimePeriod: p(uint64(100000)), Cpus: "0-1", Mems: "0", Idle: p(int64(0))},
		Pids: &specs.LinuxPids{Limit: p(int64(100))},
		BlockIO: &specs.LinuxBlockIO{Weight: p(uint16(500)), LeafWeight: p(uint16(10)),
			WeightDevice:          []specs.LinuxWeightDevice{{LinuxBlockIODevice: dev, Weight: p(uint16(700))}},
			ThrottleReadBpsDevice: throttle(1000), ThrottleWriteBpsDevice: throttle(2000), ThrottleReadIOPSDevice: throttle(30), ThrottleWriteIOPSDevice: throttle(0)},
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}},
		Network:        &specs.LinuxNetwork{ClassID: p(uint32(1048577)), Priorities: []specs.LinuxInterfacePriority{{Name: "eth0", Priority: 5}}},
		Rdma:           map[string]specs.LinuxRdma{"mlx5_1": {HcaHandles: p(uint32(3))}, "mlx5_0": {HcaHandles: p(uint32(1)), HcaObjects: p(uint32(2))}},
	}
}

func unifiedOnly() *specs.LinuxResources {
	r := full()
	r.Network = nil
	r.Unified = map[string]string{"memory.high": "1000", "cgroup.max.depth": "9", "misc.max": "sev 1"}
	return r
}

// An OCI runtime's limits are set or refused by name.
func TestSetAll(t *testing.T) {
	bare := Layout{Unified: true, Mount: standard, Writable: true}
	for field, c := range map[string]struct {
		l Layout
		r specs.LinuxResources
	}{
		"memory.swappiness":       {v2(), specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: p(uint64(60))}}},
		"memory.disableOOMKiller": {v2(), specs.LinuxResources{Memory: &specs.LinuxMemory{DisableOOMKiller: p(true)}}},
		"cpu.realtimeRuntime":     {v2(), specs.LinuxResources{CPU: &specs.LinuxCPU{RealtimeRuntime: p(int64(1000))}}},
		"network":                 {v2(), specs.LinuxResources{Network: full().Network}},
		"blockIO.leafWeight":      {v1(true), specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{LeafWeight: p(uint16(10))}}},
		"memory.limit":            {bare, specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: p(int64(1 << 30))}}},
		"unified":                 {bare, specs.LinuxResources{Unified: map[string]string{"misc.max": "sev 1"}}},
		"rdma":                    {few(), specs.LinuxResources{Rdma: full().Rdma}},
		"hugepageLimits":          {few(), specs.LinuxResources{HugepageLimits: full().HugepageLimits}},
		"pids.limit":              {few(), specs.LinuxResources{Pids: full().Pids}},
		"blockIO.weight":          {user(), specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: p(uint16(500))}}},
	} {
		_, _, err := c.l.SetAll("/cove/id", &c.r)
		if !cove.Is(err, cove.Unsupported) || !strings.HasPrefix(err.Error(), "linux.resources."+field+":") {
			t.Errorf("%s: %v", field, err)
		}
		if _, warnings, err := c.l.Set("/cove/id", &c.r); field != "unified" && (err != nil || len(warnings) == 0) {
			t.Errorf("%s is no warning to the engine: %v", field, err)
		}
	}
	// What runc passes over.
	r := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: p(int64(1 << 30)), Kernel: p(int64(1 << 20))}}
	if _, warnings, err := v2().SetAll("/cove/id", r); err != nil || len(warnings) != 1 {
		t.Errorf("kernel memory: %v %v", warnings, err)
	}
}

func TestGolden(t *testing.T) {
	unlimited := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: p(int64(-1))},
		CPU: &specs.LinuxCPU{Quota: p(int64(-1))}, Pids: &specs.LinuxPids{Limit: p(int64(-1))}}
	privileged := &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}}
	for name, c := range map[string]struct {
		l    Layout
		path string
		r    *specs.LinuxResources
	}{
		"v1-full":         {v1(true), "/cove/id", full()},
		"v1-none":         {v1(true), "/cove/pod/id", nil},
		"v1-unlimited":    {v1(true), "/id", unlimited},
		"v1-privileged":   {v1(true), "/cove/id", privileged},
		"v1-rootless":     {Layout{Hierarchies: v1(false).Hierarchies, Rootless: true}, "/cove/id", full()},
		"hybrid-few":      {few(), "/cove/id", full()},
		"v2-full":         {v2(), "/cove/id", unifiedOnly()},
		"v2-none":         {v2(), "/cove/id", nil},
		"v2-network":      {v2(), "/cove/id", &specs.LinuxResources{Network: full().Network}},
		"v2-unlimited":    {v2(), "/cove/id", unlimited},
		"v2-privileged":   {v2(), "/cove/id", privileged},
		"v2-nested":       {Layout{Unified: true, Mount: standard, Writable: true, Nested: true, Controllers: []string{"pids"}}, "/cove/id", nil},
		"v2-user":         {user(), "/cove/id", full()},
		"v2-user-nothing": {Layout{Unified: true, Mount: standard, Rootless: true}, "/cove/id", full()},
		"cgroups-off":     {v2(), "", full()},
	} {
		t.Run(name, func(t *testing.T) {
			s, warnings, err := c.l.Set(c.path, c.r)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name, render(s, warnings))
			var again Set
			b, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(b, &again); err != nil || render(again, warnings) != render(s, warnings) {
				t.Errorf("does not survive JSON: %v", err)
			}
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("differs from %s; got:\n%s", file, got)
	}
}

func render(s Set, warnings []string) string {
	var b bytes.Buffer
	for _, d := range s.Dirs {
		fmt.Fprintln(&b, "dir", d)
	}
	for _, p := range s.Parents {
		fmt.Fprintf(&b, "parent %+v\n", p)
	}
	fmt.Fprintf(&b, "cpuset %q enable %v below %d\n", s.Cpuset, s.Enable, s.MemoryBelow)
	for _, w := range s.Writes {
		for at := &w; at != nil; at = at.Else {
			fmt.Fprintf(&b, "write %s = %q optional=%v %s\n", at.File, at.Value, at.Optional, at.Field)
			if at.Else != nil {
				fmt.Fprint(&b, "  else ")
			}
		}
	}
	b.WriteString(listing(s.Devices))
	for _, w := range warnings {
		fmt.Fprintln(&b, "warning", w)
	}
	return b.String()
}

func TestInvalid(t *testing.T) {
	mem := func(m specs.LinuxMemory) *specs.LinuxResources { return &specs.LinuxResources{Memory: &m} }
	cpu := func(c specs.LinuxCPU) *specs.LinuxResources { return &specs.LinuxResources{CPU: &c} }
	dev := func(d ...specs.LinuxDeviceCgroup) *specs.LinuxResources {
		return &specs.LinuxResources{Devices: d}
	}
	io := func(b specs.LinuxBlockIO) *specs.LinuxResources { return &specs.LinuxResources{BlockIO: &b} }
	uni := func(k string) *specs.LinuxResources {
		return &specs.LinuxResources{Unified: map[string]string{k: "1"}}
	}
	bare := Layout{Hierarchies: []Hierarchy{{Name: "pids", Controllers: []string{"pids"}, Mount: standard + "/pids", Writable: true}}}
	for _, c := range []struct {
		l    Layout
		r    *specs.LinuxResources
		kind cove.Kind
		want string
	}{
		{v1(true), mem(specs.LinuxMemory{Limit: p(int64(-2))}), cove.Invalid, "linux.resources.memory.limit: -2"},
		{v1(true), mem(specs.LinuxMemory{Limit: p(int64(2)), Swap: p(int64(1))}), cove.Invalid, "linux.resources.memory.swap: 1 is less"},
		{v1(true), mem(specs.LinuxMemory{Limit: p(int64(-1)), Swap: p(int64(1))}), cove.Invalid, "linux.resources.memory.swap"},
		{v2(), mem(specs.LinuxMemory{Swap: p(int64(1))}), cove.Invalid, "linux.resources.memory.swap: needs"},
		{v2(), mem(specs.LinuxMemory{Swappiness: p(uint64(101))}), cove.Invalid, "linux.resources.memory.swappiness: 101"},
		{v1(true), cpu(specs.LinuxCPU{Shares: p(uint64(1))}), cove.Invalid, "the minimum allowed cpu-shares is 2"},
		{v1(true), cpu(specs.LinuxCPU{Shares: p(uint64(262145))}), cove.Invalid, "the maximum allowed cpu-shares is 262144"},
		{v1(true), cpu(specs.LinuxCPU{Quota: p(int64(999))}), cove.Invalid, "linux.resources.cpu.quota"},
		{v2(), cpu(specs.LinuxCPU{Period: p(uint64(999))}), cove.Invalid, "linux.resources.cpu.period"},
		{v2(), cpu(specs.LinuxCPU{Idle: p(int64(2))}), cove.Invalid, "linux.resources.cpu.idle"},
		{v2(), cpu(specs.LinuxCPU{Cpus: "0;1"}), cove.Invalid, "linux.resources.cpu.cpus"},
		{v2(), io(specs.LinuxBlockIO{Weight: p(uint16(9))}), cove.Invalid, "linux.resources.blockIO.weight: 9"},
		{v1(true), io(specs.LinuxBlockIO{WeightDevice: []specs.LinuxWeightDevice{{Weight: p(uint16(1001))}}}), cove.Invalid, "blockIO.weightDevice: 1001"},
		{v1(true), &specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "../2MB"}}}, cove.Invalid, "linux.resources.hugepageLimits"},
		{v1(true), &specs.LinuxResources{Network: &specs.LinuxNetwork{Priorities: []specs.LinuxInterfacePriority{{Name: "a b"}}}}, cove.Invalid, "linux.resources.network.priorities"},
		{v1(true), &specs.LinuxResources{Rdma: map[string]specs.LinuxRdma{"a b": {}}}, cove.Invalid, "linux.resources.rdma"},
		{v1(true), uni("memory.high"), cove.Unsupported, "linux.resources.unified"},
		{v2(), uni("cgroup.procs"), cove.Invalid, `"cgroup.procs" is not a resource`},
		{v2(), uni("../memory.max"), cove.Invalid, "is not the name of a cgroup file"},
		{v2(), uni("memory"), cove.Invalid, "is not the name of a cgroup file"},
		{v1(true), dev(specs.LinuxDeviceCgroup{Type: "p"}), cove.Invalid, "linux.resources.devices.type"},
		{v1(true), dev(specs.LinuxDeviceCgroup{Access: "x"}), cove.Invalid, "linux.resources.devices.access"},
		{v1(true), dev(specs.LinuxDeviceCgroup{Type: "c", Major: p(int64(-2))}), cove.Invalid, "linux.resources.devices.major"},
		{v1(true), dev(specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: p(int64(1)), Access: "rwm"},
			specs.LinuxDeviceCgroup{Type: "c", Major: p(int64(1)), Minor: p(int64(5)), Access: "r"}), cove.Unsupported, "cannot take back a part"},
		{bare, dev(specs.LinuxDeviceCgroup{Access: "rwm"}), cove.Unsupported, "linux.resources.devices"},
		{Layout{Hierarchies: v1(false).Hierarchies}, nil, cove.Denied, "read-only"},
		{Layout{Unified: true, Mount: standard}, nil, cove.Denied, "read-only"},
	} {
		_, _, err := c.l.Set("/cove/id", c.r)
		if err == nil || !cove.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want kind %d and %q", err, c.kind, c.want)
		}
	}
	for _, path := range []string{"cove", "/", "/a/../b", "/a//b", "/a/", "/a\nb"} {
		if _, _, err := v2().Set(path, nil); !cove.Is(err, cove.Invalid) {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestWeight(t *testing.T) {
	for shares, want := range map[uint64]uint64{0: 0, 1: 1, 2: 1, 1024: 100, 2048: 174, 262143: 10000, 262144: 10000, 1 << 40: 10000} {
		if got := Weight(shares); got != want {
			t.Errorf("%d shares: weight %d, want %d", shares, got, want)
		}
	}
}
