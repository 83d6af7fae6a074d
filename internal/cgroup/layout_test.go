package cgroup

import (
	"fmt"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	const noise = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n23 22 0:5 / /a\\040b rw - tmpfs cgroup rw\n"
	for name, c := range map[string]struct {
		mounts, membership string
		want               string
	}{
		"pure": {"30 22 0:27 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n", "0::/user.slice/x\n",
			"unified nsdelegate /sys/fs/cgroup root / self /user.slice/x"},
		"pure, as podman's runtimes leave it": {"30 22 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,memory_recursiveprot\n", "0::/\n",
			"unified /sys/fs/cgroup root / self /"},
		"v1": {"31 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpuacct,cpu\n" +
			"32 30 0:29 / /sys/fs/cgroup/systemd rw shared:3 master:1 - cgroup cgroup rw,xattr,name=systemd\n",
			"2:cpu,cpuacct:/\n1:name=systemd:/init.scope\n",
			"cpu,cpuacct=[cpu cpuacct]@/sys/fs/cgroup/cpu,cpuacct systemd=[name=systemd]@/sys/fs/cgroup/systemd"},
		"hybrid, and mounts of somebody's container": {"20 1 0:28 /x /srv/root/sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n" +
			"31 30 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n" +
			"32 30 0:29 /a /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			"2:pids:/\n0::/a/b\n",
			"hybrid /sys/fs/cgroup/unified root /a self /a/b pids=[pids]@/sys/fs/cgroup/pids"},
		"elsewhere": {"20 1 0:28 / /dev/cg\\040x rw - cgroup cgroup rw,pids\n", "2:pids:/\n1:cpu:/\n",
			"cg x=[pids]@/dev/cg x"},
		"nothing": {"", "0::/\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			l, root, self, err := parse(&trickle{noise + c.mounts + noise}, []byte(c.membership))
			if err != nil {
				t.Fatal(err)
			}
			var words []string
			if l.Mount != "" {
				kind := "hybrid"
				if l.Unified {
					kind = "unified"
				}
				if l.NSDelegate {
					kind += " nsdelegate"
				}
				words = append(words, kind, l.Mount, "root", root, "self", self)
			}
			for _, h := range l.Hierarchies {
				words = append(words, fmt.Sprintf("%s=%v@%s", h.Name, h.Controllers, h.Mount))
			}
			if got := strings.Join(words, " "); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// trickle gives a few bytes at a time.
type trickle struct{ rest string }

func (r *trickle) Read(b []byte) (int, error) {
	return strings.NewReader(r.take(min(7, len(b)))).Read(b)
}

func (r *trickle) take(n int) string {
	n = min(n, len(r.rest))
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func TestBeneath(t *testing.T) {
	for _, c := range []struct{ root, at, want string }{
		{"/", "/", "/"}, {"/", "/a/b", "/a/b"}, {"/a", "/a", "/"}, {"/a", "/a/b", "/b"},
		{"/a", "/ab", ""}, {"/", "/../x", ""}, {"/../x", "/", ""},
	} {
		if got, ok := beneath(c.root, c.at); got != c.want || ok != (c.want != "") {
			t.Errorf("%v: %q %v", c, got, ok)
		}
	}
}

func TestSubsystems(t *testing.T) {
	l := v1(true)
	s, _, err := l.Set("/cove/id", nil)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(l.Subsystems(s.Dirs[1:3]))
	want := "[[cpu,cpuacct /sys/fs/cgroup/cpu,cpuacct/cove/id] [cpu /sys/fs/cgroup/cpu,cpuacct/cove/id] " +
		"[cpuacct /sys/fs/cgroup/cpu,cpuacct/cove/id] [cpuset /sys/fs/cgroup/cpuset/cove/id]]"
	if got != want {
		t.Errorf("got %s", got)
	}
	if v2().Subsystems([]string{standard + "/cove/id"}) != nil {
		t.Error("version 2 has subsystems")
	}
}

func TestAvailable(t *testing.T) {
	for name, c := range map[string]struct {
		l    Layout
		want string
	}{
		"v2":       {Layout{Unified: true, Writable: true, Controllers: []string{"pids"}}, "map[devices:true freezer:true pids:true]"},
		"user":     {Layout{Unified: true, Writable: true, Rootless: true}, "map[devices:false freezer:true]"},
		"nothing":  {Layout{Unified: true, Rootless: true}, "map[]"},
		"v1":       {few(), "map[devices:true freezer:true]"},
		"rootless": {Layout{Hierarchies: v1(false).Hierarchies}, "map[]"},
	} {
		if got := fmt.Sprint(c.l.Available()); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}
